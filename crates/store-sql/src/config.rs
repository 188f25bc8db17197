//! Documents, versions, changes.

use async_trait::async_trait;
use polygate_store::audit::{Event, subject};
use polygate_store::config::{
    Change, ConfigStore, Document, Documents, Kind, Page, Put, Version, Write,
};
use polygate_store::{Result, StoreError};
use sqlx::{FromRow, Row};
use tokio::sync::watch;

use crate::audit::audited;
use crate::error::from_sqlx;
use crate::notices::CHANNEL;
use crate::pool::{Pool, SqlStore, corrupt, reading, writing};

/// A document's columns.
struct Found(Document);

impl<'r, R> FromRow<'r, R> for Found
where
    R: Row,
    &'r str: sqlx::ColumnIndex<R>,
    String: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    i64: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
{
    fn from_row(row: &'r R) -> std::result::Result<Self, sqlx::Error> {
        let kind: String = row.try_get("kind")?;
        let kind = kind
            .parse::<Kind>()
            .map_err(|error| sqlx::Error::Decode(error.into()))?;
        Ok(Self(Document {
            kind,
            name: row.try_get("name")?,
            id: row.try_get("id")?,
            body: row.try_get("body")?,
            version: row.try_get("version")?,
            created: row.try_get("created")?,
            updated: row.try_get("updated")?,
        }))
    }
}

/// A change's columns.
type ChangeRow = (i64, String, String, Option<String>, Option<String>);

/// What the counter hands out in a write.
struct Counter {
    version: i64,
    last_id: i64,
}

impl Counter {
    /// What a put makes of what is there; `None`: no change.
    fn change(&mut self, put: Put, before: Option<Document>, at: i64) -> Option<Change> {
        let after = match put.body {
            Some(body) if before.as_ref().is_some_and(|before| before.body == body) => return None,
            Some(body) => Some(Document {
                kind: put.kind,
                name: put.name.clone(),
                id: match &before {
                    Some(before) => before.id,
                    None => {
                        self.last_id += 1;
                        self.last_id
                    }
                },
                body,
                version: self.version,
                created: before.as_ref().map_or(at, |before| before.created),
                updated: at,
            }),
            None if before.is_none() => return None,
            None => None,
        };
        Some(Change {
            version: self.version,
            kind: put.kind,
            name: put.name,
            before,
            after,
        })
    }
}

