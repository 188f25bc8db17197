//! Opens what outlives the process: the database, its tables, and the key that its secrets are sealed with.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use polygate_core::Secret;
use polygate_engine::quota::Keeping;
use polygate_store::seal::{self, Sealer};
use polygate_store::{MemoryStore, Store, StoreError};
use polygate_store_sql::SqlStore;

use crate::cli::Migrate;
use crate::config::database::{Database, Storage, unsound};
use crate::last_good;

/// How long the start waits for a database that does not answer.
const PATIENCE: Duration = Duration::from_secs(8);

/// The same where something is known to be served meanwhile: the follower goes on asking.
const HASTE: Duration = Duration::from_millis(500);

/// The start is refused: the configuration cannot be used.
#[derive(Debug)]
pub struct Refused(pub String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// A store, with what it takes to read it.
pub struct Opened {
    /// What outlives the process.
    pub store: Arc<dyn Store>,
    /// The same, where it has tables.
    sql: Option<Arc<SqlStore>>,
    /// Opens the secrets in it.
    pub sealer: Arc<Sealer>,
    /// Several replicas may share it, and it may be away.
    pub is_shared: bool,
    /// Somebody named it: that it can be used is no matter of luck.
    pub is_asked_for: bool,
    /// Why it cannot be used for now.
    pub away: Option<String>,
    /// Its tables are as they should be, and the key is the right one.
    is_settled: AtomicBool,
}

impl Opened {
    /// Opens the store that is configured, and brings its tables up to date. Where that would take long and what was known last can
    /// be served instead, it is put off.
    pub async fn open(storage: &Storage) -> anyhow::Result<Self> {
        let key = secret_key(storage)?;
        let sealer = Arc::new(Sealer::new(&key)?);
        let mut opened = match &storage.database {
            Database::Memory => Self::memory(sealer),
            Database::Server(address) => Self::sql(SqlStore::new(address.reveal())?, sealer, true),
            Database::File { path, is_default } => {
                let folder = path.parent().map(std::fs::create_dir_all);
                let probe = writable(path);
                match folder.unwrap_or(Ok(())).and(probe) {
                    Ok(()) => Self::sql(SqlStore::sqlite(path)?, sealer, false),
                    // As before there was a database: a gateway may run where nothing can be written.
                    Err(error) if *is_default && !path.exists() => {
                        tracing::warn!(path = %path.display(), %error, "no database can be made here: what is kept is lost at the end");
                        Self::memory(sealer)
                    }
                    Err(error) => {
                        return Err(error)
                            .with_context(|| format!("cannot open {}", path.display()));
                    }
                }
            }
        };
        opened.is_asked_for = match storage.database {
            Database::Memory => false,
            Database::Server(_) => true,
            Database::File { is_default, .. } => !is_default,
        };
        let is_known = opened.is_shared && storage.data_dir.join(last_good::FILE).exists();
        let patience = if is_known { HASTE } else { PATIENCE };
        opened.away = opened.settle_in_time(patience).await?;
        Ok(opened)
    }

    /// The same for a command that is over when it is: it wants a store that is there and that outlives it.
    pub async fn for_command(storage: &Storage) -> anyhow::Result<Self> {
        if matches!(storage.database, Database::Memory) {
            let refused = "DB_URL is 'none': there is no database".to_owned();
            return Err(Refused(refused).into());
        }
        let opened = Self::open(storage).await?;
        match opened.away {
            Some(error) => anyhow::bail!("the database: {error}"),
            None => Ok(opened),
        }
    }

    /// In memory.
    pub fn memory(sealer: Arc<Sealer>) -> Self {
        Self {
            store: Arc::new(MemoryStore::default()),
            sql: None,
            sealer,
            is_shared: false,
            is_asked_for: false,
            away: None,
            is_settled: AtomicBool::new(false),
        }
    }

    fn sql(sql: SqlStore, sealer: Arc<Sealer>, is_shared: bool) -> Self {
        let sql = Arc::new(sql);
        Self {
            store: sql.clone(),
            sql: Some(sql),
            sealer,
            is_shared,
            is_asked_for: false,
            away: None,
            is_settled: AtomicBool::new(false),
        }
    }

    /// How what is taken of limits is kept.
    pub fn keeping(&self) -> Keeping {
        match (&self.sql, self.is_shared) {
            (_, true) => Keeping::Leased,
            (Some(_), false) => Keeping::Written,
            (None, false) => Keeping::Alone,
        }
    }

    async fn settle_in_time(&self, patience: Duration) -> anyhow::Result<Option<String>> {
        match tokio::time::timeout(patience, self.settle()).await {
            Ok(Ok(())) => Ok(None),
            Ok(Err(Unsettled::Away(error))) if self.is_shared => Ok(Some(error)),
            Ok(Err(Unsettled::Away(error))) => anyhow::bail!("the database: {error}"),
            Ok(Err(Unsettled::Refused(refused))) => Err(refused.into()),
            Err(_) => Ok(Some("it does not answer".to_owned())),
        }
    }

    /// Whether it is known to be as it should be.
    pub fn is_settled(&self) -> bool {
        self.is_settled.load(Ordering::SeqCst)
    }

    /// Brings the tables up to date, and finds out whether this is the key that the store was begun with.
    pub async fn settle(&self) -> Result<(), Unsettled> {
        if let Some(sql) = &self.sql {
            sql.migrate_up().await?;
        }
        let begun_with = self.store.note_once(seal::CHECK, self.sealer.check());
        if begun_with.await? != self.sealer.check() {
            return Err(Unsettled::Refused(Refused(
                "POLYGATE_SECRET_KEY is not the one that this database was begun with: its secrets cannot be read. \
                 Nothing was changed; set the right one"
                    .to_owned(),
            )));
        }
        self.is_settled.store(true, Ordering::SeqCst);
        Ok(())
    }
}

/// Why a store cannot be used.
#[derive(Debug)]
pub enum Unsettled {
    /// For now.
    Away(String),
    /// Until somebody does something.
    Refused(Refused),
}

impl From<StoreError> for Unsettled {
    fn from(error: StoreError) -> Self {
        if error.is_temporary() {
            Unsettled::Away(error.to_string())
        } else {
            Unsettled::Refused(Refused(format!("the database: {error}")))
        }
    }
}

/// `polygate migrate`.
pub async fn migrate(storage: Storage, what: Migrate) -> anyhow::Result<()> {
    let sql = match &storage.database {
        Database::Memory => anyhow::bail!("DB_URL is 'none': there are no tables"),
        Database::Server(address) => SqlStore::new(address.reveal())?,
        Database::File { path, .. } => {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            SqlStore::sqlite(path)?
        }
    };
    match what {
        Migrate::Up => sql.migrate_up().await?,
        Migrate::Down { version } => {
            let (there, _) = sql.migration_versions().await?;
            sql.migrate_down(version.unwrap_or(there - 1).max(0))
                .await?;
        }
        Migrate::Version => {}
    }
    let (there, expected) = sql.migration_versions().await?;
    sql.close().await;
    writeln!(
        std::io::stdout(),
        "version {there} (this program expects {expected})"
    )?;
    Ok(())
}

/// Whether the file can be made or written.
fn writable(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    options.open(path).map(drop)
}

/// The configured key; where the store is embedded, the one of the data directory, made at first start.
fn secret_key(storage: &Storage) -> anyhow::Result<Secret> {
    if let Some(key) = &storage.secret_key {
        return Ok(key.clone());
    }
    match storage.database {
        Database::File { .. } => match kept_key(&storage.data_dir) {
            Ok(key) => Ok(key),
            Err(error) if is_unwritable(&error) => {
                tracing::warn!(error = %format!("{error:#}"), "no secret key can be kept here: one is made for this run");
                Ok(Secret::new(random()))
            }
            Err(error) => Err(error),
        },
        _ => Ok(Secret::new(random())),
    }
}

/// Whether nothing may be written there, by anybody or by us.
pub fn is_unwritable(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| {
        matches!(
            error.kind(),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
        )
    })
}

