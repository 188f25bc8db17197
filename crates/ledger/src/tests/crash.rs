//! Logs that were cut off anywhere: every settled call is there once, every other one aborted, and nothing is a panic.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use polygate_store::usage::State;
use rand::RngExt;

use super::stand_in::{Mode, Shop, files, intent, options, row, runtime};
use crate::Ledger;
use crate::frame::{Kind, encode};
use crate::replay::Replay;

const LONG: Duration = Duration::from_secs(20);

/// A written log: each frame's end, whose it is, and whether it settles.
#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    frames: Vec<(usize, String, bool)>,
}

impl Written {
    /// So many calls, with up to three attempts each, in any order.
    fn random(calls: usize) -> Self {
        let mut random = rand::rng();
        let mut written = Self::default();
        // (call, attempts made, attempts to make, whether it will be settled)
        let mut running: Vec<(String, u32, u32, bool)> = Vec::new();
        let mut begun = 0;
        while begun < calls || !running.is_empty() {
            if begun < calls && (running.is_empty() || random.random_bool(0.4)) {
                let attempts = random.random_range(1..=3);
                running.push((
                    format!("call-{begun}"),
                    0,
                    attempts,
                    random.random_bool(0.8),
                ));
                begun += 1;
            }
            let place = random.random_range(0..running.len());
            let (id, made, all, settles) = &mut running[place];
            if made < all {
                *made += 1;
                let frame = encode(Kind::Intent, &intent(id, *made));
                written.push(&frame.expect("a frame"), id, false);
            } else {
                if *settles {
                    written.push(&encode(Kind::Settled, &row(id)).expect("a frame"), id, true);
                }
                running.swap_remove(place);
            }
        }
        written
    }

    fn push(&mut self, frame: &[u8], id: &str, settles: bool) {
        self.bytes.extend(frame);
        self.frames.push((self.bytes.len(), id.to_owned(), settles));
    }

    /// What is known of the calls by those frames that a reader has.
    fn expected(&self, has: impl Fn(usize) -> bool) -> BTreeMap<String, (State, usize)> {
        let mut expected: BTreeMap<String, (State, usize)> = BTreeMap::new();
        for (number, (_, id, settles)) in self.frames.iter().enumerate() {
            let known = expected.get(id).copied();
            match (has(number), settles) {
                (false, _) => continue,
                (true, true) => expected.insert(id.clone(), (State::Reported, 1)),
                (true, false) => {
                    let attempts = known.map_or(0, |(_, attempts)| attempts);
                    expected.insert(id.clone(), (State::Aborted, attempts + 1))
                }
            };
        }
        expected
    }

    fn until(&self, cut: usize) -> BTreeMap<String, (State, usize)> {
        self.expected(|number| self.frames[number].0 <= cut)
    }
}

/// What a store has after the log was replayed by a process that starts.
fn shipped(folder: &Path) -> (BTreeMap<String, (State, usize)>, u64) {
    let (runtime, shop) = (runtime(), Shop::new(Mode::Well));
    let ledger = Ledger::open(folder, options(), shop.clone(), runtime.handle().clone());
    let stats = ledger.expect("a ledger").close(LONG);
    assert_eq!((shop.again(), stats.waiting), (0, 0));
    assert_eq!(files(folder, ".log"), 0);
    let rows = shop.rows().into_iter();
    let rows = rows.map(|(id, row)| (id, (row.state, row.attempts.len())));
    (rows.collect(), stats.damaged)
}

#[test]
fn a_small_log_may_end_at_every_byte() {
    let written = Written::random(12);
    for cut in 0..=written.bytes.len() {
        let mut replay = Replay::default();
        let mut rows = replay.segment(&written.bytes[..cut]);
        rows.extend(replay.aborted());
        let all = rows.len();
        let rows = rows.into_iter();
        let rows = rows.map(|row| (row.id, (row.state, row.attempts.len())));
        let rows: BTreeMap<_, _> = rows.collect();
        assert_eq!(
            (rows.len(), replay.damaged),
            (all, 0),
            "twice, or damaged, at {cut}"
        );
        assert_eq!(rows, written.until(cut), "cut at {cut}");
        let is_whole = cut == 0 || written.frames.iter().any(|frame| frame.0 == cut);
        assert_eq!(replay.torn == 0, is_whole, "cut at {cut}");
    }
}

