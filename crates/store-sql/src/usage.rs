//! The ledger: rows of calls and attempts, and the sums of their hours.

use std::collections::BTreeMap;

use async_trait::async_trait;
use polygate_store::usage::{
    AttemptRow, CallFilter, CallPage, CallRow, CallSort, Filter, Group, GroupBy, Order, State,
    Totals,
};
use polygate_store::{Result, StoreError, UsageStore};
use sqlx::{Database, Encode, FromRow, QueryBuilder, Row, Type};

use crate::error::{from_sqlx, of_row};
use crate::pool::{SqlStore, number, reading, writing};

/// A call's columns. Its attempts are rows of their own.
struct FoundCall(CallRow);

/// An attempt's columns.
struct FoundAttempt(AttemptRow);

/// A group's columns.
struct FoundGroup(Group);

impl<'r, R> FromRow<'r, R> for FoundCall
where
    R: Row,
    &'r str: sqlx::ColumnIndex<R>,
    String: sqlx::Decode<'r, R::Database> + Type<R::Database>,
    i64: sqlx::Decode<'r, R::Database> + Type<R::Database>,
    Option<String>: sqlx::Decode<'r, R::Database> + Type<R::Database>,
    Option<i64>: sqlx::Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> std::result::Result<Self, sqlx::Error> {
        let text = |column: &'r str| row.try_get::<String, _>(column);
        let number = |column: &'r str| row.try_get::<i64, _>(column);
        let maybe = |column: &'r str| row.try_get::<Option<String>, _>(column);
        Ok(Self(CallRow {
            id: text("id")?,
            request_id: text("request_id")?,
            started: number("started")?,
            duration: number("duration")?,
            first_event: row.try_get("first_event")?,
            endpoint: text("endpoint")?,
            key: text("key_name")?,
            team: text("team")?,
            model: text("model")?,
            label: text("label")?,
            provider: text("provider")?,
            credential: text("credential")?,
            upstream_model: text("upstream_model")?,
            client: text("client")?,
            stream: number("stream")? != 0,
            status: status(number("status")?)?,
            outcome: text("outcome")?,
            error: maybe("error")?,
            state: state(&text("state")?)?,
            usage: tokens(&text("tokens")?)?,
            cost: number("cost")?,
            price: maybe("price")?,
            losses: maybe("losses")?,
            tags: maybe("tags")?,
            attempts: Vec::new(),
        }))
    }
}

impl<'r, R> FromRow<'r, R> for FoundAttempt
where
    R: Row,
    &'r str: sqlx::ColumnIndex<R>,
    String: sqlx::Decode<'r, R::Database> + Type<R::Database>,
    i64: sqlx::Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> std::result::Result<Self, sqlx::Error> {
        let text = |column: &'r str| row.try_get::<String, _>(column);
        let number = |column: &'r str| row.try_get::<i64, _>(column);
        Ok(Self(AttemptRow {
            provider: text("provider")?,
            credential: text("credential")?,
            model: text("model")?,
            outcome: text("outcome")?,
            status: status(number("status")?)?,
            duration: number("duration")?,
            state: state(&text("state")?)?,
            usage: tokens(&text("tokens")?)?,
            cost: number("cost")?,
        }))
    }
}

impl<'r, R> FromRow<'r, R> for FoundGroup
where
    R: Row,
    &'r str: sqlx::ColumnIndex<R>,
    String: sqlx::Decode<'r, R::Database> + Type<R::Database>,
    i64: sqlx::Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> std::result::Result<Self, sqlx::Error> {
        let number = |column: &'r str| row.try_get::<i64, _>(column);
        Ok(Self(Group {
            name: row.try_get("name")?,
            totals: Totals {
                calls: number("calls")?,
                attempts: number("attempts")?,
                errors: number("errors")?,
                input_tokens: number("input_tokens")?,
                output_tokens: number("output_tokens")?,
                cache_read_tokens: number("cache_read_tokens")?,
                cache_write_tokens: number("cache_write_tokens")?,
                reasoning_tokens: number("reasoning_tokens")?,
                cost_micro_usd: number("cost")?,
            },
        }))
    }
}

