//! Calls go on whatever the store does, and every row comes to it once.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use polygate_store::usage::State;

use super::stand_in::{Mode, Shop, files, intent, options, row, runtime, until};
use crate::{Fsync, Ledger, Options};

const LONG: Duration = Duration::from_secs(20);

fn call(ledger: &Ledger, id: &str) {
    let slot = ledger.reserve().expect("a slot");
    slot.intend(&intent(id, 1)).expect("room");
    slot.settle(row(id));
}

#[test]
fn rows_come_to_the_store_once_and_segments_die() {
    let (folder, runtime, shop) = (
        tempfile::tempdir().expect("a folder"),
        runtime(),
        Shop::new(Mode::Well),
    );
    let options = Options {
        segment_bytes: 2048,
        batch_rows: 7,
        ..options()
    };
    let open = || {
        Ledger::open(
            folder.path(),
            options.clone(),
            shop.clone(),
            runtime.handle().clone(),
        )
    };
    let ledger = open().expect("a ledger");
    for number in 0..300 {
        call(&ledger, &format!("call-{number}"));
    }
    let stats = ledger.close(LONG);
    assert_eq!(
        (stats.shipped, stats.waiting, stats.slots_taken),
        (300, 0, 0)
    );
    assert_eq!((shop.rows().len(), shop.again()), (300, 0));
    assert!(shop.largest.load(Ordering::SeqCst) <= 7);
    assert_eq!(shop.rows()["call-7"], row("call-7"));
    assert_eq!(
        files(folder.path(), ".log")
            + files(folder.path(), "lock")
            + files(folder.path(), "reserve"),
        0
    );
    // The next finds nothing to do.
    assert_eq!(open().expect("a ledger").close(LONG).shipped, 0);
}

/// How often a call is told of in the segments that are there.
fn intents_in(folder: &Path, id: &str) -> usize {
    let files = fs::read_dir(folder).expect("a folder").flatten();
    let logs = files.filter(|file| file.path().extension().is_some_and(|is| is == "log"));
    let logs = logs.filter_map(|file| fs::read(file.path()).ok());
    let told = format!("\"call\":\"{id}\"");
    logs.map(|log| String::from_utf8_lossy(&log).matches(&told).count())
        .sum()
}

#[test]
fn a_long_call_does_not_keep_all_segments() {
    let (folder, runtime, shop) = (
        tempfile::tempdir().expect("a folder"),
        runtime(),
        Shop::new(Mode::Well),
    );
    let options = Options {
        segment_bytes: 2048,
        ..options()
    };
    let ledger = Ledger::open(
        folder.path(),
        options,
        shop.clone(),
        runtime.handle().clone(),
    )
    .expect("a ledger");
    let long = ledger.reserve().expect("a slot");
    long.intend(&intent("long", 1)).expect("room");
    long.intend(&intent("long", 2)).expect("room");
    for number in 0..300 {
        call(&ledger, &format!("call-{number}"));
    }
    until("old segments die", || files(folder.path(), ".log") <= 6);
    // A crash now would find its intents.
    until("its intents are in the files that are left", || {
        intents_in(folder.path(), "long") >= 2
    });
    // It is left open, and counts as aborted.
    drop(long);
    assert_eq!(ledger.close(LONG).aborted, 1);
    let rows = shop.rows();
    let long = &rows["long"];
    assert_eq!(
        (rows.len(), long.state, long.attempts.len()),
        (301, State::Aborted, 2)
    );
    assert_eq!(
        (long.usage.input, long.usage.output, long.cost),
        (20, 200, 14)
    );
    assert_eq!(
        (long.provider.as_str(), long.started, long.duration),
        ("provider-2", 1_000_000, 1_000_000)
    );
}

#[test]
fn a_store_that_hangs_is_not_waited_for() {
    let (folder, runtime, shop) = (
        tempfile::tempdir().expect("a folder"),
        runtime(),
        Shop::new(Mode::Hangs),
    );
    let options = Options {
        slots: 50,
        store_patience: Duration::from_millis(300),
        ..options()
    };
    let ledger = Ledger::open(
        folder.path(),
        options,
        shop.clone(),
        runtime.handle().clone(),
    )
    .expect("a ledger");
    call(&ledger, "first");
    until("the store is asked", || {
        shop.asked.load(Ordering::SeqCst) > 0
    });
    let start = Instant::now();
    for number in 0..1000 {
        until("a slot", || ledger.stats().slots_taken < 50);
        call(&ledger, &format!("call-{number}"));
    }
    assert!(start.elapsed() < Duration::from_secs(5));
    until("all is written", || ledger.stats().slots_taken == 0);
    let stats = ledger.stats();
    assert_eq!((stats.waiting, stats.shipped), (1001, 0));
    assert!(stats.oldest_unshipped.is_some());
    shop.set(Mode::Well);
    assert_eq!(ledger.close(LONG).shipped, 1001);
}