#[test]
fn a_crash_at_any_of_a_hundred_points_loses_nothing() {
    for round in 0..100 {
        let folder = tempfile::tempdir().expect("a folder");
        let mut random = rand::rng();
        let written = Written::random(random.random_range(1..120));
        let cut = random.random_range(0..=written.bytes.len());
        // In segments, as they are rolled: between frames.
        let ends = written.frames.iter().map(|frame| frame.0);
        let mut ends: Vec<usize> = ends
            .filter(|end| *end < cut && random.random_bool(0.05))
            .collect();
        ends.push(cut);
        let mut start = 0;
        for (number, end) in ends.into_iter().enumerate() {
            let name = format!("{:032x}-{number}.log", 7);
            fs::write(folder.path().join(name), &written.bytes[start..end]).expect("a file");
            start = end;
        }
        let (rows, damaged) = shipped(folder.path());
        assert_eq!(damaged, 0, "round {round}");
        assert_eq!(rows, written.until(cut), "round {round}, cut at {cut}");
    }
}

#[test]
fn a_damaged_byte_costs_one_frame_and_is_counted() {
    for round in 0..100 {
        let folder = tempfile::tempdir().expect("a folder");
        let mut random = rand::rng();
        let mut written = Written::random(20);
        let place = random.random_range(0..written.bytes.len());
        written.bytes[place] ^= random.random_range(1..=255_u8);
        let hit = written
            .frames
            .iter()
            .filter(|frame| frame.0 <= place)
            .count();
        fs::write(
            folder.path().join(format!("{:032x}-0.log", 7)),
            &written.bytes,
        )
        .expect("a file");
        let (rows, damaged) = shipped(folder.path());
        assert_eq!(
            rows,
            written.expected(|number| number != hit),
            "round {round}"
        );
        assert_eq!(
            damaged,
            u64::from(hit + 1 < written.frames.len()),
            "round {round}"
        );
    }
}

#[test]
fn what_is_no_log_is_no_panic_and_other_files_are_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let write =
        |name: String, bytes: &[u8]| fs::write(folder.path().join(name), bytes).expect("a file");
    write(
        format!("{:032x}-0.log", 1),
        b"\xF5PG\x01\xFF\xFF\xFF\xFF0000\x01",
    );
    write(format!("{:032x}-3.log", 1), &[0; 5000]);
    write(format!("{:032x}-0.log", 2), b"");
    write(format!("{:032x}.lock", 3), b"");
    write("notes-1.log.txt".into(), b"mine");
    write("mine-1.lock".into(), b"mine");
    let (rows, _) = shipped(folder.path());
    assert!(rows.is_empty());
    assert_eq!(
        (files(folder.path(), ".lock"), files(folder.path(), ".txt")),
        (1, 1)
    );
}

#[test]
fn what_a_later_version_wrote_is_put_aside() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut written = Written::default();
    written.push(
        &encode(Kind::Settled, &row("before")).expect("a frame"),
        "before",
        true,
    );
    written.push(
        &encode(Kind::Unknown(9), &"new kind").expect("a frame"),
        "",
        true,
    );
    written.push(
        &encode(Kind::Settled, &"new row").expect("a frame"),
        "",
        true,
    );
    written.push(
        &encode(Kind::Settled, &row("after")).expect("a frame"),
        "after",
        true,
    );
    let path = folder.path().join(format!("{:032x}-0.log", 7));
    fs::write(path, &written.bytes).expect("a file");
    let (rows, damaged) = shipped(folder.path());
    assert_eq!((rows.len(), damaged), (2, 0));
    let kept = fs::read_to_string(folder.path().join("quarantine.log")).expect("a file");
    assert_eq!(kept.lines().count(), 2);
    assert!(
        kept.contains("new kind") && kept.contains("new row"),
        "{kept}"
    );
}

#[test]
fn an_intent_that_was_written_anew_counts_once() {
    let frame = encode(Kind::Intent, &intent("long", 1)).expect("a frame");
    let mut replay = Replay::default();
    replay.segment(&frame);
    replay.segment(&frame);
    let rows = replay.aborted();
    assert_eq!((rows.len(), rows[0].attempts.len()), (1, 1));
}

#[test]
fn an_intent_is_kept_until_the_store_has_its_row() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |number| folder.path().join(format!("{:032x}-{number}.log", 7));
    let intent = encode(Kind::Intent, &intent("cut-off", 1)).expect("a frame");
    let settled = encode(Kind::Settled, &row("other")).expect("a frame");
    fs::write(path(0), intent).expect("a file");
    fs::write(path(1), settled).expect("a file");
    let (runtime, shop) = (runtime(), Shop::new(Mode::Away));
    let ledger = Ledger::open(folder.path(), options(), shop, runtime.handle().clone());
    let stats = ledger.expect("a ledger").close(Duration::from_millis(200));
    assert_eq!((stats.waiting, stats.shipped), (1, 0));
    assert!(path(0).exists() && path(1).exists());
    let (rows, _) = shipped(folder.path());
    assert_eq!(rows["cut-off"], (State::Aborted, 1));
}