fn state(word: &str) -> std::result::Result<State, sqlx::Error> {
    State::named(word)
        .ok_or_else(|| sqlx::Error::Decode(format!("'{word}' is no state of a call").into()))
}

fn status(number: i64) -> std::result::Result<i32, sqlx::Error> {
    i32::try_from(number).map_err(|error| sqlx::Error::Decode(error.into()))
}

fn tokens(text: &str) -> std::result::Result<polygate_core::Usage, sqlx::Error> {
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(error.into()))
}

fn json(usage: &polygate_core::Usage) -> Result<String> {
    serde_json::to_string(usage).map_err(|error| StoreError::Refused(error.to_string()))
}

/// Rows of one statement: databases bound how many values it may have.
const ROWS: usize = 500;

const CALL_COLUMNS: &str = "INSERT INTO calls (id, request_id, started, duration, first_event, endpoint, key_name, team, model, label, \
    provider, credential, upstream_model, client, stream, status, outcome, error, state, tokens, cost, price, losses, tags) ";

const ATTEMPT_COLUMNS: &str = "INSERT INTO attempts (call_id, number, provider, credential, model, outcome, status, duration, state, \
    tokens, cost) ";

const SUM_COLUMNS: &str = "INSERT INTO usage_hours (hour, key_name, team, model, provider, calls, attempts, errors, input_tokens, \
    output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, cost) ";

const SUM_UPDATE: &str = " ON CONFLICT (hour, key_name, team, model, provider) DO UPDATE SET \
    calls = usage_hours.calls + excluded.calls, attempts = usage_hours.attempts + excluded.attempts, \
    errors = usage_hours.errors + excluded.errors, input_tokens = usage_hours.input_tokens + excluded.input_tokens, \
    output_tokens = usage_hours.output_tokens + excluded.output_tokens, \
    cache_read_tokens = usage_hours.cache_read_tokens + excluded.cache_read_tokens, \
    cache_write_tokens = usage_hours.cache_write_tokens + excluded.cache_write_tokens, \
    reasoning_tokens = usage_hours.reasoning_tokens + excluded.reasoning_tokens, cost = usage_hours.cost + excluded.cost";

/// What a sum is of: hour, key, team, model, provider. Sorted, so that two who add to the same sums do not wait for one another.
type SumKey<'a> = (i64, &'a str, &'a str, &'a str, &'a str);

fn insert_calls<'a, DB>(calls: &'a [CallRow]) -> Result<QueryBuilder<DB>>
where
    DB: Database,
    String: Encode<'a, DB> + Type<DB>,
    &'a str: Encode<'a, DB> + Type<DB>,
    Option<&'a str>: Encode<'a, DB> + Type<DB>,
    i64: Encode<'a, DB> + Type<DB>,
    Option<i64>: Encode<'a, DB> + Type<DB>,
{
    let tokens: Vec<String> = calls
        .iter()
        .map(|call| json(&call.usage))
        .collect::<Result<_>>()?;
    let mut query = QueryBuilder::new(CALL_COLUMNS);
    query.push_values(calls.iter().zip(tokens), |mut row, (call, tokens)| {
        row.push_bind(&*call.id)
            .push_bind(&*call.request_id)
            .push_bind(call.started)
            .push_bind(call.duration)
            .push_bind(call.first_event)
            .push_bind(&*call.endpoint)
            .push_bind(&*call.key)
            .push_bind(&*call.team)
            .push_bind(&*call.model)
            .push_bind(&*call.label)
            .push_bind(&*call.provider)
            .push_bind(&*call.credential)
            .push_bind(&*call.upstream_model)
            .push_bind(&*call.client)
            .push_bind(i64::from(call.stream))
            .push_bind(i64::from(call.status))
            .push_bind(&*call.outcome)
            .push_bind(call.error.as_deref())
            .push_bind(call.state.as_str())
            .push_bind(tokens)
            .push_bind(call.cost)
            .push_bind(call.price.as_deref())
            .push_bind(call.losses.as_deref())
            .push_bind(call.tags.as_deref());
    });
    query.push(" ON CONFLICT (id) DO NOTHING");
    Ok(query)
}

