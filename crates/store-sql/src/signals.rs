//! Words between processes: PostgreSQL's notifications. SQLite has one process, which hears itself.

use std::sync::Arc;

use async_trait::async_trait;
use polygate_store::Result;
use polygate_store::signals::{SignalStore, fits};
use tokio::sync::broadcast;

use crate::error::from_sqlx;
use crate::pool::{Pool, SqlStore};

/// The channel of these words.
pub(crate) const CHANNEL: &str = "polygate_signals";

#[async_trait]
impl SignalStore for SqlStore {
    async fn tell(&self, word: &str) -> Result<()> {
        fits(word)?;
        match &self.pool {
            Pool::Postgres(pool) => {
                let told = sqlx::query("SELECT pg_notify($1, $2)")
                    .bind(CHANNEL)
                    .bind(word)
                    .execute(pool)
                    .await;
                told.map(drop).map_err(from_sqlx)
            }
            Pool::Sqlite { .. } => {
                // Nobody may listen.
                let _ = self.signals.send(word.into());
                Ok(())
            }
        }
    }

    fn told(&self) -> broadcast::Receiver<Arc<str>> {
        self.signals.subscribe()
    }
}
