//! A client's stream past the guards: the same events in the same order, other texts in them.
//!
//! An event is held back as long as it is open what becomes of its text, and those behind it with it. So no event is made up, numbers
//! and order stay as they are, and what the texts add up to does not depend on how they were cut.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use bytes::Bytes;
use polygate_core::Failure;
use polygate_wire::{Format, Frame, array, sse};

use super::body::{self, Side, spliced};
use super::channel::Channel;
use super::events::{self, Ends, Event, Key};
use super::json::{Places, escaped, unescaped};
use super::placeholder::Restoring;
use super::scan::{Edit, Scan};
use super::{Doings, Watch, blocked};
use crate::lane::Output;

/// The most bytes of events that are held back: beyond that texts count as if they ended there.
const MOST_HELD: usize = 4 * 1024 * 1024;

/// A stream on its way to its client.
pub struct Stream {
    format: Format,
    is_array: bool,
    watch: Watch,
    doings: Doings,
    texts: BTreeMap<Key, Text>,
    held: VecDeque<Held>,
    /// The number of the first that is held.
    first: usize,
    bytes: usize,
    /// Something has gone out.
    has_begun: bool,
}

/// A text that comes in pieces.
struct Text {
    channel: Channel,
    /// How much of it has come.
    end: usize,
    pieces: VecDeque<Piece>,
    edits: VecDeque<Edit>,
}

/// A piece of a text, and where it stands.
struct Piece {
    /// The number of its event.
    event: usize,
    /// Of the text.
    range: Range<usize>,
    /// Where the inside of its string begins in the event's data.
    from: usize,
    /// Where its signs stand there, where that is not as they are.
    places: Option<Places>,
}

/// An event that is held back.
struct Held {
    /// The frame, or the element with what stands before it.
    raw: Bytes,
    /// Its data.
    data: Range<usize>,
    edits: Vec<Edit>,
    /// So many pieces of texts in it are open.
    open: usize,
}

impl Stream {
    /// In this format; elements of an array, or events.
    pub fn new(format: Format, is_array: bool, watch: Watch, doings: Doings) -> Self {
        Self {
            format,
            is_array,
            watch,
            doings,
            texts: BTreeMap::new(),
            held: VecDeque::new(),
            first: 0,
            bytes: 0,
            has_begun: false,
        }
    }

    /// From here on this is put back too.
    pub fn restore_also(&mut self, restoring: &Restoring) {
        self.watch = self.watch.also(restoring);
    }

    /// Something has gone out that nobody here saw.
    pub fn has_begun(&mut self) {
        self.has_begun = true;
    }

    /// How many events have come.
    pub fn came(&self) -> usize {
        self.first + self.held.len()
    }

    /// How many of them went out.
    pub fn passed(&self) -> usize {
        self.first
    }

    /// What the guards did.
    pub fn doings(&self) -> &Doings {
        &self.doings
    }

    /// A block of whole events; what of them is decided goes out. `Err`: the answer is not to go on.
    pub fn block(&mut self, block: Bytes, out: &mut Output) -> Result<(), Failure> {
        let block = readable(block);
        if self.is_array {
            self.elements(&block)?;
        } else {
            for raw in sse::frames(&block) {
                // Signs of life say nothing, and wait for nothing.
                match raw.starts_with(b":") && Frame::parse(&raw).is_empty() {
                    true => out.push(raw),
                    false => self.frame(raw)?,
                }
            }
        }
        if self.bytes > MOST_HELD {
            self.end(&Ends::All);
        }
        self.release(out)
    }

    /// Nothing follows.
    pub fn finish(&mut self, out: &mut Output) -> Result<(), Failure> {
        self.end(&Ends::All);
        self.release(out)
    }

    /// Drops what is held back; whether anything went out before.
    pub fn give_up(&mut self) -> bool {
        self.held.clear();
        self.texts.clear();
        self.has_begun
    }