#[test]
fn what_an_absent_store_did_not_take_the_next_process_ships() {
    let (folder, runtime, shop) = (
        tempfile::tempdir().expect("a folder"),
        runtime(),
        Shop::new(Mode::Away),
    );
    let open = || {
        Ledger::open(
            folder.path(),
            options(),
            shop.clone(),
            runtime.handle().clone(),
        )
        .expect("a ledger")
    };
    let ledger = open();
    (0..40).for_each(|number| call(&ledger, &format!("call-{number}")));
    let stats = ledger.close(Duration::from_millis(30));
    assert_eq!((stats.waiting, stats.shipped), (40, 0));
    shop.set(Mode::Well);
    assert_eq!(open().close(LONG).shipped, 40);
    assert_eq!((shop.rows().len(), files(folder.path(), ".log")), (40, 0));
}

#[test]
fn one_refused_row_is_put_aside_and_the_others_go_on() {
    let shop = Shop::new(Mode::Refuses("call-13".into()));
    let (folder, runtime) = (tempfile::tempdir().expect("a folder"), runtime());
    let ledger = Ledger::open(
        folder.path(),
        options(),
        shop.clone(),
        runtime.handle().clone(),
    )
    .expect("a ledger");
    (0..100).for_each(|number| call(&ledger, &format!("call-{number}")));
    let stats = ledger.close(LONG);
    assert_eq!(
        (stats.shipped, stats.quarantined, stats.waiting),
        (99, 1, 0)
    );
    assert_eq!(shop.rows().len(), 99);
    let kept = fs::read_to_string(folder.path().join("quarantine.log")).expect("a file");
    let kept: serde_json::Value = serde_json::from_str(&kept).expect("one line");
    assert_eq!(
        (&kept["row"]["id"], &kept["reason"]),
        (&"call-13".into(), &"not this".into())
    );
}

#[test]
fn slots_are_bounded_and_come_back() {
    let (folder, runtime, shop) = (
        tempfile::tempdir().expect("a folder"),
        runtime(),
        Shop::new(Mode::Well),
    );
    let options = Options {
        slots: 2,
        ..options()
    };
    let ledger = Ledger::open(
        folder.path(),
        options,
        shop.clone(),
        runtime.handle().clone(),
    )
    .expect("a ledger");
    let (first, second) = (
        ledger.reserve().expect("a slot"),
        ledger.reserve().expect("a slot"),
    );
    assert!(ledger.reserve().is_none());
    drop(first);
    let third = ledger.reserve().expect("a slot");
    assert!(ledger.reserve().is_none());
    third.intend(&intent("third", 1)).expect("room");
    third.settle(row("third"));
    drop(second);
    // Nothing was written for those that did nothing.
    assert_eq!(ledger.close(LONG).shipped, 1);
}

#[test]
fn calls_that_nobody_pays_fill_nothing() {
    let (folder, runtime, shop) = (
        tempfile::tempdir().expect("a folder"),
        runtime(),
        Shop::new(Mode::Well),
    );
    let options = Options {
        slots: 8,
        spares_per_second: 1,
        ..options()
    };
    let ledger = Ledger::open(
        folder.path(),
        options,
        shop.clone(),
        runtime.handle().clone(),
    )
    .expect("a ledger");
    let paid = [(); 2].map(|()| ledger.reserve().expect("a slot"));
    assert!(ledger.reserve_spare().is_none(), "a quarter is taken");
    drop(paid);
    let written = (0..1000).filter(|_| {
        let Some(slot) = ledger.reserve_spare() else {
            return false;
        };
        let id = slot.id(7);
        slot.settle_with(move || row(&id));
        // Its seat is free once it is written.
        until("a free slot", || ledger.stats().slots_taken == 0);
        true
    });
    let written = written.count();
    // One went to the one that found no room.
    assert!((9..=12).contains(&written), "{written}");
    let stats = ledger.close(LONG);
    assert_eq!(stats.passed_over, 1001 - written as u64);
    assert_eq!(stats.shipped, written as u64);
    assert_eq!(shop.rows().len(), written, "each has an id of its own");
}