fn insert_attempts<'a, DB>(attempts: &[(&'a str, i64, &'a AttemptRow)]) -> Result<QueryBuilder<DB>>
where
    DB: Database,
    String: Encode<'a, DB> + Type<DB>,
    &'a str: Encode<'a, DB> + Type<DB>,
    i64: Encode<'a, DB> + Type<DB>,
{
    let tokens: Vec<String> = attempts
        .iter()
        .map(|(_, _, attempt)| json(&attempt.usage))
        .collect::<Result<_>>()?;
    let mut query = QueryBuilder::new(ATTEMPT_COLUMNS);
    let rows = attempts.iter().copied().zip(tokens);
    query.push_values(rows, |mut row, ((call, number, attempt), tokens)| {
        row.push_bind(call)
            .push_bind(number)
            .push_bind(&*attempt.provider)
            .push_bind(&*attempt.credential)
            .push_bind(&*attempt.model)
            .push_bind(&*attempt.outcome)
            .push_bind(i64::from(attempt.status))
            .push_bind(attempt.duration)
            .push_bind(attempt.state.as_str())
            .push_bind(tokens)
            .push_bind(attempt.cost);
    });
    Ok(query)
}

fn add_sums<'a, DB>(sums: &BTreeMap<SumKey<'a>, Totals>) -> QueryBuilder<DB>
where
    DB: Database,
    &'a str: Encode<'a, DB> + Type<DB>,
    i64: Encode<'a, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new(SUM_COLUMNS);
    query.push_values(
        sums,
        |mut row, ((hour, key, team, model, provider), sum)| {
            row.push_bind(*hour)
                .push_bind(*key)
                .push_bind(*team)
                .push_bind(*model)
                .push_bind(*provider)
                .push_bind(sum.calls)
                .push_bind(sum.attempts)
                .push_bind(sum.errors)
                .push_bind(sum.input_tokens)
                .push_bind(sum.output_tokens)
                .push_bind(sum.cache_read_tokens)
                .push_bind(sum.cache_write_tokens)
                .push_bind(sum.reasoning_tokens)
                .push_bind(sum.cost_micro_usd);
        },
    );
    query.push(SUM_UPDATE);
    query
}

/// The conditions on calls.
fn where_calls<'a, DB>(query: &mut QueryBuilder<DB>, of: &'a CallFilter)
where
    DB: Database,
    &'a str: Encode<'a, DB> + Type<DB>,
    i64: Encode<'a, DB> + Type<DB>,
{
    query.push(" WHERE 1 = 1");
    let numbers = [
        (" AND started >= ", of.of.from),
        (" AND started < ", of.of.until),
        (" AND status = ", of.status.map(i64::from)),
        (" AND stream = ", of.stream.map(i64::from)),
    ];
    for (condition, wanted) in numbers {
        if let Some(wanted) = wanted {
            query.push(condition).push_bind(wanted);
        }
    }
    let texts = [
        (" AND key_name = ", &of.of.key),
        (" AND team = ", &of.of.team),
        (" AND label = ", &of.of.model),
        (" AND provider = ", &of.of.provider),
        (" AND request_id = ", &of.request_id),
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
    if of.errors {
        query.push(" AND error IS NOT NULL");
    }
}

/// How calls are sorted.
fn ordered(order: Order) -> String {
    let column = match order.by {
        CallSort::Started => "started",
        CallSort::Status => "status",
        CallSort::Duration => "duration",
        CallSort::Cost => "cost",
    };
    let direction = if order.ascending { "ASC" } else { "DESC" };
    format!(" ORDER BY {column} {direction}, started DESC, id DESC")
}

/// The query for sums.
fn select_sums<'a, DB>(of: &'a Filter, by: Option<GroupBy>) -> QueryBuilder<DB>
where
    DB: Database,
    &'a str: Encode<'a, DB> + Type<DB>,
    i64: Encode<'a, DB> + Type<DB>,
{
    let name = match by {
        None => "''",
        Some(GroupBy::Key) => "key_name",
        Some(GroupBy::Team) => "team",
        Some(GroupBy::Model) => "model",
        Some(GroupBy::Provider) => "provider",
        Some(GroupBy::Hour) => "CAST(hour AS TEXT)",
    };
    let mut query = QueryBuilder::new("SELECT ");
    query.push(name).push(" AS name");
    for column in [
        "calls",
        "attempts",
        "errors",
        "input_tokens",
        "output_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "reasoning_tokens",
        "cost",
    ] {
        // PostgreSQL sums BIGINT to NUMERIC.
        query.push(format_args!(
            ", CAST(COALESCE(SUM({column}), 0) AS BIGINT) AS {column}"
        ));
    }
    let (from, until) = of.hours();
    query
        .push(" FROM usage_hours WHERE hour >= ")
        .push_bind(from)
        .push(" AND hour < ")
        .push_bind(until);
    let texts = [
        (" AND key_name = ", &of.key),
        (" AND team = ", &of.team),
        (" AND model = ", &of.model),
        (" AND provider = ", &of.provider),
    ];
    for (condition, wanted) in texts {
        if let Some(wanted) = wanted {
            query.push(condition).push_bind(&**wanted);
        }
    }
    if by.is_some() {
        query.push(" GROUP BY 1 ORDER BY 1");
    }
    query
}

