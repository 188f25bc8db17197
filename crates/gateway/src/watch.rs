//! Watching a configuration file: its directory, so that files replaced by rename and Kubernetes' symlink swaps are seen.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::Sender;

/// How long the directory must be quiet: editors write in several steps.
const QUIET: Duration = Duration::from_millis(150);

/// Tells of every change in the file's directory until dropped. Whoever is told reads the file and sees whether it changed.
pub fn watch(file: &Path, told: Sender<()>) -> notify::Result<RecommendedWatcher> {
    let directory = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let (changed, changes) = channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the file makes events too, of other kinds: to follow those would never end.
        let is_change = event.is_ok_and(|event| {
            matches!(
                event.kind,
                EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_)
            )
        });
        if is_change {
            let _ = changed.send(());
        }
    })?;
    watcher.watch(directory, RecursiveMode::NonRecursive)?;
    std::thread::Builder::new()
        .name("config-watch".to_owned())
        .spawn(move || {
            while changes.recv().is_ok() {
                while !matches!(
                    changes.recv_timeout(QUIET),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)
                ) {}
                if told.blocking_send(()).is_err() {
                    return;
                }
            }
        })?;
    Ok(watcher)
}
