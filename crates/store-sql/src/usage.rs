//! The ledger: rows of calls and attempts, and the sums of their hours.

mod facets;
mod list;
mod sums;
mod tags;

use async_trait::async_trait;
use polygate_store::usage::{
    AttemptRow, CallFilter, CallList, CallPage, CallRow, Filter, Group, GroupBy, State, Totals,
};
use polygate_store::{Result, StoreError, UsageStore};
use sqlx::{Database, Encode, FromRow, QueryBuilder, Row, Type};

use self::facets::{COUNTED, Faces, count};
use self::sums::{Added, DAYS, HOURS, add_counts, add_facets, add_sums, select_sums};
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
            end_user: maybe("end_user")?,
            session: maybe("session")?,
            metadata: maybe("metadata")?,
            passed_over: maybe("passed_over")?,
            cached: maybe("cached")?,
            saved: maybe("saved")?.map(|text| tokens(&text)).transpose()?,
            decision: maybe("decision")?,
            shadow_of: maybe("shadow_of")?,
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
            started: number("started")?,
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

/// What a call was counted by: when it began, key, team, provider, the model's three names, status, stream, whether it failed.
type FoundFaces = (
    i64,
    String,
    String,
    String,
    String,
    String,
    String,
    i64,
    i64,
    i64,
);

const FACES: &str = " RETURNING started, key_name, team, provider, model, label, upstream_model, status, stream, \
    CAST(CASE WHEN error IS NULL THEN 0 ELSE 1 END AS BIGINT)";

fn faces(found: &FoundFaces) -> Faces<'_> {
    let (started, key, team, provider, model, label, upstream_model, status, stream, failed) =
        found;
    Faces {
        started: *started,
        key,
        team,
        provider,
        model,
        label,
        upstream_model,
        status: *status,
        stream: *stream,
        failed: *failed != 0,
    }
}

/// A statement about these ids.
fn these<'a, DB>(before: &str, ids: &'a [String], after: &str) -> QueryBuilder<DB>
where
    DB: Database,
    &'a str: Encode<'a, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new(before);
    let mut list = query.separated(", ");
    for id in ids {
        list.push_bind(&**id);
    }
    query.push(")").push(after);
    query
}

/// Rows of one statement: databases bound how many values it may have.
const ROWS: usize = 500;

const CALL_COLUMNS: &str = "INSERT INTO calls (id, request_id, started, duration, first_event, endpoint, key_name, team, model, label, \
    provider, credential, upstream_model, client, stream, status, outcome, error, state, tokens, cost, price, losses, tags, \
    end_user, session, metadata, passed_over, cached, saved, decision, shadow_of) ";

const ATTEMPT_COLUMNS: &str = "INSERT INTO attempts (call_id, number, provider, credential, model, outcome, status, duration, state, \
    tokens, cost, started) ";

fn insert_calls<'a, DB>(calls: &'a [CallRow]) -> Result<QueryBuilder<DB>>
where
    DB: Database,
    String: Encode<'a, DB> + Type<DB>,
    &'a str: Encode<'a, DB> + Type<DB>,
    Option<&'a str>: Encode<'a, DB> + Type<DB>,
    Option<String>: Encode<'a, DB> + Type<DB>,
    i64: Encode<'a, DB> + Type<DB>,
    Option<i64>: Encode<'a, DB> + Type<DB>,
{
    let tokens: Vec<String> = calls
        .iter()
        .map(|call| json(&call.usage))
        .collect::<Result<_>>()?;
    let saved = calls
        .iter()
        .map(|call| call.saved.as_ref().map(json).transpose());
    let saved: Vec<Option<String>> = saved.collect::<Result<_>>()?;
    let texts = tokens.into_iter().zip(saved);
    let mut query = QueryBuilder::new(CALL_COLUMNS);
    query.push_values(
        calls.iter().zip(texts),
        |mut row, (call, (tokens, saved))| {
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
                .push_bind(call.tags.as_deref())
                .push_bind(call.end_user.as_deref())
                .push_bind(call.session.as_deref())
                .push_bind(call.metadata.as_deref())
                .push_bind(call.passed_over.as_deref())
                .push_bind(call.cached.as_deref())
                .push_bind(saved)
                .push_bind(call.decision.as_deref())
                .push_bind(call.shadow_of.as_deref());
        },
    );
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
            .push_bind(attempt.cost)
            .push_bind(attempt.started);
    });
    Ok(query)
}

/// Forgets these calls, and counts them no more; how many there were. The same for both databases.
macro_rules! forgotten {
    ($transaction:expr, $ids:expr) => {{
        let mut forgotten = 0;
        for ids in $ids.chunks(ROWS) {
            for parts in ["attempts", "call_tags"] {
                let text = format!("DELETE FROM {parts} WHERE call_id IN (");
                these(&text, ids, "")
                    .build()
                    .execute(&mut *$transaction)
                    .await
                    .map_err(from_sqlx)?;
            }
            let gone: Vec<FoundFaces> = these("DELETE FROM calls WHERE id IN (", ids, FACES)
                .build_query_as()
                .fetch_all(&mut *$transaction)
                .await
                .map_err(from_sqlx)?;
            forgotten += gone.len() as u64;
            let faces = gone.iter().map(faces);
            let less = count(faces.flat_map(|faces| faces.all()), -1);
            let hours = less.keys().map(|(_, hour, _)| *hour);
            let Some((first, last)) = hours.clone().min().zip(hours.max()) else {
                continue;
            };
            add_counts(&less)
                .build()
                .execute(&mut *$transaction)
                .await
                .map_err(from_sqlx)?;
            let text = format!(
                "DELETE FROM usage_facets WHERE facet IN {COUNTED} AND hour >= $1 AND hour <= $2 AND kept = 0"
            );
            sqlx::query(sqlx::AssertSqlSafe(text))
                .bind(first)
                .bind(last)
                .execute(&mut *$transaction)
                .await
                .map_err(from_sqlx)?;
        }
        forgotten
    }};
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

    async fn calls(&self, of: &CallFilter, page: CallPage) -> Result<CallList> {
        self.listed(of, page).await
    }

    async fn call(&self, id: &str, team: Option<&str>) -> Result<Option<CallRow>> {
        let found: Option<FoundCall> = reading!(self, connection => {
            sqlx::query_as(
                "SELECT * FROM calls WHERE (id = $1 OR request_id = $1) AND team = COALESCE($2, team)
                 ORDER BY CASE WHEN id = $1 THEN 0 ELSE 1 END, started DESC, id DESC LIMIT 1",
            )
            .bind(id)
            .bind(team)
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
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        writing!(self, transaction => forgotten!(transaction, &ids))
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
            let ids: Vec<String> = old.into_iter().map(|(id,)| id).collect();
            forgotten!(transaction, &ids)
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
        for tagged in tags::tagged(rows).chunks(ROWS) {
            tags::insert(tagged)
                .build()
                .execute(&mut *$transaction)
                .await
                .map_err(of_row)?;
        }
        if !rows.is_empty() {
            let added = Added::of(rows);
            let counted = count(rows.iter().flat_map(|call| Faces::of(call).counted()), 1);
            for sums in [
                add_sums(&HOURS, &added.hours),
                add_sums(&DAYS, &added.days),
                add_facets(&added.facets),
                add_counts(&counted),
            ] {
                let mut sums = sums;
                sums.build()
                    .execute(&mut *$transaction)
                    .await
                    .map_err(of_row)?;
            }
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
