//! Hot reload: of the configuration and of the certificate, on changes of their files and on SIGHUP. A bad file is refused whole;
//! what is in force stays.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use notify::RecommendedWatcher;

use polygate_engine::admit::SharedKeys;
use polygate_engine::config::Tls;
use polygate_engine::{Config, Engine};
use polygate_providers::Catalogue;
use polygate_server::admin::configuration;
use polygate_server::tls::Certificates;
use polygate_store::Sealer;
use polygate_store::config::{Documents, Kind};
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, watch};

use crate::config::documents::{Base, LeftOut, say};
use crate::config::env::Environment;
use crate::config::{Flags, Problem, load};
use crate::follow::KeyBook;
use crate::live::Reload;
use crate::systemd::Notifier;
use crate::watch::watch as watch_file;

/// What reading the configuration again takes.
pub struct Reloader {
    /// The engine that serves by it.
    pub engine: Arc<Engine>,
    /// What the command line said.
    pub flags: Flags,
    /// Where the process was started.
    pub directory: PathBuf,
    /// The file; without one there is nothing to read again.
    pub path: Option<PathBuf>,
    /// SIGHUP. Taken before anyone knows that the gateway runs, since untaken it ends the process.
    pub hangup: Signal,
    /// What it said when it was read last.
    pub text: String,
    /// What it said when it was refused last: that is told once, though a log beside the file makes its directory change all the time.
    pub refused: Option<String>,
    /// The certificate, where TLS is spoken.
    pub pair: Option<Renewal>,
    /// Who wants to know.
    pub notifier: Arc<Notifier>,
    /// What the database adds.
    pub merge: Merge,
    /// Who wants everything to be read again, now.
    pub asked: mpsc::Receiver<Reload>,
    /// The database's keys, of which the file's are not.
    pub book: Arc<KeyBook>,
    /// The keys in force.
    pub keys: Arc<SharedKeys>,
}

/// What is in force, of the file and of the database.
#[derive(Clone, Debug)]
pub struct InForce {
    /// The version of the database's documents, keys aside.
    pub version: i64,
    /// What the file says.
    pub base: Arc<Base>,
    /// Documents that are not served.
    pub left_out: Vec<configuration::LeftOut>,
    /// What there is of later that is not in force.
    pub refused: Refused,
}

/// Who says something that was refused, so that what it said before is in force.
#[derive(Clone, Copy, Debug, Default)]
pub struct Refused {
    /// The file.
    pub file: bool,
    /// The database.
    pub documents: bool,
}

/// The file's configuration and the database's documents.
pub struct Merge {
    /// What the file says.
    pub base: Arc<Base>,
    /// What the database says.
    pub documents: watch::Receiver<Arc<Documents>>,
    /// What is listed of models and prices.
    pub listed: watch::Receiver<Arc<Catalogue>>,
    /// Opens its secrets.
    pub sealer: Arc<Sealer>,
    /// Which documents were said to be left out, and why.
    pub said: HashSet<(Kind, String, String)>,
    /// What is in force is said here, once it is.
    pub told: watch::Sender<InForce>,
}

impl Merge {
    /// Of a file, before anything is in force.
    pub fn new(
        base: Base,
        documents: watch::Receiver<Arc<Documents>>,
        listed: watch::Receiver<Arc<Catalogue>>,
        sealer: Arc<Sealer>,
    ) -> Self {
        let base = Arc::new(base);
        let in_force = InForce {
            version: -1,
            base: base.clone(),
            left_out: Vec::new(),
            refused: Refused::default(),
        };
        Self {
            base,
            documents,
            listed,
            sealer,
            said: HashSet::new(),
            told: watch::Sender::new(in_force),
        }
    }

    /// Both together, and what there is to say of that once it is in force.
    pub fn merged(&mut self) -> (Config, InForce) {
        let documents = self.documents.borrow_and_update().clone();
        let mut composed = self.base.with(&documents, &self.sealer, &Engine::check);
        composed.config.catalogue = self.listed.borrow_and_update().clone();
        say(&composed.left_out, &mut self.said);
        let in_force = InForce {
            version: documents.version,
            base: self.base.clone(),
            left_out: composed.left_out.iter().map(LeftOut::said).collect(),
            refused: Refused::default(),
        };
        (composed.config, in_force)
    }
}

/// A pair of certificate and key that is read again when its files change.
pub struct Renewal {
    files: Tls,
    certificates: Certificates,
    /// What the files said when they were read last: a refusal is told once, not whenever something else changes beside them.
    seen: u64,
}

impl Reloader {
    /// Follows the file for ever.
    pub async fn run(mut self) {
        let (told, mut changes) = mpsc::channel(1);
        let watcher = self
            .path
            .as_deref()
            .map(|path| watch_file(path, told.clone()));
        if let Some(Err(error)) = &watcher {
            tracing::warn!(%error, "the configuration file cannot be watched; SIGHUP still reloads it");
        }
        let mut watchers = self.watch_pair(&told);
        // The file may have changed between its first reading and now.
        let _ = self.reload(false);
        let (mut is_followed, mut is_listed) = (true, true);
        loop {
            let asked = tokio::select! {
                told = self.merge.documents.changed(), if is_followed => {
                    is_followed = told.is_ok();
                    self.follow();
                    continue;
                }
                told = self.merge.listed.changed(), if is_listed => {
                    is_listed = told.is_ok();
                    self.follow();
                    continue;
                }
                Some(tell) = self.asked.recv() => {
                    let reloaded = self.reload(true);
                    // Who asked may be gone.
                    let _ = tell.send(reloaded);
                    false
                }
                Some(()) = changes.recv() => false,
                Some(()) = self.hangup.recv() => true,
            };
            if asked {
                self.notifier.reloading();
            }
            // What is wrong was said in the log.
            let _ = self.reload(asked);
            if let Some(pair) = &mut self.pair {
                let server = &self.engine.snapshot().config.server;
                if pair.follow(server.tls.as_ref()) {
                    drop(watchers);
                    watchers = self.watch_pair(&told);
                } else {
                    pair.renew(asked);
                }
            }
            if asked {
                self.notifier.ready();
            }
        }
    }