#[async_trait]
impl UsageStore for SqlStore {
    async fn record(&self, calls: &[CallRow]) -> Result<u64> {
        let mut new = 0;
        for calls in calls.chunks(ROWS) {
            new += self.record_some(calls).await?;
        }
        Ok(new)
    }

    async fn totals(&self, of: &Filter, by: Option<GroupBy>) -> Result<Vec<Group>> {
        let found: Vec<FoundGroup> = reading!(self, connection => {
            select_sums(of, by).build_query_as().fetch_all(connection).await
        })
        .map_err(from_sqlx)?;
        Ok(found.into_iter().map(|found| found.0).collect())
    }

    async fn calls(&self, of: &CallFilter, page: CallPage) -> Result<(Vec<CallRow>, i64)> {
        let found: Vec<FoundCall> = reading!(self, connection => {
            let mut query = QueryBuilder::new("SELECT * FROM calls");
            where_calls(&mut query, of);
            query
                .push(ordered(page.order))
                .push(" LIMIT ")
                .push_bind(i64::from(page.limit))
                .push(" OFFSET ")
                .push_bind(i64::from(page.offset));
            query.build_query_as().fetch_all(connection).await
        })
        .map_err(from_sqlx)?;
        let (count,): (i64,) = reading!(self, connection => {
            let mut query = QueryBuilder::new("SELECT COUNT(*) FROM calls");
            where_calls(&mut query, of);
            query.build_query_as().fetch_one(connection).await
        })
        .map_err(from_sqlx)?;
        Ok((found.into_iter().map(|found| found.0).collect(), count))
    }

    async fn call(&self, id: &str) -> Result<Option<CallRow>> {
        let found: Option<FoundCall> = reading!(self, connection => {
            sqlx::query_as(
                "SELECT * FROM calls WHERE id = $1 OR request_id = $1
                 ORDER BY CASE WHEN id = $1 THEN 0 ELSE 1 END, started DESC, id DESC LIMIT 1",
            )
            .bind(id)
            .fetch_optional(connection)
            .await
        })
        .map_err(from_sqlx)?;
        let Some(FoundCall(mut call)) = found else {
            return Ok(None);
        };
        let attempts: Vec<FoundAttempt> = reading!(self, connection => {
            sqlx::query_as("SELECT * FROM attempts WHERE call_id = $1 ORDER BY number")
                .bind(&call.id)
                .fetch_all(connection)
                .await
        })
        .map_err(from_sqlx)?;
        call.attempts = attempts.into_iter().map(|found| found.0).collect();
        Ok(Some(call))
    }

