//! What calls add up to: of hours and days by everything, of hours by one thing alone.

use std::collections::BTreeMap;

use polygate_store::usage::{CallRow, Filter, GroupBy, HOUR, Totals};
use sqlx::{Database, Encode, QueryBuilder, Type};

use super::facets::{Faces, Facet, FacetKey, of_sums};

const DAY: i64 = 24 * HOUR;

/// What a sum is of: hour or day, key, team, model, provider. Sorted, so that two who add to the same sums do not wait for one another.
pub(crate) type SumKey<'a> = (i64, &'a str, &'a str, &'a str, &'a str);

/// What rows add.
pub(crate) struct Added<'a> {
    pub(crate) hours: BTreeMap<SumKey<'a>, Totals>,
    pub(crate) days: BTreeMap<SumKey<'a>, Totals>,
    pub(crate) facets: BTreeMap<FacetKey<'a>, Totals>,
}

/// A table of sums.
pub(crate) struct Table {
    name: &'static str,
    keys: &'static str,
    sums: &'static [&'static str],
}

pub(crate) const HOURS: Table = Table {
    name: "usage_hours",
    keys: "hour, key_name, team, model, provider",
    sums: SUMS,
};

pub(crate) const DAYS: Table = Table {
    name: "usage_days",
    keys: "day, key_name, team, model, provider",
    sums: SUMS,
};

const FACETS: Table = Table {
    name: "usage_facets",
    keys: "facet, hour, name",
    sums: &SUMS_AND_COUNT,
};

const COUNTS: Table = Table {
    sums: &["kept"],
    ..FACETS
};

const SUMS_AND_COUNT: [&str; 10] = [
    "calls",
    "attempts",
    "errors",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cost",
    "kept",
];

const SUMS: &[&str] = SUMS_AND_COUNT.split_at(9).0;

fn values(sum: &Totals) -> [i64; 9] {
    [
        sum.calls,
        sum.attempts,
        sum.errors,
        sum.input_tokens,
        sum.output_tokens,
        sum.cache_read_tokens,
        sum.cache_write_tokens,
        sum.reasoning_tokens,
        sum.cost_micro_usd,
    ]
}

impl<'a> Added<'a> {
    pub(crate) fn of(rows: &[&'a CallRow]) -> Self {
        let mut added = Self {
            hours: BTreeMap::new(),
            days: BTreeMap::new(),
            facets: BTreeMap::new(),
        };
        for call in rows {
            let totals = call.totals();
            let (hour, key, team) = (call.hour(), &*call.key, &*call.team);
            let (model, provider) = (&*call.label, &*call.provider);
            let of = (hour, key, team, model, provider);
            added.hours.entry(of).or_default().add(&totals);
            for key in Faces::of(call).summed() {
                added.facets.entry(key).or_default().add(&totals);
            }
        }
        for ((hour, key, team, model, provider), sum) in &added.hours {
            let day = hour.div_euclid(DAY) * DAY;
            let of = (day, *key, *team, *model, *provider);
            added.days.entry(of).or_default().add(sum);
        }
        added
    }
}

impl Table {
    fn insert<DB: Database>(&self) -> QueryBuilder<DB> {
        let Self { name, keys, sums } = self;
        QueryBuilder::new(format!("INSERT INTO {name} ({keys}, {}) ", sums.join(", ")))
    }

    fn or_add(&self) -> String {
        let Self { name, keys, sums } = self;
        let sums: Vec<_> = sums
            .iter()
            .map(|sum| format!("{sum} = {name}.{sum} + excluded.{sum}"))
            .collect();
        format!(" ON CONFLICT ({keys}) DO UPDATE SET {}", sums.join(", "))
    }
}

/// Adds to sums of hours or days.
pub(crate) fn add_sums<'a, DB>(
    table: &Table,
    sums: &BTreeMap<SumKey<'a>, Totals>,
) -> QueryBuilder<DB>
where
    DB: Database,
    &'a str: Encode<'a, DB> + Type<DB>,
    i64: Encode<'a, DB> + Type<DB>,
{
    let mut query = table.insert();
    query.push_values(sums, |mut row, (of, sum)| {
        let (began, key, team, model, provider) = *of;
        row.push_bind(began);
        for text in [key, team, model, provider] {
            row.push_bind(text);
        }
        for value in values(sum) {
            row.push_bind(value);
        }
    });
    query.push(table.or_add());
    query
}

/// Adds to sums by one thing.
pub(crate) fn add_facets<'a, DB>(sums: &'a BTreeMap<FacetKey<'a>, Totals>) -> QueryBuilder<DB>
where
    DB: Database,
    &'a str: Encode<'a, DB> + Type<DB>,
    i64: Encode<'a, DB> + Type<DB>,
{
    let mut query = FACETS.insert();
    query.push_values(sums, |mut row, ((facet, hour, name), sum)| {
        row.push_bind(facet.as_str())
            .push_bind(*hour)
            .push_bind(&**name);
        for value in values(sum) {
            row.push_bind(value);
        }
        row.push_bind(sum.calls);
    });
    query.push(FACETS.or_add());
    query
}

/// Adds to counts by one thing.
pub(crate) fn add_counts<'a, DB>(counts: &'a BTreeMap<FacetKey<'a>, i64>) -> QueryBuilder<DB>
where
    DB: Database,
    &'a str: Encode<'a, DB> + Type<DB>,
    i64: Encode<'a, DB> + Type<DB>,
{
    let mut query = COUNTS.insert();
    query.push_values(counts, |mut row, ((facet, hour, name), count)| {
        row.push_bind(facet.as_str())
            .push_bind(*hour)
            .push_bind(&**name)
            .push_bind(*count);
    });
    query.push(COUNTS.or_add());
    query
}

