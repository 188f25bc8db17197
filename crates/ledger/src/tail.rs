//! Follows this process's own log behind those who write it: rows still at hand are taken, others read.

use std::io;

use polygate_store::usage::CallRow;

use crate::frame::{Frames, Kind};
use crate::fresh::{Fresh, Place};
use crate::log::{Log, More};

/// How far the log is read.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    segment: u64,
    /// Where the buffer begins in the segment.
    base: u64,
    buffer: Vec<u8>,
    at: usize,
    damaged: u64,
}

impl Tail {
    /// The segment that is read: those before it are done with.
    pub(crate) fn segment(&self) -> u64 {
        self.segment
    }

    /// So many damaged stretches were met since this was last asked.
    pub(crate) fn take_damaged(&mut self) -> u64 {
        std::mem::take(&mut self.damaged)
    }

    /// The next rows, so many at most; none where all are read.
    pub(crate) fn next(
        &mut self,
        log: &Log,
        fresh: &Fresh,
        most: usize,
    ) -> io::Result<Vec<CallRow>> {
        match fresh.take(self.place(), most) {
            Some((rows, end)) => {
                self.go_on(end);
                Ok(rows)
            }
            None => self.read(log, most),
        }
    }

    fn place(&self) -> Place {
        Place {
            segment: self.segment,
            offset: self.base + self.at as u64,
        }
    }

    /// From there on.
    fn go_on(&mut self, from: Place) {
        *self = Self {
            segment: from.segment,
            base: from.offset,
            damaged: self.damaged,
            ..Self::default()
        };
    }

    fn read(&mut self, log: &Log, most: usize) -> io::Result<Vec<CallRow>> {
        let mut rows = Vec::new();
        loop {
            self.scan(most, &mut rows);
            if rows.len() >= most {
                return Ok(rows);
            }
            let from = self.place().offset;
            let seen = self.base + self.buffer.len() as u64;
            match log.more(self.segment, from, seen) {
                Ok(More::Bytes(bytes)) => {
                    self.base = from;
                    self.buffer = bytes;
                    self.at = 0;
                }
                Ok(More::Next(segment)) => {
                    self.damaged += u64::from(self.at < self.buffer.len());
                    self.go_on(Place { segment, offset: 0 });
                }
                Ok(More::Wait) => return Ok(rows),
                // What was read is shipped first, and this tried again.
                Err(_) if !rows.is_empty() => return Ok(rows),
                Err(error) => return Err(error),
            }
        }
    }

    fn scan(&mut self, most: usize, rows: &mut Vec<CallRow>) {
        let mut frames = Frames::from(&self.buffer, self.at);
        while rows.len() < most {
            let Some(frame) = frames.next() else {
                break;
            };
            self.at = frame.end;
            if frame.kind == Kind::Settled {
                match serde_json::from_slice(frame.body) {
                    Ok(row) => rows.push(row),
                    Err(_) => self.damaged += 1,
                }
            }
        }
        self.damaged += frames.damaged();
    }
}
