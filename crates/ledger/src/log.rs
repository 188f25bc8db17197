//! This process's own segments: frames are appended by whoever has them, at one go, and segments die once nothing in them is needed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::Disk;
use crate::error::LedgerError;
use crate::frame::{Frames, Kind};
use crate::fresh::Place;
use crate::instance::{self, Instance};
use crate::record::Intent;

/// A call that keeps its segment for longer than so many further ones has its intents written anew.
const BEHIND: u64 = 3;

/// The segments of this process.
pub(crate) struct Log {
    instance: Instance,
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    /// Intents are refused beyond this.
    most_bytes: u64,
    /// There is a file whose name the disk may not have.
    is_new: AtomicBool,
    state: Mutex<State>,
}

struct State {
    active: Segment,
    older: VecDeque<Segment>,
    /// The intents of calls that have not ended, and where they are.
    open: HashMap<u64, Vec<Held>>,
    /// How many of those each segment holds.
    open_in: BTreeMap<u64, usize>,
    /// All segments' bytes.
    bytes: u64,
    /// Written since it was last asked for.
    unsynced: Vec<Arc<File>>,
}

struct Segment {
    number: u64,
    file: Arc<File>,
    length: u64,
}

struct Held {
    segment: u64,
    frame: Vec<u8>,
}

/// Why an intent is not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    /// The disk does not take it.
    #[error("{0}")]
    Disk(#[from] io::Error),
    /// Too much waits for the store.
    #[error("{0} bytes of it wait for the store")]
    Long(u64),
}

/// What there is to read behind a place.
pub(crate) enum More {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Nothing, and here never will be: this segment is next.
    Next(u64),
    /// Nothing yet.
    Wait,
}

impl Log {
    /// Begins one.
    pub(crate) fn new(
        instance: Instance,
        disk: Arc<dyn Disk>,
        segment_bytes: u64,
        most_bytes: u64,
    ) -> Result<Self, LedgerError> {
        let path = instance.segment(0);
        let active = Segment::new(&instance, 0).map_err(LedgerError::folder("create", &path))?;
        Ok(Self {
            instance,
            disk,
            segment_bytes,
            most_bytes,
            is_new: AtomicBool::new(true),
            state: Mutex::new(State {
                active,
                older: VecDeque::new(),
                open: HashMap::new(),
                open_in: BTreeMap::new(),
                bytes: 0,
                unsynced: Vec::new(),
            }),
        })
    }

    /// Whose it is.
    pub(crate) fn instance(&self) -> &Instance {
        &self.instance
    }

