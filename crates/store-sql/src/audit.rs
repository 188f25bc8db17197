//! Who did what.

use async_trait::async_trait;
use polygate_store::Result;
use polygate_store::audit::{AuditStore, Entry, Event, EventFilter};
use sqlx::QueryBuilder;

use crate::error::from_sqlx;
use crate::pool::{SqlStore, reading, writing};

/// An entry's columns.
type EntryRow = (i64, i64, String, String, String, String, Option<i64>);

/// Adds an event in a transaction; its number.
macro_rules! audited {
    ($transaction:expr, $event:expr) => {{
        let event: &polygate_store::audit::Event = $event;
        let (number,): (i64,) = sqlx::query_as(
            "UPDATE config_state SET audited = audited + 1 WHERE one = 1 RETURNING audited",
        )
        .fetch_one(&mut *$transaction)
        .await
        .map_err($crate::error::from_sqlx)?;
        sqlx::query(
            "INSERT INTO audit (number, happened, actor, action, outcome, subject, version)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(number)
        .bind(event.at)
        .bind(&event.actor)
        .bind(&event.action)
        .bind(&event.outcome)
        .bind(&event.subject)
        .bind(event.version)
        .execute(&mut *$transaction)
        .await
        .map_err($crate::error::from_sqlx)?;
        number
    }};
}

pub(crate) use audited;

#[async_trait]
impl AuditStore for SqlStore {
    async fn add(&self, event: &Event) -> Result<i64> {
        writing!(self, transaction => audited!(transaction, event))
    }

    async fn entries(&self, of: &EventFilter, before: i64, limit: u32) -> Result<Vec<Entry>> {
        let found: Vec<EntryRow> = reading!(self, connection => {
            let mut query = QueryBuilder::new(
                "SELECT number, happened, actor, action, outcome, subject, version FROM audit WHERE number < ",
            );
            query.push_bind(before);
            for (column, start) in [("actor", &of.actor), ("action", &of.action)] {
                if let Some(start) = start {
                    query.push(format_args!(" AND substr({column}, 1, length("));
                    query.push_bind(&**start).push(")) = ").push_bind(&**start);
                }
            }
            for (sign, bound) in [(">=", of.since), ("<", of.until)] {
                if let Some(bound) = bound {
                    query.push(format_args!(" AND happened {sign} ")).push_bind(bound);
                }
            }
            query.push(" ORDER BY number DESC LIMIT ").push_bind(i64::from(limit));
            query.build_query_as().fetch_all(connection).await
        })
        .map_err(from_sqlx)?;
        let entry = |(number, at, actor, action, outcome, subject, version)| Entry {
            number,
            event: Event {
                at,
                actor,
                action,
                outcome,
                subject,
                version,
            },
        };
        Ok(found.into_iter().map(entry).collect())
    }

    async fn forget_entries(&self, before: i64, limit: u32) -> Result<u64> {
        writing!(self, transaction => {
            let done = sqlx::query(
                "DELETE FROM audit WHERE number IN
                 (SELECT number FROM audit WHERE happened < $1 ORDER BY happened, number LIMIT $2)",
            )
            .bind(before)
            .bind(i64::from(limit))
            .execute(&mut *transaction)
            .await
            .map_err(from_sqlx)?;
            done.rows_affected()
        })
    }
}
