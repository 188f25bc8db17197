//! A full disk: no new call is taken, and none that was paid is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::stand_in::{Mode, Shop, Small, intent, options, row, runtime, until};
use crate::{Ledger, LedgerError, Options};

const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_full_disk_sheds_new_calls_and_settles_the_running() {
    let (folder, runtime, shop) = (
        tempfile::tempdir().expect("a folder"),
        runtime(),
        Shop::new(Mode::Well),
    );
    let disk = Arc::new(Small(AtomicU64::new(4096 + 5000)));
    let ledger = Ledger::open_on(
        folder.path(),
        options(),
        shop.clone(),
        runtime.handle().clone(),
        disk.clone(),
    )
    .expect("a ledger");
    let mut running = Vec::new();
    let error = loop {
        let slot = ledger.reserve().expect("a slot");
        let id = format!("call-{}", running.len());
        match slot.intend(&intent(&id, 1)) {
            Ok(()) => running.push((id, slot)),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, LedgerError::Full(_)), "{error}");
    assert!(running.len() > 8, "{}", running.len());
    until("no slot is given", || ledger.reserve().is_none());
    let calls = running.len();
    running
        .into_iter()
        .for_each(|(id, slot)| slot.settle(row(&id)));
    // The reserve has room for some: those are shipped, the others keep their slots.
    until("some are shipped", || ledger.stats().shipped > 0);
    let stats = ledger.stats();
    assert!(
        stats.full && stats.slots_taken > 0 && stats.slots_taken < calls,
        "{stats:?}"
    );
    assert!(ledger.reserve().is_none());
    disk.0.fetch_add(1 << 20, Ordering::SeqCst);
    until("all are shipped", || ledger.stats().shipped == calls as u64);
    until("calls are taken again", || ledger.reserve().is_some());
    let stats = ledger.close(LONG);
    assert_eq!((stats.aborted, stats.damaged, shop.again()), (0, 0, 0));
    let wrong = shop
        .rows()
        .into_iter()
        .filter(|(id, kept)| *kept != row(id));
    assert_eq!((shop.rows().len(), wrong.count()), (calls, 0));
}

#[test]
fn a_log_that_waits_for_too_long_takes_no_intents_but_settlements() {
    let (folder, runtime, shop) = (
        tempfile::tempdir().expect("a folder"),
        runtime(),
        Shop::new(Mode::Away),
    );
    let options = Options {
        most_bytes: 4000,
        ..options()
    };
    let ledger = Ledger::open(
        folder.path(),
        options,
        shop.clone(),
        runtime.handle().clone(),
    )
    .expect("a ledger");
    let mut running = Vec::new();
    let error = loop {
        let slot = ledger.reserve().expect("a slot");
        let id = format!("call-{}", running.len());
        match slot.intend(&intent(&id, 1)) {
            Ok(()) => running.push((id, slot)),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("wait for the store"), "{error}");
    let calls = running.len() as u64;
    running
        .into_iter()
        .for_each(|(id, slot)| slot.settle(row(&id)));
    until("all are written", || ledger.stats().waiting == calls);
    shop.set(Mode::Well);
    assert_eq!(ledger.close(LONG).shipped, calls);
}

#[test]
fn a_disk_that_is_full_at_the_start_takes_no_calls_until_it_has_room() {
    let (folder, runtime, shop) = (
        tempfile::tempdir().expect("a folder"),
        runtime(),
        Shop::new(Mode::Well),
    );
    let disk = Arc::new(Small(AtomicU64::new(10)));
    let ledger = Ledger::open_on(
        folder.path(),
        options(),
        shop,
        runtime.handle().clone(),
        disk.clone(),
    )
    .expect("a ledger");
    assert!(ledger.reserve().is_none());
    disk.0.fetch_add(1 << 20, Ordering::SeqCst);
    until("calls are taken", || ledger.reserve().is_some());
    ledger.close(LONG);
}