    /// All segments' bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.state().bytes
    }

    /// Writes what a call is about to do.
    pub(crate) fn intend(&self, call: u64, frame: Vec<u8>) -> Result<(), AppendError> {
        let mut state = self.state();
        if state.bytes >= self.most_bytes {
            return Err(AppendError::Long(state.bytes));
        }
        let segment = self.append(&mut state, &frame)?;
        *state.open_in.entry(segment).or_default() += 1;
        let held = Held { segment, frame };
        state.open.entry(call).or_default().push(held);
        Ok(())
    }

    /// Writes how calls ended, at one go; where the last frame ends.
    pub(crate) fn settle(
        &self,
        calls: impl Iterator<Item = u64>,
        frames: &[u8],
    ) -> io::Result<Place> {
        let mut state = self.state();
        let segment = self.append(&mut state, frames)?;
        calls.for_each(|call| state.close(call));
        Ok(Place {
            segment,
            offset: state.active.length,
        })
    }

    /// Forgets a call without a word.
    pub(crate) fn close(&self, call: u64) {
        self.state().close(call);
    }

    /// What a call was about to do.
    pub(crate) fn intents(&self, call: u64) -> Vec<Intent<'static>> {
        let state = self.state();
        let held = state.open.get(&call).into_iter().flatten();
        let frames = held.flat_map(|held| Frames::from(&held.frame, 0));
        let intents = frames.filter(|frame| frame.kind == Kind::Intent);
        intents
            .filter_map(|frame| serde_json::from_slice(frame.body).ok())
            .collect()
    }

    /// Has the disk keep what was written.
    pub(crate) fn sync(&self) {
        // Outside of the lock: who writes does not wait for it.
        let files = std::mem::take(&mut self.state().unsynced);
        let is_new = self.is_new.swap(false, Ordering::SeqCst);
        let folder = is_new.then(|| self.instance.sync_folder());
        let synced = files.iter().map(|file| file.sync_data());
        for error in synced.chain(folder).filter_map(Result::err) {
            tracing::warn!(%error, "the ledger's log cannot be synced");
        }
    }

    /// What there is in a segment from a place on, if it is more than was seen already.
    pub(crate) fn more(&self, number: u64, from: u64, seen: u64) -> io::Result<More> {
        let (length, next) = {
            let state = self.state();
            let later = |segment: &&Segment| segment.number > number;
            let active = Some(&state.active);
            let next = state.older.iter().chain(active).find(later);
            let next = next.map(|segment| segment.number);
            let all = state.older.iter().chain(active);
            let this = all.into_iter().find(|segment| segment.number == number);
            (this.map_or(0, |segment| segment.length), next)
        };
        if length <= seen {
            return Ok(next.map_or(More::Wait, More::Next));
        }
        let mut file = File::open(self.instance.segment(number))?;
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(length.saturating_sub(from))
            .read_to_end(&mut bytes)?;
        Ok(More::Bytes(bytes))
    }

    /// Deletes segments whose rows are all shipped, oldest first: those before a number.
    pub(crate) fn shipped_before(&self, number: u64) {
        loop {
            let mut state = self.state();
            let Some(oldest) = state.older.front().map(|oldest| oldest.number) else {
                return;
            };
            if oldest >= number {
                return;
            }
            let holds = state.open_in.contains_key(&oldest);
            let is_behind = state.active.number.saturating_sub(oldest) > BEHIND;
            if holds && !(is_behind && self.carry(&mut state, oldest)) {
                return;
            }
            if let Some(segment) = state.older.pop_front() {
                state.bytes = state.bytes.saturating_sub(segment.length);
            }
            drop(state);
            instance::remove(&self.instance.segment(oldest));
        }
    }

    /// Removes it whole where nothing in it is needed: nothing more is written then.
    pub(crate) fn remove(&self) -> bool {
        let state = self.state();
        if !state.open.is_empty() {
            return false;
        }
        for segment in state.older.iter().chain(Some(&state.active)) {
            instance::remove(&self.instance.segment(segment.number));
        }
        self.instance.remove();
        true
    }

    /// Writes the intents of a segment anew; whether all are.
    fn carry(&self, state: &mut State, from: u64) -> bool {
        let is_there = |held: &Vec<Held>| held.iter().any(|held| held.segment == from);
        let calls = state.open.iter().filter(|(_, held)| is_there(held));
        let calls: Vec<u64> = calls.map(|(call, _)| *call).collect();
        for call in calls {
            let mut all = state.open.remove(&call).unwrap_or_default();
            let mut whole = true;
            for held in all.iter_mut().filter(|held| held.segment == from) {
                let Ok(segment) = self.append(state, &held.frame) else {
                    whole = false;
                    break;
                };
                state.let_go(from);
                *state.open_in.entry(segment).or_default() += 1;
                held.segment = segment;
            }
            state.open.insert(call, all);
            if !whole {
                return false;
            }
        }
        true
    }

    /// Writes at the end; in which segment.
    fn append(&self, state: &mut State, frame: &[u8]) -> io::Result<u64> {
        if state.active.length >= self.segment_bytes {
            self.roll(state);
        }
        let taken = self.disk.append(&state.active.file, frame)?;
        if taken < frame.len() {
            // Half a frame is taken back; where it cannot be, readers step over it.
            if state.active.file.set_len(state.active.length).is_err() {
                state.active.length += taken as u64;
                state.bytes += taken as u64;
            }
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("{taken} of {} bytes were written", frame.len()),
            ));
        }
        state.active.length += frame.len() as u64;
        state.bytes += frame.len() as u64;
        if state
            .unsynced
            .last()
            .is_none_or(|last| !Arc::ptr_eq(last, &state.active.file))
        {
            state.unsynced.push(Arc::clone(&state.active.file));
        }
        Ok(state.active.number)
    }

    fn roll(&self, state: &mut State) {
        // Where no new file can be made, the old one goes on.
        let Ok(next) = Segment::new(&self.instance, state.active.number + 1) else {
            return;
        };
        self.is_new.store(true, Ordering::SeqCst);
        let old = std::mem::replace(&mut state.active, next);
        state.older.push_back(old);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Segment {
    fn new(instance: &Instance, number: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options
            .append(true)
            .create_new(true)
            .open(instance.segment(number))?;
        Ok(Self {
            number,
            file: Arc::new(file),
            length: 0,
        })
    }
}

impl State {
    fn close(&mut self, call: u64) {
        for held in self.open.remove(&call).into_iter().flatten() {
            self.let_go(held.segment);
        }
    }

    fn let_go(&mut self, segment: u64) {
        if let Some(count) = self.open_in.get_mut(&segment) {
            *count -= 1;
            if *count == 0 {
                self.open_in.remove(&segment);
            }
        }
    }
}