fn kept_key(data_dir: &Path) -> anyhow::Result<Secret> {
    let path = data_dir.join("secret-key");
    match std::fs::read_to_string(&path) {
        Ok(key) => {
            return match unsound(&key) {
                None => Ok(Secret::new(key.trim())),
                Some(problem) => Err(Refused(format!("{}: {problem}", path.display())).into()),
            };
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    std::fs::create_dir_all(data_dir)
        .with_context(|| format!("cannot make {}", data_dir.display()))?;
    // Whole before it has its name: another process may read it at any time. The first one that has a name stays.
    let draft = data_dir.join(format!(".secret-key.{}", std::process::id()));
    let key = random();
    let _ = std::fs::remove_file(&draft);
    let written = write_new(&draft, key.as_bytes());
    let linked = written.and_then(|()| match std::fs::hard_link(&draft, &path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        other => other.map(|()| true),
    });
    let _ = std::fs::remove_file(&draft);
    match linked.with_context(|| format!("cannot make {}", path.display()))? {
        true => {
            tracing::info!(path = %path.display(), "a secret key was made: keep a copy with those of the database");
            Ok(Secret::new(key))
        }
        false => Ok(Secret::new(std::fs::read_to_string(&path)?.trim())),
    }
}

/// Writes a file that was not there and that nobody else may read, to the disk.
pub fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn random() -> String {
    let random: [u8; 32] = rand::random();
    random.iter().fold(String::from("pg-secret-"), |key, byte| {
        format!("{key}{byte:02x}")
    })
}
