//! Watching: every way in which a file changes is told, and what stands beside it does no harm.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use polygate::watch::watch;
use tokio::sync::mpsc::{Receiver, channel};

const SOON: Duration = Duration::from_secs(5);
const NOT_SOON: Duration = Duration::from_millis(600);

async fn is_told(told: &mut Receiver<()>, within: Duration) -> bool {
    matches!(
        tokio::time::timeout(within, told.recv()).await,
        Ok(Some(()))
    )
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("written");
}

/// Watches a file while it is changed like this; whether it was told.
async fn tells(file: &Path, change: impl FnOnce()) -> bool {
    let (tell, mut told) = channel(1);
    let _watcher = watch(file, tell).expect("it is watched");
    change();
    is_told(&mut told, SOON).await
}

#[tokio::test]
async fn a_file_that_is_written_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("config.yaml");
    write(&file, "a");
    assert!(tells(&file, || write(&file, "b")).await);
}

#[tokio::test]
async fn a_file_that_is_replaced_is_told_every_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("config.yaml");
    write(&file, "0");
    let (tell, mut told) = channel(1);
    let _watcher = watch(&file, tell).expect("it is watched");
    for round in ["1", "2", "3"] {
        let next = dir.path().join(".config.yaml.swp");
        write(&next, round);
        std::fs::rename(&next, &file).expect("renamed");
        assert!(is_told(&mut told, SOON).await, "round {round}");
        assert_eq!(std::fs::read_to_string(&file).expect("read"), round);
    }
}

#[tokio::test]
async fn a_swapped_link_is_told_every_time() {
    // As Kubernetes does: config.yaml -> ..data/config.yaml, ..data -> a directory that is swapped.
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let swap = |to: &str| {
        std::fs::create_dir(dir.join(to)).expect("made");
        write(&dir.join(to).join("config.yaml"), to);
        symlink(to, dir.join("..next")).expect("linked");
        std::fs::rename(dir.join("..next"), dir.join("..data")).expect("swapped");
    };
    swap("..1");
    symlink("..data/config.yaml", dir.join("config.yaml")).expect("linked");
    let file = dir.join("config.yaml");
    let (tell, mut told) = channel(1);
    let _watcher = watch(&file, tell).expect("it is watched");
    for to in ["..2", "..3"] {
        swap(to);
        assert!(is_told(&mut told, SOON).await, "{to}");
        assert_eq!(std::fs::read_to_string(&file).expect("read"), to);
    }
}

#[tokio::test]
async fn the_target_of_a_link_elsewhere_is_watched_too() {
    let (here, there) = (
        tempfile::tempdir().expect("one"),
        tempfile::tempdir().expect("two"),
    );
    let target = there.path().join("real.yaml");
    write(&target, "a");
    let file = here.path().join("config.yaml");
    symlink(&target, &file).expect("linked");
    assert!(tells(&file, || write(&target, "b")).await);
}

#[tokio::test]
async fn reading_the_file_is_no_change() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("config.yaml");
    write(&file, "a");
    let (tell, mut told) = channel(1);
    let _watcher = watch(&file, tell).expect("it is watched");
    std::fs::read_to_string(&file).expect("read");
    assert!(!is_told(&mut told, NOT_SOON).await);
}

#[tokio::test]
async fn a_busy_neighbour_does_not_hold_the_news_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("config.yaml");
    write(&file, "a");
    let log = dir.path().join("busy.log");
    let (tell, mut told) = channel(1);
    let _watcher = watch(&file, tell).expect("it is watched");
    write(&file, "b");
    let busy = tokio::spawn(async move {
        for line in 0..1000 {
            write(&log, &line.to_string());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(is_told(&mut told, SOON).await);
    busy.abort();
}

#[tokio::test]
async fn a_dropped_watcher_tells_no_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("config.yaml");
    write(&file, "a");
    let (tell, mut told) = channel(1);
    drop(watch(&file, tell).expect("it is watched"));
    write(&file, "b");
    // The channel closes: the thread has ended.
    assert_eq!(tokio::time::timeout(SOON, told.recv()).await, Ok(None));
}
