//! Pages of calls, found by the hours that have such calls, however many there are in all.

use std::borrow::Cow;

use polygate_store::Result;
use polygate_store::usage::{CallFilter, CallList, CallPage, CallSort, HOUR, Order};
use sqlx::{Database, Encode, QueryBuilder, Type};

use super::FoundCall;
use super::facets::{Facet, of_calls, of_sums};
use super::sums::{hours, within};
use crate::error::from_sqlx;
use crate::pool::{SqlStore, reading};

/// Calls that several conditions share are counted so far, one by one.
const COUNTED: i64 = 10_000;

/// Stretches of time of one query.
const STRETCHES: usize = 200;

/// From a moment, before a moment.
type Stretch = (i64, i64);

/// An hour, or what of it is asked for, and how many calls it has.
#[derive(Clone, Copy)]
struct Hour {
    from: i64,
    until: i64,
    calls: i64,
}

impl SqlStore {
    pub(super) async fn listed(&self, of: &CallFilter, page: CallPage) -> Result<CallList> {
        if of.request_id.is_some() {
            let total = self.counted(of, &[], None).await?;
            return Ok(CallList {
                calls: self.paged(of, &[], page).await?,
                total,
                is_exact: true,
            });
        }
        if is_as_said(of) {
            return self.counted_so_far(of, &[], page).await;
        }
        match &*of_calls(of) {
            [(facet, name)] => self.listed_by(of, page, (*facet, name)).await,
            several => self.listed_by_several(of, page, several).await,
        }
    }

    /// What one condition has: its hours say how many there are, and where the page is.
    async fn listed_by(
        &self,
        of: &CallFilter,
        page: CallPage,
        by: (Facet, &str),
    ) -> Result<CallList> {
        let mut hours = self.hours_of(of, by).await?;
        for hour in &mut hours {
            if hour.until - hour.from < HOUR {
                let stretch = (hour.from, hour.until);
                hour.calls = self.counted(of, &[stretch], None).await?;
            }
        }
        let total = hours.iter().map(|hour| hour.calls).sum();
        let (stretches, page) = if page.order.by == CallSort::Started {
            if page.order.ascending {
                hours.reverse();
            }
            located(&hours, page)
        } else {
            (merged(&hours), page)
        };
        let calls = if stretches.is_empty() {
            Vec::new()
        } else {
            self.paged(of, &bounded(stretches), page).await?
        };
        Ok(CallList {
            calls,
            total,
            is_exact: true,
        })
    }

