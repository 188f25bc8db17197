//! A stream whose events guards look at before they go out.

use bytes::Bytes;
use polygate_core::Failure;

use super::Relay;
use crate::guard::Guarded;
use crate::guard::stream::Stream;
use crate::lane::Output;

/// Looks at what the client gets.
pub(super) struct Guard {
    stream: Stream,
    /// What has passed.
    out: Output,
}

impl Relay {
    /// From here on guards look at what goes out: nothing has.
    pub fn guard(&mut self, guarded: &Guarded) {
        let is_array = !self.lane.takes_comments();
        self.guard = Some(Box::new(Guard {
            stream: guarded.stream(is_array),
            out: Output::default(),
        }));
    }

    /// What goes out next.
    pub(super) fn next_piece(&mut self) -> Option<Bytes> {
        let Some(guard) = &mut self.guard else {
            return self.out.pop();
        };
        if let Err(failure) = guard.pass(&mut self.out) {
            self.refuse(failure);
            return self.out.pop();
        }
        guard.out.pop()
    }

    /// Nothing follows: what was held back goes out.
    pub(super) fn finish_guard(&mut self) {
        let Some(guard) = &mut self.guard else {
            return;
        };
        let passed = guard.pass(&mut self.out);
        let passed = passed.and_then(|()| guard.stream.finish(&mut guard.out));
        match passed {
            Ok(()) => self.let_guard_go(),
            Err(failure) => self.refuse(failure),
        }
    }

    /// What guards did is told.
    pub(super) fn note_guard(&mut self) {
        if let (Some(guard), Some(recorder)) = (&self.guard, &mut self.recorder) {
            let acted = guard.stream.doings().acted();
            recorder.update(|record| record.guards.extend_from_slice(acted));
        }
    }

    /// A guard does not let the answer go on: it ends as a failed one does, though it is paid.
    fn refuse(&mut self, failure: Failure) {
        if let Some(guard) = &mut self.guard {
            guard.stream.give_up(&mut guard.out);
        }
        self.let_guard_go();
        self.fail_for_good(failure.clone());
        // Whatever else failed meanwhile is nobody's business.
        self.failure = Some(failure);
    }

    fn let_guard_go(&mut self) {
        self.note_guard();
        if let Some(guard) = self.guard.take() {
            self.out = guard.out;
        }
    }
}

impl Guard {
    fn pass(&mut self, from: &mut Output) -> Result<(), Failure> {
        while let Some(block) = from.pop() {
            self.stream.block(block, &mut self.out)?;
        }
        Ok(())
    }
}