/// The write itself, the same for both databases.
macro_rules! written {
    ($transaction:expr, $write:expr) => {{
        let write: Write = $write;
        // The row is held until the end: versions are committed in the order of their numbers, without gaps.
        let (version, last_id): (i64, i64) = sqlx::query_as(
            "UPDATE config_state SET version = version + 1 WHERE one = 1 RETURNING version, last_id",
        )
        .fetch_one(&mut *$transaction)
        .await
        .map_err(from_sqlx)?;
        let mut counter = Counter { version, last_id };
        let mut count = 0;
        let mut names = Vec::new();
        for put in write.puts {
            let before: Option<Found> =
                sqlx::query_as("SELECT * FROM documents WHERE kind = $1 AND name = $2")
                    .bind(put.kind.as_str())
                    .bind(&put.name)
                    .fetch_optional(&mut *$transaction)
                    .await
                    .map_err(from_sqlx)?;
            let before = before.map(|found| found.0);
            put.expect.check(put.kind, &put.name, before.as_ref())?;
            let Some(change) = counter.change(put, before, write.at) else {
                continue;
            };
            count += 1;
            names.push((change.kind, change.name.clone()));
            match &change.after {
                Some(document) => {
                    sqlx::query(
                        "INSERT INTO documents (kind, name, id, body, version, created, updated)
                         VALUES ($1, $2, $3, $4, $5, $6, $7)
                         ON CONFLICT (kind, name) DO UPDATE
                         SET body = excluded.body, version = excluded.version, updated = excluded.updated",
                    )
                    .bind(document.kind.as_str())
                    .bind(&document.name)
                    .bind(document.id)
                    .bind(&document.body)
                    .bind(document.version)
                    .bind(document.created)
                    .bind(document.updated)
                    .execute(&mut *$transaction)
                    .await
                }
                None => {
                    sqlx::query("DELETE FROM documents WHERE kind = $1 AND name = $2")
                        .bind(change.kind.as_str())
                        .bind(&change.name)
                        .execute(&mut *$transaction)
                        .await
                }
            }
            .map_err(from_sqlx)?;
            sqlx::query(
                "INSERT INTO changes (version, kind, name, was, became) VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(version)
            .bind(change.kind.as_str())
            .bind(&change.name)
            .bind(json(change.before.as_ref())?)
            .bind(json(change.after.as_ref())?)
            .execute(&mut *$transaction)
            .await
            .map_err(from_sqlx)?;
        }
        if count == 0 {
            // Dropped, the transaction gives the number back.
            return Ok(version - 1);
        }
        sqlx::query("UPDATE config_state SET last_id = $1 WHERE one = 1")
            .bind(counter.last_id)
            .execute(&mut *$transaction)
            .await
            .map_err(from_sqlx)?;
        sqlx::query(
            "INSERT INTO versions (version, written, actor, action, changes) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(version)
        .bind(write.at)
        .bind(&write.actor)
        .bind(&write.action)
        .bind(count)
        .execute(&mut *$transaction)
        .await
        .map_err(from_sqlx)?;
        let names = names.iter().map(|(kind, name)| (*kind, &**name));
        let (actor, action) = (&write.actor, &write.action);
        let event = Event::of_version(version, write.at, actor, action, subject(names));
        audited!($transaction, &event);
        version
    }};
}

#[async_trait]
impl ConfigStore for SqlStore {
    async fn version(&self) -> Result<i64> {
        let found: std::result::Result<(i64,), _> = reading!(self, connection => {
            sqlx::query_as("SELECT version FROM config_state").fetch_one(connection).await
        });
        found.map(|(version,)| version).map_err(from_sqlx)
    }

    async fn documents(&self) -> Result<Documents> {
        // The counter and the documents are of two queries: where somebody wrote between them, once more.
        loop {
            let version = self.version().await?;
            let found: Vec<Found> = reading!(self, connection => {
                sqlx::query_as("SELECT * FROM documents").fetch_all(connection).await
            })
            .map_err(from_sqlx)?;
            if self.version().await? == version {
                let documents = found.into_iter().map(|found| found.0).collect();
                return Ok(Documents { version, documents });
            }
        }
    }

    async fn document(&self, kind: Kind, name: &str) -> Result<Option<Document>> {
        let found: Option<Found> = reading!(self, connection => {
            sqlx::query_as("SELECT * FROM documents WHERE kind = $1 AND name = $2")
                .bind(kind.as_str())
                .bind(name)
                .fetch_optional(connection)
                .await
        })
        .map_err(from_sqlx)?;
        Ok(found.map(|found| found.0))
    }

    async fn document_by_id(&self, kind: Kind, id: i64) -> Result<Option<Document>> {
        let found: Option<Found> = reading!(self, connection => {
            sqlx::query_as("SELECT * FROM documents WHERE kind = $1 AND id = $2")
                .bind(kind.as_str())
                .bind(id)
                .fetch_optional(connection)
                .await
        })
        .map_err(from_sqlx)?;
        Ok(found.map(|found| found.0))
    }

    async fn page(&self, kind: Kind, page: Page) -> Result<Vec<Document>> {
        let found: Vec<Found> = reading!(self, connection => {
            sqlx::query_as("SELECT * FROM documents WHERE kind = $1 AND id > $2 ORDER BY id LIMIT $3")
                .bind(kind.as_str())
                .bind(page.after)
                .bind(i64::from(page.limit))
                .fetch_all(connection)
                .await
        })
        .map_err(from_sqlx)?;
        Ok(found.into_iter().map(|found| found.0).collect())
    }

    async fn write(&self, write: Write) -> Result<i64> {
        let version = self.written(write).await?;
        self.announce(version).await;
        Ok(version)
    }

    async fn changes(&self, after: i64, limit: u32) -> Result<Vec<Change>> {
        let found: Vec<ChangeRow> = reading!(self, connection => {
            sqlx::query_as(
                "SELECT version, kind, name, was, became FROM changes WHERE version > $1 AND version <=
                   (SELECT COALESCE(MAX(version), $1) FROM
                     (SELECT version FROM changes WHERE version > $1 ORDER BY version LIMIT $2) AS next)
                   AND EXISTS (SELECT 1 FROM versions WHERE version = $1 + 1)
                 ORDER BY version",
            )
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(connection)
            .await
        })
        .map_err(from_sqlx)?;
        found.into_iter().map(change_of).collect()
    }

    async fn versions(&self, before: i64, limit: u32) -> Result<Vec<Version>> {
        let found: Vec<(i64, i64, String, String, i64)> = reading!(self, connection => {
            sqlx::query_as(
                "SELECT version, written, actor, action, changes FROM versions
                 WHERE version < $1 ORDER BY version DESC LIMIT $2",
            )
            .bind(before)
            .bind(i64::from(limit))
            .fetch_all(connection)
            .await
        })
        .map_err(from_sqlx)?;
        let version = |(version, at, actor, action, changes)| Version {
            version,
            at,
            actor,
            action,
            changes,
        };
        Ok(found.into_iter().map(version).collect())
    }

    async fn forget_versions(&self, kept: u32, limit: u32) -> Result<u64> {
        writing!(self, transaction => {
            let (last,): (Option<i64>,) = sqlx::query_as(
                "SELECT MAX(version) FROM
                 (SELECT version FROM versions
                  WHERE version <= (SELECT version FROM config_state) - $1 ORDER BY version LIMIT $2) AS old",
            )
            .bind(i64::from(kept))
            .bind(i64::from(limit))
            .fetch_one(&mut *transaction)
            .await
            .map_err(from_sqlx)?;
            let last = last.unwrap_or_default();
            sqlx::query("DELETE FROM changes WHERE version <= $1")
                .bind(last)
                .execute(&mut *transaction)
                .await
                .map_err(from_sqlx)?;
            let done = sqlx::query("DELETE FROM versions WHERE version <= $1")
                .bind(last)
                .execute(&mut *transaction)
                .await
                .map_err(from_sqlx)?;
            done.rows_affected()
        })
    }

    fn notices(&self) -> watch::Receiver<u64> {
        self.notices.subscribe()
    }

    async fn note(&self, name: &str) -> Result<Option<String>> {
        let found: Option<(String,)> = reading!(self, connection => {
            sqlx::query_as("SELECT value FROM notes WHERE name = $1")
                .bind(name)
                .fetch_optional(connection)
                .await
        })
        .map_err(from_sqlx)?;
        Ok(found.map(|(value,)| value))
    }

    async fn note_once(&self, name: &str, value: &str) -> Result<String> {
        writing!(self, transaction => {
            let (value,): (String,) = sqlx::query_as(
                "INSERT INTO notes (name, value) VALUES ($1, $2)
                 ON CONFLICT (name) DO UPDATE SET value = notes.value RETURNING value",
            )
            .bind(name)
            .bind(value)
            .fetch_one(&mut *transaction)
            .await
            .map_err(from_sqlx)?;
            value
        })
    }
}

impl SqlStore {
    async fn written(&self, write: Write) -> Result<i64> {
        writing!(self, transaction => written!(transaction, write))
    }

    /// Tells whoever follows. A notice that is lost costs them the time until they ask.
    async fn announce(&self, version: i64) {
        self.notices.send_modify(|count| *count += 1);
        if let Pool::Postgres(pool) = &self.pool {
            let told = sqlx::query("SELECT pg_notify($1, $2)")
                .bind(CHANNEL)
                .bind(version.to_string())
                .execute(pool)
                .await;
            if let Err(error) = told {
                tracing::debug!(%error, "a notice could not be sent");
            }
        }
    }
}

fn json(document: Option<&Document>) -> Result<Option<String>> {
    document
        .map(serde_json::to_string)
        .transpose()
        .map_err(|error| StoreError::Refused(error.to_string()))
}

fn change_of((version, kind, name, was, became): ChangeRow) -> Result<Change> {
    let document = |text: Option<String>| {
        text.map(|text| serde_json::from_str(&text).map_err(corrupt))
            .transpose()
    };
    Ok(Change {
        version,
        kind: kind.parse().map_err(corrupt)?,
        name,
        before: document(was)?,
        after: document(became)?,
    })
}