    async fn forget_calls(&self, ids: &[String]) -> Result<u64> {
        writing!(self, transaction => {
            let mut forgotten = 0;
            for id in ids {
                sqlx::query("DELETE FROM attempts WHERE call_id = $1")
                    .bind(id)
                    .execute(&mut *transaction)
                    .await
                    .map_err(from_sqlx)?;
                let done = sqlx::query("DELETE FROM calls WHERE id = $1")
                    .bind(id)
                    .execute(&mut *transaction)
                    .await
                    .map_err(from_sqlx)?;
                forgotten += done.rows_affected();
            }
            forgotten
        })
    }

    async fn forget_calls_before(&self, before: i64, limit: u32) -> Result<u64> {
        writing!(self, transaction => {
            let old: Vec<(String,)> = sqlx::query_as(
                "SELECT id FROM calls WHERE started < $1 ORDER BY started, id LIMIT $2",
            )
            .bind(before)
            .bind(i64::from(limit))
            .fetch_all(&mut *transaction)
            .await
            .map_err(from_sqlx)?;
            for table in ["DELETE FROM attempts WHERE call_id IN (", "DELETE FROM calls WHERE id IN ("] {
                for ids in old.chunks(ROWS) {
                    let mut query = QueryBuilder::new(table);
                    let mut list = query.separated(", ");
                    for (id,) in ids {
                        list.push_bind(&**id);
                    }
                    query.push(")");
                    query.build().execute(&mut *transaction).await.map_err(from_sqlx)?;
                }
            }
            old.len() as u64
        })
    }
}

/// Keeps what belongs to calls that were new: the same for both databases.
macro_rules! added {
    ($transaction:expr, $rows:expr) => {{
        let rows: &[&CallRow] = $rows;
        let attempts: Vec<_> = rows
            .iter()
            .flat_map(|call| {
                let attempts = call.attempts.iter().enumerate();
                attempts.map(|(index, attempt)| (&*call.id, number(index), attempt))
            })
            .collect();
        for attempts in attempts.chunks(ROWS) {
            insert_attempts(attempts)?
                .build()
                .execute(&mut *$transaction)
                .await
                .map_err(of_row)?;
        }
        let sums = sums_of(rows);
        if !sums.is_empty() {
            add_sums(&sums)
                .build()
                .execute(&mut *$transaction)
                .await
                .map_err(of_row)?;
        }
        number(rows.len()).unsigned_abs()
    }};
}

impl SqlStore {
    /// As a rule all are new, which their number shows: to be told of each is dear.
    async fn record_some(&self, calls: &[CallRow]) -> Result<u64> {
        writing!(self, transaction => {
            let inserted = insert_calls(calls)?
                .build()
                .execute(&mut *transaction)
                .await
                .map_err(of_row)?
                .rows_affected();
            if inserted < calls.len() as u64 {
                transaction.rollback().await.map_err(from_sqlx)?;
                return self.record_new(calls).await;
            }
            let rows: Vec<&CallRow> = calls.iter().collect();
            added!(transaction, &rows)
        })
    }

    /// Those of them that are not there yet.
    async fn record_new(&self, calls: &[CallRow]) -> Result<u64> {
        writing!(self, transaction => {
            let new: Vec<(String,)> = insert_calls(calls)?
                .push(" RETURNING id")
                .build_query_as()
                .fetch_all(&mut *transaction)
                .await
                .map_err(of_row)?;
            let new: Vec<String> = new.into_iter().map(|(id,)| id).collect();
            added!(transaction, &new_rows(calls, &new))
        })
    }
}

/// The rows of these ids, each once.
fn new_rows<'a>(calls: &'a [CallRow], new: &[String]) -> Vec<&'a CallRow> {
    let mut new: std::collections::HashSet<&str> = new.iter().map(|id| &**id).collect();
    let rows = calls.iter();
    rows.filter(|call| new.remove(&*call.id)).collect()
}

fn sums_of<'a>(rows: &[&'a CallRow]) -> BTreeMap<SumKey<'a>, Totals> {
    let mut sums: BTreeMap<SumKey<'a>, Totals> = BTreeMap::new();
    for call in rows {
        let key = (
            call.hour(),
            &*call.key,
            &*call.team,
            &*call.label,
            &*call.provider,
        );
        sums.entry(key).or_default().add(&call.totals());
    }
    sums
}
