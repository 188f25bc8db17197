//! Which database it is, and its connections.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use polygate_store::signals::WAITING;
use polygate_store::{Result, StoreError};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

use crate::error::{from_sqlx, refused};
use crate::notices::Ears;
use crate::{migrations, notices};

/// How long is waited for a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long SQLite waits for another process that writes.
const BUSY: Duration = Duration::from_secs(5);

/// Connections to PostgreSQL at most. Requests do not use them.
const CONNECTIONS: u32 = 8;

/// Connections that read SQLite.
const READERS: u32 = 4;

/// The store in a database.
#[derive(Debug)]
pub struct SqlStore {
    pub(crate) pool: Pool,
    pub(crate) notices: watch::Sender<u64>,
    pub(crate) signals: broadcast::Sender<Arc<str>>,
    listener: Option<JoinHandle<()>>,
}

/// A database's connections.
#[derive(Clone, Debug)]
pub(crate) enum Pool {
    /// One that writes, so that writers wait for one another in our order, and some that read.
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
    },
    Postgres(PgPool),
}

/// Runs the same text on whichever database reads.
macro_rules! reading {
    ($store:expr, $connection:ident => $body:expr) => {
        match &$store.pool {
            $crate::pool::Pool::Sqlite { readers, .. } => {
                let $connection = readers;
                $body
            }
            $crate::pool::Pool::Postgres(pool) => {
                let $connection = pool;
                $body
            }
        }
    };
}

/// Runs the same text in a transaction that writes, and commits it.
macro_rules! writing {
    ($store:expr, $transaction:ident => $body:expr) => {
        match &$store.pool {
            $crate::pool::Pool::Sqlite { writer, .. } => {
                // A transaction that begins by reading could not go on to write while another process does.
                let mut $transaction = writer
                    .begin_with("BEGIN IMMEDIATE")
                    .await
                    .map_err($crate::error::from_sqlx)?;
                let result = $body;
                $transaction.commit().await.map_err($crate::error::from_sqlx)?;
                Ok(result)
            }
            $crate::pool::Pool::Postgres(pool) => {
                let mut $transaction = pool.begin().await.map_err($crate::error::from_sqlx)?;
                let result = $body;
                $transaction.commit().await.map_err($crate::error::from_sqlx)?;
                Ok(result)
            }
        }
    };
}

pub(crate) use {reading, writing};

impl SqlStore {
    /// A store at an address: `sqlite:FILE` or `postgres://…`. Nothing is connected yet: the database may be away for now.
    pub fn new(address: &str) -> Result<Self> {
        if let Some(file) = address.strip_prefix("sqlite:") {
            let file = file.strip_prefix("//").unwrap_or(file);
            return Self::sqlite(Path::new(file));
        }
        if !["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| address.starts_with(scheme))
        {
            return Err(refused(
                "not the address of a database: 'postgres://…', 'sqlite:FILE' or 'none'".to_owned(),
            ));
        }
        let options = PgConnectOptions::from_str(address)
            .map_err(|error| refused(format!("not an address of a database: {error}")))?;
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(PATIENCE)
            .connect_lazy_with(options.application_name("polygate"));
        let notices = watch::Sender::new(0);
        let signals = broadcast::Sender::new(WAITING);
        let ears = Ears {
            notices: notices.clone(),
            signals: signals.clone(),
        };
        let listener = tokio::spawn(notices::listen(pool.clone(), ears));
        Ok(Self {
            pool: Pool::Postgres(pool),
            notices,
            signals,
            listener: Some(listener),
        })
    }

    /// A store in a file, which is made where there is none.
    pub fn sqlite(file: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY);
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(PATIENCE)
        };
        Ok(Self {
            pool: Pool::Sqlite {
                writer: pool(1).connect_lazy_with(options.clone()),
                readers: pool(READERS).connect_lazy_with(options),
            },
            notices: watch::Sender::new(0),
            signals: broadcast::Sender::new(WAITING),
            listener: None,
        })
    }

    /// Brings the tables up to what this program expects; however many do so at once.
    pub async fn migrate_up(&self) -> Result<()> {
        migrations::up(&self.pool).await
    }

    /// Takes the tables back to a version; 0: there are none.
    pub async fn migrate_down(&self, version: i64) -> Result<()> {
        migrations::down(&self.pool, version).await
    }

    /// The version of the tables that are there, and the one that this program expects.
    pub async fn migration_versions(&self) -> Result<(i64, i64)> {
        migrations::versions(&self.pool).await
    }

    /// Closes its connections; what is under way ends first.
    pub async fn close(&self) {
        match &self.pool {
            Pool::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Pool::Postgres(pool) => pool.close().await,
        }
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        let answered: std::result::Result<(i64,), sqlx::Error> = reading!(self, connection => {
            sqlx::query_as("SELECT version FROM config_state").fetch_one(connection).await
        });
        answered.map(|_| ()).map_err(from_sqlx)
    }
}

impl Drop for SqlStore {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.abort();
        }
    }
}

/// A number as databases have it.
pub(crate) fn number(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

/// What stands in a column could not have been written by us.
pub(crate) fn corrupt(what: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(what.to_string())
}