    /// What several conditions share: looked for in the hours of the rarest, and counted so far.
    async fn listed_by_several(
        &self,
        of: &CallFilter,
        page: CallPage,
        by: &[(Facet, Cow<'_, str>)],
    ) -> Result<CallList> {
        let mut rarest: Option<(i64, Vec<Hour>)> = None;
        if of_sums(&of.of).len() > 1 && !self.ever(of).await? {
            rarest = Some((0, Vec::new()));
        }
        for (facet, name) in by {
            if rarest.as_ref().is_some_and(|(calls, _)| *calls == 0) {
                break;
            }
            let hours = self.hours_of(of, (*facet, name)).await?;
            let calls = hours.iter().map(|hour| hour.calls).sum();
            if rarest.as_ref().is_none_or(|(least, _)| calls < *least) {
                rarest = Some((calls, hours));
            }
        }
        let stretches = bounded(merged(&rarest.unwrap_or_default().1));
        if stretches.is_empty() {
            return Ok(CallList {
                is_exact: true,
                ..CallList::default()
            });
        }
        self.counted_so_far(of, &stretches, page).await
    }

    /// A page, and how many there are, counted to a bound.
    async fn counted_so_far(
        &self,
        of: &CallFilter,
        stretches: &[Stretch],
        page: CallPage,
    ) -> Result<CallList> {
        let counted = self.counted(of, stretches, Some(COUNTED + 1)).await?;
        let calls = self.paged(of, stretches, page).await?;
        let seen = i64::from(page.offset) + i64::try_from(calls.len()).unwrap_or(i64::MAX);
        let is_exact = counted <= COUNTED;
        let total = if is_exact || calls.is_empty() {
            counted
        } else {
            counted.max(seen)
        };
        Ok(CallList {
            calls,
            total,
            is_exact,
        })
    }

    /// Whether there ever were calls of this key, team, model and provider together.
    async fn ever(&self, of: &CallFilter) -> Result<bool> {
        let sums = polygate_store::UsageStore::totals(self, &of.of, None).await?;
        Ok(sums.iter().any(|sum| sum.totals.calls > 0))
    }

    /// The hours that have such calls, the last first.
    async fn hours_of(&self, of: &CallFilter, (facet, name): (Facet, &str)) -> Result<Vec<Hour>> {
        let found: Vec<(i64, i64)> = reading!(self, connection => {
            let mut query = QueryBuilder::new("SELECT hour, kept FROM usage_facets WHERE facet = ");
            query.push_bind(facet.as_str()).push(" AND name = ").push_bind(name);
            let (from, until) = hours(&of.of);
            within(&mut query, "hour", from, until);
            query.push(" AND kept > 0 ORDER BY hour DESC");
            query.build_query_as().fetch_all(connection).await
        })
        .map_err(from_sqlx)?;
        let (from, until) = (of.of.from, of.of.until);
        let clipped = |(hour, calls): (i64, i64)| {
            let end = hour.saturating_add(HOUR);
            Hour {
                from: from.map_or(hour, |from| from.max(hour)),
                until: until.map_or(end, |until| until.min(end)),
                calls,
            }
        };
        let hours = found.into_iter().map(clipped);
        Ok(hours.filter(|hour| hour.from < hour.until).collect())
    }

    async fn counted(&self, of: &CallFilter, within: &[Stretch], most: Option<i64>) -> Result<i64> {
        let (count,): (i64,) = reading!(self, connection => {
            let mut query = QueryBuilder::new("SELECT COUNT(*) FROM (SELECT 1 FROM ");
            query.push(table(of));
            where_calls(&mut query, of, within);
            if let Some(most) = most {
                query.push(" LIMIT ").push_bind(most);
            }
            query.push(") AS found");
            query.build_query_as().fetch_one(connection).await
        })
        .map_err(from_sqlx)?;
        Ok(count)
    }

    async fn paged(
        &self,
        of: &CallFilter,
        within: &[Stretch],
        page: CallPage,
    ) -> Result<Vec<polygate_store::usage::CallRow>> {
        let found: Vec<FoundCall> = reading!(self, connection => {
            let mut query = QueryBuilder::new("SELECT calls.* FROM ");
            query.push(table(of));
            where_calls(&mut query, of, within);
            query
                .push(ordered(of, page.order))
                .push(" LIMIT ")
                .push_bind(i64::from(page.limit))
                .push(" OFFSET ")
                .push_bind(i64::from(page.offset));
            query.build_query_as().fetch_all(connection).await
        })
        .map_err(from_sqlx)?;
        Ok(found.into_iter().map(|found| found.0).collect())
    }
}

/// Where a page is: the hours that have it, and how many of their calls are before it.
fn located(hours: &[Hour], page: CallPage) -> (Vec<Stretch>, CallPage) {
    let mut left_out = i64::from(page.offset);
    let mut wanted = i64::from(page.limit);
    let mut having = Vec::new();
    for hour in hours {
        if having.is_empty() && hour.calls <= left_out {
            left_out -= hour.calls;
            continue;
        }
        if having.is_empty() {
            wanted += left_out;
        }
        having.push(*hour);
        wanted -= hour.calls;
        if wanted <= 0 {
            break;
        }
    }
    let page = CallPage {
        offset: u32::try_from(left_out).unwrap_or(u32::MAX),
        ..page
    };
    (merged(&having), page)
}

/// Hours that follow one another, as one stretch.
fn merged(hours: &[Hour]) -> Vec<Stretch> {
    let mut all: Vec<Stretch> = Vec::new();
    for hour in hours {
        match all.last_mut() {
            Some((from, _)) if *from == hour.until => *from = hour.from,
            Some((_, until)) if *until == hour.from => *until = hour.until,
            _ => all.push((hour.from, hour.until)),
        }
    }
    all
}

/// No more stretches than a query should have: else one that has them all.
fn bounded(stretches: Vec<Stretch>) -> Vec<Stretch> {
    if stretches.len() <= STRETCHES {
        return stretches;
    }
    let from = stretches.iter().map(|(from, _)| *from).min();
    let until = stretches.iter().map(|(_, until)| *until).max();
    from.zip(until).into_iter().collect()
}

/// They are looked for by what callers say, by whether the cache had their answers, or by whether they are shadows: for that there are
/// indexes, and no counts.
fn is_as_said(of: &CallFilter) -> bool {
    let by_kind = of.cached.is_some() || of.shadow.is_some();
    of.end_user.is_some() || of.session.is_some() || of.tag.is_some() || by_kind
}

/// Where they are found. By a tag they are found in the order of time, as all calls are.
fn table(of: &CallFilter) -> &'static str {
    match of.tag {
        Some(_) => "call_tags JOIN calls ON id = call_id",
        None => "calls",
    }
}

/// The columns that say when a call began, and which it is.
fn moment(of: &CallFilter) -> (&'static str, &'static str) {
    match of.tag {
        Some(_) => ("tagged", "call_id"),
        None => ("started", "id"),
    }
}

/// The conditions on calls.
fn where_calls<'a, DB>(query: &mut QueryBuilder<DB>, of: &'a CallFilter, stretches: &[Stretch])
where
    DB: Database,
    &'a str: Encode<'a, DB> + Type<DB>,
    i64: Encode<'a, DB> + Type<DB>,
{
    query.push(" WHERE 1 = 1");
    if stretches.is_empty() {
        within(query, moment(of).0, of.of.from, of.of.until);
    }
    for (index, (from, until)) in stretches.iter().enumerate() {
        query.push(if index == 0 { " AND (" } else { " OR " });
        query.push("(started >= ").push_bind(*from);
        query.push(" AND started < ").push_bind(*until).push(")");
    }
    if !stretches.is_empty() {
        query.push(")");
    }
    let numbers = [
        (" AND status = ", of.status.map(i64::from)),
        (" AND stream = ", of.stream.map(i64::from)),
    ];
    for (condition, wanted) in numbers {
        if let Some(wanted) = wanted {
            query.push(condition).push_bind(wanted);
        }
    }
    if of.status.is_some_and(|status| status != 200) {
        // As their index says it.
        query.push(" AND status <> 200");
    }
    let texts = [
        (" AND key_name = ", &of.of.key),
        (" AND team = ", &of.of.team),
        (" AND label = ", &of.of.model),
        (" AND provider = ", &of.of.provider),
        (" AND request_id = ", &of.request_id),
        (" AND end_user = ", &of.end_user),
        (" AND session = ", &of.session),
        (" AND tag = ", &of.tag),
    ];
    for (condition, wanted) in texts {
        if let Some(wanted) = wanted {
            query.push(condition).push_bind(&**wanted);
        }
    }
    if let Some(named) = &of.named {
        for condition in [" AND (label = ", " OR model = ", " OR upstream_model = "] {
            query.push(condition).push_bind(&**named);
        }
        query.push(")");
    }
    match of.cached {
        Some(true) => drop(query.push(" AND cached IS NOT NULL")),
        Some(false) => drop(query.push(" AND cached IS NULL")),
        None => {}
    }
    if let Some(shadow) = of.shadow {
        let condition = match shadow {
            true => " AND shadow_of IS NOT NULL",
            false => " AND shadow_of IS NULL",
        };
        query.push(condition);
    }
    if of.errors {
        query.push(" AND error IS NOT NULL");
    }
}

/// How calls are sorted.
fn ordered(of: &CallFilter, order: Order) -> String {
    let (started, id) = moment(of);
    let column = match order.by {
        CallSort::Started => started,
        CallSort::Status => "status",
        CallSort::Duration => "duration",
        CallSort::Cost => "cost",
    };
    let direction = if order.ascending { "ASC" } else { "DESC" };
    format!(" ORDER BY {column} {direction}, {started} DESC, {id} DESC")
}
