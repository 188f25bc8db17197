//! Answers that are gone on from.

use async_trait::async_trait;
use polygate_store::{KeptAnswer, KeptStore, Result};

use crate::error::from_sqlx;
use crate::pool::{SqlStore, reading, writing};

#[async_trait]
impl KeptStore for SqlStore {
    async fn keep(&self, answers: &[KeptAnswer]) -> Result<()> {
        writing!(self, transaction => for answer in answers {
            sqlx::query(
                "INSERT INTO kept_answers (id, owner, body, kept_until) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, body = excluded.body, kept_until = excluded.kept_until",
            )
            .bind(&answer.id)
            .bind(&answer.owner)
            .bind(&answer.body)
            .bind(answer.until)
            .execute(&mut *transaction)
            .await
            .map_err(from_sqlx)?;
        })
    }

    async fn kept(&self, id: &str, now: i64) -> Result<Option<KeptAnswer>> {
        let found: Option<(String, String, i64)> = reading!(self, connection => {
            sqlx::query_as("SELECT owner, body, kept_until FROM kept_answers WHERE id = $1 AND kept_until > $2")
                .bind(id)
                .bind(now)
                .fetch_optional(connection)
                .await
        })
        .map_err(from_sqlx)?;
        Ok(found.map(|(owner, body, until)| KeptAnswer {
            id: id.to_owned(),
            owner,
            body,
            until,
        }))
    }

    async fn forget(&self, id: &str) -> Result<bool> {
        writing!(self, transaction => {
            let done = sqlx::query("DELETE FROM kept_answers WHERE id = $1")
                .bind(id)
                .execute(&mut *transaction)
                .await
                .map_err(from_sqlx)?;
            done.rows_affected() > 0
        })
    }

    async fn forget_old(&self, now: i64, limit: u32) -> Result<u64> {
        writing!(self, transaction => {
            let done = sqlx::query(
                "DELETE FROM kept_answers WHERE id IN
                 (SELECT id FROM kept_answers WHERE kept_until <= $1 ORDER BY kept_until LIMIT $2)",
            )
            .bind(now)
            .bind(i64::from(limit))
            .execute(&mut *transaction)
            .await
            .map_err(from_sqlx)?;
            done.rows_affected()
        })
    }
}
