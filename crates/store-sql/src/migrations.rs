//! The tables, by numbered steps up and down. They are in the binary.

use std::fs::File;

use polygate_store::{Result, StoreError};
use sqlx::SqlSafeStr;
use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};

use crate::error::{from_sqlx, refused};
use crate::pool::Pool;

/// Number, name, up, down.
const STEPS: [(i64, &str, &str, &str); 11] = [
    (
        1,
        "first",
        include_str!("../migrations/0001_first.up.sql"),
        include_str!("../migrations/0001_first.down.sql"),
    ),
    (
        2,
        "audit",
        include_str!("../migrations/0002_audit.up.sql"),
        include_str!("../migrations/0002_audit.down.sql"),
    ),
    (
        3,
        "rollups",
        include_str!("../migrations/0003_rollups.up.sql"),
        include_str!("../migrations/0003_rollups.down.sql"),
    ),
    (
        4,
        "granted",
        include_str!("../migrations/0004_granted.up.sql"),
        include_str!("../migrations/0004_granted.down.sql"),
    ),
    (
        5,
        "audit_by_time",
        include_str!("../migrations/0005_audit_by_time.up.sql"),
        include_str!("../migrations/0005_audit_by_time.down.sql"),
    ),
    (
        6,
        "searches",
        include_str!("../migrations/0006_searches.up.sql"),
        include_str!("../migrations/0006_searches.down.sql"),
    ),
    (
        7,
        "explained",
        include_str!("../migrations/0007_explained.up.sql"),
        include_str!("../migrations/0007_explained.down.sql"),
    ),
    (
        8,
        "attribution",
        include_str!("../migrations/0008_attribution.up.sql"),
        include_str!("../migrations/0008_attribution.down.sql"),
    ),
    (
        9,
        "cached",
        include_str!("../migrations/0009_cached.up.sql"),
        include_str!("../migrations/0009_cached.down.sql"),
    ),
    (
        10,
        "shadows",
        include_str!("../migrations/0010_shadows.up.sql"),
        include_str!("../migrations/0010_shadows.down.sql"),
    ),
    (
        11,
        "decisions",
        include_str!("../migrations/0011_decisions.up.sql"),
        include_str!("../migrations/0011_decisions.down.sql"),
    ),
];

/// Where it is noted which steps were taken.
const TABLE: &str = "polygate_migrations";

pub(crate) async fn up(pool: &Pool) -> Result<()> {
    let migrator = migrator();
    match pool {
        Pool::Sqlite { writer, .. } => {
            let _lock = lock(writer).await?;
            migrator.run(writer).await
        }
        Pool::Postgres(pool) => migrator.run(pool).await,
    }
    .map_err(from_migrate)
}

pub(crate) async fn down(pool: &Pool, version: i64) -> Result<()> {
    let migrator = migrator();
    match pool {
        Pool::Sqlite { writer, .. } => {
            let _lock = lock(writer).await?;
            migrator.undo(writer, version).await
        }
        Pool::Postgres(pool) => migrator.undo(pool, version).await,
    }
    .map_err(from_migrate)
}

pub(crate) async fn versions(pool: &Pool) -> Result<(i64, i64)> {
    let applied = match pool {
        Pool::Sqlite { writer, .. } => {
            let mut connection = writer.acquire().await.map_err(from_sqlx)?;
            applied(&mut *connection).await
        }
        Pool::Postgres(pool) => {
            let mut connection = pool.acquire().await.map_err(from_sqlx)?;
            applied(&mut *connection).await
        }
    };
    let expected = STEPS.iter().map(|(version, ..)| *version).max();
    Ok((applied.map_err(from_migrate)?, expected.unwrap_or_default()))
}

async fn applied(connection: &mut impl Migrate) -> std::result::Result<i64, MigrateError> {
    connection.ensure_migrations_table(TABLE).await?;
    let applied = connection.list_applied_migrations(TABLE).await?;
    let versions = applied.iter().map(|applied| applied.version);
    Ok(versions.max().unwrap_or_default())
}

fn migrator() -> Migrator {
    let steps = STEPS.iter().flat_map(|(version, name, up, down)| {
        let step = |kind, sql: &'static str| {
            Migration::new(*version, (*name).into(), kind, sql.into_sql_str(), false)
        };
        [
            step(MigrationType::ReversibleUp, up),
            step(MigrationType::ReversibleDown, down),
        ]
    });
    let mut migrator = Migrator::with_migrations(steps.collect());
    migrator.dangerous_set_table_name(TABLE);
    migrator
}

/// Keeps other processes from changing the tables of the same file: SQLite's own transactions are one a step.
async fn lock(pool: &sqlx::SqlitePool) -> Result<Option<File>> {
    let options = pool.connect_options();
    let mut path = options.get_filename().as_os_str().to_owned();
    path.push(".migration");
    let locked = tokio::task::spawn_blocking(move || {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)?;
        file.lock()?;
        Ok::<_, std::io::Error>(file)
    });
    match locked.await {
        Ok(Ok(file)) => Ok(Some(file)),
        Ok(Err(error)) => Err(StoreError::Unavailable(format!(
            "the database's folder cannot be written: {error}"
        ))),
        Err(error) => Err(StoreError::Unavailable(error.to_string())),
    }
}

fn from_migrate(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => from_sqlx(error),
        MigrateError::VersionMissing(version) => refused(format!(
            "the tables are of version {version}, which a newer program made: this one does not know it"
        )),
        other => refused(format!("the tables cannot be changed: {other}")),
    }
}
