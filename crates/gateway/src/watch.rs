//! Watching a configuration file: its directory, so that files replaced by rename and Kubernetes' symlink swaps are seen.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::Sender;

/// How long the directory must be quiet: editors write in several steps.
const QUIET: Duration = Duration::from_millis(150);

/// How long is waited for that: a log file in the same directory is never quiet.
const LONGEST: Duration = Duration::from_secs(1);

/// Tells of every change in the file's directory until dropped. Whoever is told reads the file and sees whether it changed.
pub fn watch(file: &Path, told: Sender<()>) -> notify::Result<RecommendedWatcher> {
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
    let directory = directory_of(file);
    watcher.watch(directory, RecursiveMode::NonRecursive)?;
    // A link to a file elsewhere: what is written there does not show in the link's directory.
    if let Ok(target) = file.canonicalize() {
        let elsewhere = directory_of(&target);
        if directory.canonicalize().is_ok_and(|here| here != elsewhere) {
            let _ = watcher.watch(elsewhere, RecursiveMode::NonRecursive);
        }
    }
    std::thread::Builder::new()
        .name("config-watch".to_owned())
        .spawn(move || {
            while changes.recv().is_ok() {
                settle(&changes);
                if told.blocking_send(()).is_err() {
                    return;
                }
            }
        })?;
    Ok(watcher)
}

fn directory_of(file: &Path) -> &Path {
    file.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Waits until nothing changes any more, but not for ever.
fn settle(changes: &Receiver<()>) {
    let start = Instant::now();
    while start.elapsed() < LONGEST && changes.recv_timeout(QUIET).is_ok() {}
}