    fn frame(&mut self, raw: Bytes) -> Result<(), Failure> {
        let frame = Frame::parse(&raw);
        let data = frame.data.trim_ascii();
        if data == b"[DONE]" {
            self.end(&Ends::All);
        }
        if data.is_empty() || data == b"[DONE]" {
            self.hold(raw, 0..0);
            return Ok(());
        }
        let base = raw.as_ptr() as usize;
        let start = (data.as_ptr() as usize).wrapping_sub(base);
        if start < raw.len() {
            let range = start..start + data.len();
            return self.event(raw.clone(), range);
        }
        // Data on several lines is one line from here on: line ends stand between its tokens only.
        let name = frame.event.map(|name| format!("event: {name}\n"));
        let head = format!("{}data: ", name.unwrap_or_default());
        let line: Vec<u8> = data
            .iter()
            .map(|b| if *b == b'\n' { b' ' } else { *b })
            .collect();
        let range = head.len()..head.len() + line.len();
        self.event([head.as_bytes(), &line, b"\n\n"].concat().into(), range)
    }

    fn elements(&mut self, block: &Bytes) -> Result<(), Failure> {
        let (base, mut from) = (block.as_ptr() as usize, 0);
        for element in array::elements(block) {
            let start = (element.as_ptr() as usize).saturating_sub(base);
            let end = start + element.len();
            self.event(block.slice(from..end), start - from..end - from)?;
            from = end;
        }
        if from < block.len() {
            self.end(&Ends::All);
            self.hold(block.slice(from..), 0..0);
        }
        Ok(())
    }

    fn hold(&mut self, raw: Bytes, data: Range<usize>) {
        self.bytes += raw.len();
        self.held.push_back(Held {
            raw,
            data,
            edits: Vec::new(),
            open: 0,
        });
    }

    /// An event whose data stands in this range.
    fn event(&mut self, raw: Bytes, data: Range<usize>) -> Result<(), Failure> {
        let number = self.came();
        self.hold(raw.clone(), data.clone());
        let Ok(text) = std::str::from_utf8(raw.get(data).unwrap_or_default()) else {
            return Ok(());
        };
        let Event { deltas, ends } = events::read(self.format, text);
        let base = text.as_ptr() as usize;
        let mut strings = Vec::with_capacity(deltas.len());
        for delta in deltas {
            let quoted = delta.string.get();
            let from = (quoted.as_ptr() as usize).saturating_sub(base) + 1;
            let inside = quoted.get(1..quoted.len() - 1).unwrap_or_default();
            strings.push(from);
            self.end_others(&delta.key);
            let text = self.texts.entry(delta.key).or_insert_with(|| Text {
                channel: Channel::new(delta.kind),
                end: 0,
                pieces: VecDeque::new(),
                edits: VecDeque::new(),
            });
            let (said, places) = unescaped(inside);
            let range = text.end..text.end + said.len();
            text.end = range.end;
            text.pieces.push_back(Piece {
                event: number,
                range,
                from,
                places,
            });
            if let Some(held) = self.held.back_mut() {
                held.open += 1;
            }
            let mut edits = Vec::new();
            text.channel
                .push(&self.watch, &said, &mut self.doings, &mut edits);
            text.edits.extend(edits);
        }
        self.others(text, &strings)?;
        self.end(&ends);
        self.settle();
        Ok(())
    }

    /// All texts of an event that stand in it whole.
    fn others(&mut self, text: &str, strings: &[usize]) -> Result<(), Failure> {
        let (side, format) = (Side::Answer, self.format);
        let mut again = self.doings.again();
        // Events of Responses say whole what was said in pieces: that counts once.
        let repeats = format == Format::OpenaiResponses;
        let doings = if repeats {
            &mut again
        } else {
            &mut self.doings
        };
        let edits = match text.starts_with(['{', '[', '"']) {
            true => body::edits(text, format, side, strings, &self.watch, doings)?,
            false => Scan::default().whole(&self.watch, text, doings),
        };
        self.doings.blocked = self.doings.blocked.take().or(again.blocked);
        if let Some(held) = self.held.back_mut() {
            held.edits.extend(edits);
        }
        Ok(())
    }

    /// Where a text goes on, others of the same choice, item or block are over.
    fn end_others(&mut self, key: &Key) {
        let is_other = |other: &&Key| events::excludes(key, other);
        let others: Vec<Key> = self.texts.keys().filter(is_other).cloned().collect();
        for other in others {
            self.end_text(&other);
        }
    }

    fn end(&mut self, ends: &Ends) {
        let is_over = |key: &&Key| match ends {
            Ends::None => false,
            Ends::Of(numbers) => numbers.contains(&key.0),
            Ends::All => true,
        };
        let over: Vec<Key> = self.texts.keys().filter(is_over).cloned().collect();
        for key in over {
            self.end_text(&key);
        }
    }