/// A moment's condition on a column of times.
pub(crate) fn within<'a, DB>(
    query: &mut QueryBuilder<DB>,
    column: &str,
    from: Option<i64>,
    until: Option<i64>,
) where
    DB: Database,
    i64: Encode<'a, DB> + Type<DB>,
{
    for (sign, bound) in [(">=", from), ("<", until)] {
        if let Some(bound) = bound {
            query
                .push(format_args!(" AND {column} {sign} "))
                .push_bind(bound);
        }
    }
}

/// The hours of a filter, where it has bounds.
pub(crate) fn hours(of: &Filter) -> (Option<i64>, Option<i64>) {
    let (from, until) = of.hours();
    (of.from.map(|_| from), of.until.map(|_| until))
}

/// The query for sums.
pub(crate) fn select_sums<'a, DB>(of: &'a Filter, by: Option<GroupBy>) -> QueryBuilder<DB>
where
    DB: Database,
    &'a str: Encode<'a, DB> + Type<DB>,
    i64: Encode<'a, DB> + Type<DB>,
{
    let mut things: Vec<(Facet, Option<&str>)> = of_sums(of)
        .into_iter()
        .map(|(facet, name)| (facet, Some(name)))
        .collect();
    if let Some(group) = group(by)
        && things.iter().all(|(facet, _)| *facet != group)
    {
        things.push((group, None));
    }
    match *things {
        [] => of_one(of, by, (Facet::All, None)),
        [thing] => of_one(of, by, thing),
        _ => of_several(of, by),
    }
}

fn group(by: Option<GroupBy>) -> Option<Facet> {
    match by? {
        GroupBy::Key => Some(Facet::Key),
        GroupBy::Team => Some(Facet::Team),
        GroupBy::Model => Some(Facet::Model),
        GroupBy::Provider => Some(Facet::Provider),
        GroupBy::Hour => None,
    }
}

fn column(facet: Facet) -> &'static str {
    match facet {
        Facet::Key => "key_name",
        other => other.as_str(),
    }
}

fn sums_as<DB: Database>(name: &str) -> QueryBuilder<DB> {
    let mut query = QueryBuilder::new("SELECT ");
    query.push(name).push(" AS name");
    for column in SUMS {
        // PostgreSQL sums BIGINT to NUMERIC.
        query.push(format_args!(
            ", CAST(COALESCE(SUM({column}), 0) AS BIGINT) AS {column}"
        ));
    }
    query
}

fn grouped<DB: Database>(mut query: QueryBuilder<DB>, by: Option<GroupBy>) -> QueryBuilder<DB> {
    if by.is_some() {
        query.push(" GROUP BY 1 ORDER BY 1");
    }
    query
}

/// Sums that ask for one thing: of hours by it.
fn of_one<'a, DB>(
    of: &'a Filter,
    by: Option<GroupBy>,
    (facet, name): (Facet, Option<&'a str>),
) -> QueryBuilder<DB>
where
    DB: Database,
    &'a str: Encode<'a, DB> + Type<DB>,
    i64: Encode<'a, DB> + Type<DB>,
{
    let mut query = sums_as(match by {
        None => "''",
        Some(GroupBy::Hour) => "CAST(hour AS TEXT)",
        Some(_) => "name",
    });
    query
        .push(" FROM usage_facets WHERE facet = ")
        .push_bind(facet.as_str());
    let (from, until) = hours(of);
    within(&mut query, "hour", from, until);
    if let Some(name) = name {
        query.push(" AND name = ").push_bind(name);
    }
    grouped(query, by)
}

/// Sums that ask for several things: of days, and of the hours at both ends.
fn of_several<'a, DB>(of: &'a Filter, by: Option<GroupBy>) -> QueryBuilder<DB>
where
    DB: Database,
    &'a str: Encode<'a, DB> + Type<DB>,
    i64: Encode<'a, DB> + Type<DB>,
{
    let mut query = sums_as(match (by, group(by)) {
        (None, _) => "''",
        (_, Some(facet)) => column(facet),
        (_, None) => "CAST(began AS TEXT)",
    });
    let (from, until) = hours(of);
    let first = from.map(|from| from.saturating_add(DAY - 1).div_euclid(DAY) * DAY);
    let last = until.map(|until| until.div_euclid(DAY) * DAY);
    let has_days = first.zip(last).is_none_or(|(first, last)| first < last);
    query.push(" FROM (");
    if by == Some(GroupBy::Hour) || !has_days {
        part(&mut query, (&HOURS, "hour"), of, from, until);
    } else {
        part(&mut query, (&DAYS, "day"), of, first, last);
        for (from, until) in [(from, first), (last, until)] {
            if from.is_some() && until.is_some() {
                query.push(" UNION ALL ");
                part(&mut query, (&HOURS, "hour"), of, from, until);
            }
        }
    }
    query.push(") AS parts");
    grouped(query, by)
}

fn part<'a, DB>(
    query: &mut QueryBuilder<DB>,
    (table, began): (&Table, &str),
    of: &'a Filter,
    from: Option<i64>,
    until: Option<i64>,
) where
    DB: Database,
    &'a str: Encode<'a, DB> + Type<DB>,
    i64: Encode<'a, DB> + Type<DB>,
{
    query.push(format_args!(
        "SELECT {began} AS began, key_name, team, model, provider, {} FROM {} WHERE 1 = 1",
        SUMS.join(", "),
        table.name
    ));
    within(query, began, from, until);
    for (facet, name) in of_sums(of) {
        query
            .push(format_args!(" AND {} = ", column(facet)))
            .push_bind(name);
    }
}