#[test]
fn a_call_that_outlives_the_ledger_is_kept_for_the_next() {
    let (folder, runtime, shop) = (
        tempfile::tempdir().expect("a folder"),
        runtime(),
        Shop::new(Mode::Well),
    );
    let open = || {
        Ledger::open(
            folder.path(),
            options(),
            shop.clone(),
            runtime.handle().clone(),
        )
        .expect("a ledger")
    };
    let ledger = open();
    let settled = ledger.reserve().expect("a slot");
    settled.intend(&intent("late", 1)).expect("room");
    let dropped = ledger.reserve().expect("a slot");
    dropped.intend(&intent("dropped", 1)).expect("room");
    assert_eq!(ledger.close(LONG).slots_taken, 2);
    settled.settle(row("late"));
    drop(dropped);
    assert!(shop.rows().is_empty());
    assert_eq!(open().close(LONG).shipped, 2);
    let rows = shop.rows();
    assert_eq!(
        (rows["late"].state, rows["dropped"].state),
        (State::Reported, State::Aborted)
    );
}

#[test]
fn a_neighbour_that_lives_is_left_alone_and_one_that_ended_is_taken_over() {
    let (folder, runtime) = (tempfile::tempdir().expect("a folder"), runtime());
    let (away, well) = (Shop::new(Mode::Away), Shop::new(Mode::Well));
    let options = Options {
        look_again: Duration::from_millis(20),
        ..options()
    };
    let open = |shop: &Arc<Shop>| {
        Ledger::open(
            folder.path(),
            options.clone(),
            shop.clone(),
            runtime.handle().clone(),
        )
        .expect("a ledger")
    };
    let old = open(&away);
    call(&old, "old-1");
    let running = old.reserve().expect("a slot");
    running.intend(&intent("old-2", 1)).expect("room");
    let new = open(&well);
    call(&new, "new-1");
    until("its own row is shipped", || {
        well.rows().contains_key("new-1")
    });
    assert_eq!(well.rows().len(), 1);
    running.settle(row("old-2"));
    old.close(Duration::ZERO);
    until("the old one's rows are shipped", || well.rows().len() == 3);
    let stats = new.close(LONG);
    assert_eq!((stats.shipped, stats.aborted, well.again()), (3, 0, 0));
    assert_eq!(well.rows()["old-2"].state, State::Reported);
    assert_eq!(files(folder.path(), ".log"), 0);
}

#[test]
fn many_threads_write_one_log() {
    let (folder, runtime, shop) = (
        tempfile::tempdir().expect("a folder"),
        runtime(),
        Shop::new(Mode::Well),
    );
    let options = Options {
        segment_bytes: 8192,
        fsync: Fsync::Interval(Duration::from_millis(10)),
        ..options()
    };
    let ledger = Ledger::open(
        folder.path(),
        options,
        shop.clone(),
        runtime.handle().clone(),
    )
    .expect("a ledger");
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let ledger = &ledger;
            scope.spawn(move || {
                (0..200).for_each(|number| call(ledger, &format!("{thread}-{number}")))
            });
        }
    });
    let stats = ledger.close(LONG);
    assert_eq!((stats.shipped, stats.damaged, stats.torn), (1600, 0, 0));
    assert_eq!((shop.rows().len(), shop.again()), (1600, 0));
}

#[test]
fn fsync_always_writes_the_same() {
    let (folder, runtime, shop) = (
        tempfile::tempdir().expect("a folder"),
        runtime(),
        Shop::new(Mode::Well),
    );
    let options = Options {
        fsync: Fsync::Always,
        ..options()
    };
    let ledger = Ledger::open(
        folder.path(),
        options,
        shop.clone(),
        runtime.handle().clone(),
    )
    .expect("a ledger");
    (0..20).for_each(|number| call(&ledger, &format!("call-{number}")));
    assert_eq!(ledger.close(LONG).shipped, 20);
}

/// Run by hand, for the figure: what an intent costs its call.
#[test]
#[ignore = "a measurement"]
fn what_an_intent_costs() {
    let (folder, runtime, shop) = (
        tempfile::tempdir().expect("a folder"),
        runtime(),
        Shop::new(Mode::Well),
    );
    let options = Options {
        slots: 200_000,
        ..Options::default()
    };
    let ledger =
        Ledger::open(folder.path(), options, shop, runtime.handle().clone()).expect("a ledger");
    let intent = intent("0199f0a0-0000-7000-8000-000000000000", 1);
    let mut times = Vec::new();
    for _ in 0..100_000 {
        let slot = ledger.reserve().expect("a slot");
        let start = Instant::now();
        slot.intend(&intent).expect("room");
        times.push(start.elapsed());
        slot.settle(row("call"));
    }
    times.sort_unstable();
    let at = |share: usize| times[times.len() * share / 1000];
    let line = format!(
        "intend: p50 {:?}, p90 {:?}, p99 {:?}, p99.9 {:?}\n",
        at(500),
        at(900),
        at(990),
        at(999)
    );
    std::io::stderr()
        .write_all(line.as_bytes())
        .expect("standard error");
    ledger.close(LONG);
}