    fn watch_pair(&self, told: &mpsc::Sender<()>) -> Vec<RecommendedWatcher> {
        let files = self
            .pair
            .iter()
            .flat_map(|pair| [&pair.files.cert, &pair.files.key]);
        let watch = |file: &PathBuf| match watch_file(file, told.clone()) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(%error, "the certificate's files cannot be watched; SIGHUP still reads them again");
                None
            }
        };
        files.filter_map(watch).collect()
    }

    /// Reads the file again; or everything that is wrong with it.
    fn reload(&mut self, asked: bool) -> Result<(), Vec<String>> {
        let text = self.path.as_ref().map(std::fs::read_to_string);
        let text = text.and_then(Result::ok);
        if !asked && text.is_some() && text == self.refused {
            return Ok(());
        }
        let reloaded = self.read_again(asked);
        self.refused = text.filter(|_| reloaded.is_err());
        let is_refused = reloaded.is_err();
        let told = &self.merge.told;
        told.send_if_modified(|now| {
            std::mem::replace(&mut now.refused.file, is_refused) != is_refused
        });
        reloaded
    }

    fn read_again(&mut self, asked: bool) -> Result<(), Vec<String>> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        // An unchanged file is no news, unless somebody asks: variables of `.env` may have changed.
        if !asked && std::fs::read_to_string(path).is_ok_and(|text| text == self.text) {
            return Ok(());
        }
        let environment = Environment::of_process(&self.directory);
        let loaded = load(&self.flags, &environment, &self.directory).map_err(|report| {
            tracing::error!(%report, "the new configuration is refused; the old one stays");
            report
                .problems
                .iter()
                .map(Problem::to_string)
                .collect::<Vec<_>>()
        })?;
        for warning in &loaded.warnings {
            tracing::warn!(%warning, "configuration");
        }
        warn_of_fixed(&self.engine.snapshot().config, &loaded.config);
        let base = Arc::new(self.merge.base.renewed(&loaded));
        self.text = loaded.text;
        let before = std::mem::replace(&mut self.merge.base, base);
        let (config, in_force) = self.merge.merged();
        match self.engine.apply(config) {
            Ok(generation) => {
                self.book.yield_to(in_force.base.key_names(), &self.keys);
                self.merge.told.send_replace(in_force);
                tracing::info!(generation, "configuration reloaded");
                Ok(())
            }
            Err(problems) => {
                self.merge.base = before;
                tracing::error!(
                    problems = problems.join("; "),
                    "the new configuration is refused; the old one stays"
                );
                Err(problems)
            }
        }
    }

    /// Goes on with what the database says now.
    fn follow(&mut self) {
        let (config, mut in_force) = self.merge.merged();
        in_force.refused.file = self.merge.told.borrow().refused.file;
        match self.engine.apply(config) {
            Ok(generation) => {
                tracing::info!(generation, "the database's configuration is followed");
                self.merge.told.send_replace(in_force);
            }
            Err(problems) => {
                self.merge
                    .told
                    .send_modify(|now| now.refused.documents = true);
                tracing::error!(
                    problems = problems.join("; "),
                    "what the database says is refused; the old configuration stays"
                );
            }
        }
    }
}

impl Renewal {
    /// A pair that was just read.
    pub fn new(files: Tls, certificates: Certificates) -> Self {
        let seen = fingerprint(&files);
        Self {
            files,
            certificates,
            seen,
        }
    }

    /// Goes on with the files that the configuration names now. Whether they are others.
    fn follow(&mut self, files: Option<&Tls>) -> bool {
        let Some(files) = files.filter(|files| **files != self.files) else {
            return false;
        };
        self.files = files.clone();
        self.renew(true);
        true
    }

    fn renew(&mut self, asked: bool) {
        let fingerprint = fingerprint(&self.files);
        if !asked && fingerprint == self.seen {
            return;
        }
        self.seen = fingerprint;
        match self.certificates.renew(&self.files.cert, &self.files.key) {
            Ok(true) => tracing::info!("a new certificate is in force for new connections"),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%error, "the new certificate is refused; the old one stays");
            }
        }
    }
}

fn fingerprint(files: &Tls) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in [&files.cert, &files.key] {
        std::fs::read(path).ok().hash(&mut hasher);
    }
    hasher.finish()
}

fn warn_of_fixed(old: &Config, new: &Config) {
    let (one, other) = (&old.ledger, &new.ledger);
    if (one.fsync, one.max_bytes) != (other.fsync, other.max_bytes) {
        tracing::warn!("other settings of the ledger take effect at the next start");
    }
    let (old, new) = (&old.server, &new.server);
    if (old.host, old.port) != (new.host, new.port) {
        tracing::warn!("another address to listen on takes effect at the next start");
    }
    if old.tls.is_some() != new.tls.is_some() {
        tracing::warn!("TLS is switched on and off at the next start, or by an upgrade (SIGUSR2)");
    }
}