    fn end_text(&mut self, key: &Key) {
        let Some(mut text) = self.texts.remove(key) else {
            return;
        };
        let mut edits = Vec::new();
        text.channel
            .finish(&self.watch, &mut self.doings, &mut edits);
        text.edits.extend(edits);
        let end = text.end;
        text.settle(end, self.first, &mut self.held);
    }

    fn settle(&mut self) {
        for text in self.texts.values_mut() {
            text.settle(text.channel.decided(), self.first, &mut self.held);
        }
    }

    /// What is decided goes out, in order.
    fn release(&mut self, out: &mut Output) -> Result<(), Failure> {
        if let Some(guard) = &self.doings.blocked {
            return Err(blocked(guard, Side::Answer));
        }
        while let Some(held) = self.held.pop_front_if(|held| held.open == 0) {
            self.first += 1;
            self.bytes -= held.raw.len();
            self.has_begun = true;
            out.push(held.written(self.format));
        }
        Ok(())
    }
}

/// As clients read it: what is no text stands for nothing that a guard could find.
fn readable(block: Bytes) -> Bytes {
    match std::str::from_utf8(&block) {
        Ok(_) => block,
        Err(_) => String::from_utf8_lossy(&block).into_owned().into(),
    }
}

/// What a stream says, text by text.
pub(super) fn said(format: Format, bytes: &Bytes, is_array: bool) -> Vec<String> {
    let data: Vec<Bytes> = match is_array {
        true => array::elements(bytes).collect(),
        false => sse::frames(bytes)
            .map(|raw| Bytes::from(Frame::parse(&raw).data.into_owned()))
            .collect(),
    };
    let mut said: Vec<(Key, String)> = Vec::new();
    for data in &data {
        let Ok(data) = std::str::from_utf8(data) else {
            continue;
        };
        for delta in events::read(format, data).deltas {
            let quoted = delta.string.get();
            let text = unescaped(quoted.get(1..quoted.len() - 1).unwrap_or_default()).0;
            match said.iter_mut().find(|(key, _)| *key == delta.key) {
                Some((_, so_far)) => so_far.push_str(&text),
                None => said.push((delta.key, text.into_owned())),
            }
        }
    }
    said.into_iter().map(|(_, text)| text).collect()
}

impl Text {
    /// Everything before this place is decided: what it came to goes into the events.
    fn settle(&mut self, decided: usize, first: usize, held: &mut VecDeque<Held>) {
        while let Some(piece) = self.pieces.pop_front_if(|piece| piece.range.end <= decided) {
            while self
                .edits
                .pop_front_if(|edit| edit.range.end <= piece.range.start)
                .is_some()
            {}
            let Some(held) = held.get_mut(piece.event - first) else {
                continue;
            };
            held.open -= 1;
            let in_piece = self.edits.iter();
            let in_piece = in_piece.take_while(|edit| edit.range.start < piece.range.end);
            held.edits.extend(in_piece.map(|edit| piece.edit(edit)));
        }
    }
}

impl Piece {
    /// What of an edit of the text is this piece's: what takes its place stands where it begins.
    fn edit(&self, edit: &Edit) -> Edit {
        let is_begun_here = edit.range.start >= self.range.start;
        let inside = edit.range.start.max(self.range.start) - self.range.start
            ..edit.range.end.min(self.range.end) - self.range.start;
        let range = match &self.places {
            Some(places) => places.stretch(&inside),
            None => inside,
        };
        let with = if is_begun_here {
            escaped(&edit.with).into_owned()
        } else {
            String::new()
        };
        Edit {
            range: self.from + range.start..self.from + range.end,
            with,
        }
    }
}

impl Held {
    fn written(mut self, format: Format) -> Bytes {
        if self.edits.is_empty() {
            return self.raw;
        }
        let data = self.raw.get(self.data.clone()).unwrap_or_default();
        let Ok(text) = std::str::from_utf8(data) else {
            return self.raw;
        };
        for edit in body::silent(text, format, Side::Answer) {
            if !self.edits.contains(&edit) {
                self.edits.push(edit);
            }
        }
        self.edits.sort_by_key(|edit| edit.range.start);
        let written = spliced(text, &self.edits);
        let (before, after) = (
            self.raw.slice(..self.data.start),
            self.raw.slice(self.data.end..),
        );
        [&*before, written.as_bytes(), &*after].concat().into()
    }
}
