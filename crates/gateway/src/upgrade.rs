//! SIGUSR2: a new process of the executable as it is now takes the listening sockets; this one goes when that one serves.

use std::ffi::OsString;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use polygate_engine::Engine;
use polygate_server::Stop;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::listen::{TAKES_OVER, give};

/// How long a new process may take until it serves.
const PATIENCE: Duration = Duration::from_secs(60);

/// What starting the program anew takes.
pub struct Upgrader {
    /// SIGUSR2.
    pub asked: Signal,
    /// The sockets to hand over.
    pub listeners: Vec<TcpListener>,
    /// How this process was started, and where.
    pub program: Program,
    /// For the grace that streams have.
    pub engine: Arc<Engine>,
    /// How this process is told to go.
    pub stop: Arc<watch::Sender<Option<Stop>>>,
}

/// A command line.
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    directory: PathBuf,
}

impl Program {
    /// This process's own, as it was typed: what stands at that path when it is started again is what runs.
    pub fn own(directory: &Path) -> Self {
        let mut arguments = std::env::args_os();
        let typed = arguments.next().map(PathBuf::from);
        // A name without a folder was found on PATH; where it was is what runs now.
        let path = typed
            .filter(|typed| typed.components().count() > 1)
            .map(|typed| directory.join(typed))
            .filter(|path| path.is_file())
            .or_else(|| std::env::current_exe().ok());
        Self {
            path: path.unwrap_or_default(),
            arguments: arguments.collect(),
            directory: directory.to_path_buf(),
        }
    }

    fn start(&self, listeners: &[TcpListener]) -> anyhow::Result<(Child, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        give(listeners, &ours)?;
        let child = Command::new(&self.path)
            .args(&self.arguments)
            .current_dir(&self.directory)
            .env(TAKES_OVER, "1")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .with_context(|| format!("{} cannot be started", self.path.display()))?;
        Ok((child, ours))
    }
}

impl Upgrader {
    /// Waits for the signal, until a new process has taken over or this one stops.
    pub async fn run(mut self) {
        let mut stop = self.stop.subscribe();
        loop {
            tokio::select! {
                _ = stop.wait_for(Option::is_some) => break,
                Some(()) = self.asked.recv() => {}
            }
            match self.upgrade(&mut stop).await {
                Ok(None) => tracing::warn!("the upgrade was given up: this process stops"),
                Ok(Some(process)) => {
                    tracing::info!(
                        process,
                        "a new process serves; this one ends after what is in flight"
                    );
                    let grace = self.engine.snapshot().config.server.upgrade_grace;
                    self.stop.send_replace(Some(Stop {
                        delay: Duration::ZERO,
                        grace,
                    }));
                    break;
                }
                Err(error) => tracing::error!(
                    error = format!("{error:#}"),
                    "the upgrade failed; this process keeps serving"
                ),
            }
        }
        // Nobody accepts here any more, so nobody may wait. And asked again, it must not end by the signal's default.
        drop(self.listeners);
        while self.asked.recv().await.is_some() {}
    }

    /// The number of the process that serves now; none, if this one is to stop meanwhile.
    async fn upgrade(
        &self,
        stop: &mut watch::Receiver<Option<Stop>>,
    ) -> anyhow::Result<Option<u32>> {
        let (mut child, ours) = self.program.start(&self.listeners)?;
        let process = child.id();
        tracing::info!(process, "a new process was started to take over");
        ours.set_nonblocking(true)?;
        let mut ours = tokio::net::UnixStream::from_std(ours)?;
        let mut word = [0; 16];
        let said = tokio::select! {
            said = timeout(PATIENCE, ours.read(&mut word)) => said.ok(),
            // Who stops this process wants none, rather than another one.
            _ = stop.wait_for(Option::is_some) => {
                child.kill()?;
                return Ok(None);
            }
        };
        if let Some(Ok(1..)) = said {
            return Ok(Some(process));
        }
        let _ = child.kill();
        let status = tokio::task::spawn_blocking(move || child.wait()).await??;
        Err(match said {
            None => anyhow::anyhow!("the new process did not serve in time"),
            Some(_) => anyhow::anyhow!("the new process ended before it served ({status})"),
        })
    }
}
