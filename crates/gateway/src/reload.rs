//! Hot reload: on changes of the file and on SIGHUP. A bad file is refused whole; the configuration in force stays.

use std::path::PathBuf;
use std::sync::Arc;

use polygate_engine::Engine;
use polygate_engine::config::Server;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;

use crate::config::env::Environment;
use crate::config::{Flags, load};
use crate::watch::watch;

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
}

impl Reloader {
    /// Follows the file for ever.
    pub async fn run(mut self) {
        let (told, mut changes) = mpsc::channel(1);
        let watcher = self.path.as_deref().map(|path| watch(path, told.clone()));
        if let Some(Err(error)) = &watcher {
            tracing::warn!(%error, "the configuration file cannot be watched; SIGHUP still reloads it");
        }
        // The file may have changed between its first reading and now.
        self.reload(false);
        loop {
            tokio::select! {
                Some(()) = changes.recv() => self.reload(false),
                Some(()) = self.hangup.recv() => self.reload(true),
            }
        }
    }

    fn reload(&mut self, asked: bool) {
        let Some(path) = &self.path else { return };
        // An unchanged file is no news, unless somebody asks: variables of `.env` may have changed.
        if !asked && std::fs::read_to_string(path).is_ok_and(|text| text == self.text) {
            return;
        }
        let environment = Environment::of_process(&self.directory);
        let loaded = match load(&self.flags, &environment, &self.directory) {
            Ok(loaded) => loaded,
            Err(report) => {
                tracing::error!(%report, "the new configuration is refused; the old one stays");
                return;
            }
        };
        for warning in &loaded.warnings {
            tracing::warn!(%warning, "configuration");
        }
        self.text = loaded.text;
        warn_of_fixed(&self.engine.snapshot().config.server, &loaded.config.server);
        match self.engine.apply(loaded.config) {
            Ok(generation) => tracing::info!(generation, "configuration reloaded"),
            Err(problems) => tracing::error!(
                problems = problems.join("; "),
                "the new configuration is refused; the old one stays"
            ),
        }
    }
}

fn warn_of_fixed(old: &Server, new: &Server) {
    if (old.host, old.port) != (new.host, new.port) {
        tracing::warn!("another address to listen on takes effect at the next start");
    }
}
