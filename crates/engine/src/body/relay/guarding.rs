//! A stream whose events guards look at before they go out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use polygate_core::Failure;

use super::{Relay, Silence};
use crate::guard::stream::Stream;
use crate::guard::{Acted, Guarded, unseen};
use crate::lane::Output;
use crate::observe::Recorder;

/// The most of a stream that is held until somebody who is asked about it has answered.
const MOST_HELD: usize = 1024 * 1024;

/// Looks at what the client gets.
pub(super) struct Guard {
    stream: Stream,
    /// What has passed.
    out: Output,
    is_array: bool,
    judge: Option<Judge>,
}

/// Somebody is asked about the whole of it: until then nothing goes out but signs of life.
struct Judge {
    guarded: Arc<Guarded>,
    signs: Output,
    /// All of it, and the question.
    asked: Option<(Bytes, Asking)>,
}

/// What guards did about the whole of it, and whether they let it through.
type Judged = (Vec<Acted>, Result<(), Failure>);

type Asking = Pin<Box<dyn Future<Output = Judged> + Send>>;

impl Relay {
    /// From here on guards look at what goes out: nothing has.
    pub fn guard(&mut self, guarded: &Arc<Guarded>) {
        let is_array = !self.lane.takes_comments();
        let judge = guarded.asks().then(|| Judge {
            guarded: guarded.clone(),
            signs: Output::default(),
            asked: None,
        });
        self.guard = Some(Box::new(Guard {
            stream: guarded.stream(is_array),
            out: Output::default(),
            is_array,
            judge,
        }));
    }

    /// Waits until guards have let go what is here, or a sign of life is due: until then there is no head. `Err`: they let nothing through.
    /// What breaks off another may go on with, as its call wishes.
    pub async fn vetted(&mut self, recorder: &mut Recorder, goes_on: bool) -> Result<(), Failure> {
        let mut first = None;
        let vetted = std::future::poll_fn(|cx| self.poll_vetted(&mut first, goes_on, cx));
        let (mut acted, result) = vetted.await;
        if result.is_err() {
            // It is paid, though nobody gets it.
            let usage = self.usage();
            let doings = self
                .guard
                .iter()
                .flat_map(|guard| guard.stream.doings().acted());
            acted.extend(doings.cloned());
            recorder.heard(self.meter.usage, std::mem::take(&mut self.meter.heard));
            let broken = self.failure.take();
            recorder.of_answer(|attempt| match &broken {
                Some(failure) => attempt.broke(failure),
                None => attempt.complete = self.meter.ended,
            });
            if let Some(failure) = &broken {
                self.parts.rest(failure);
            }
            recorder.update(|record| record.usage = usage);
        }
        recorder.update(|record| record.guards.extend(acted));
        result
    }

    /// Up to `first` events were here at first, the first good one among them.
    fn poll_vetted(
        &mut self,
        first: &mut Option<usize>,
        goes_on: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Judged> {
        const GOES_ON: Poll<Judged> = Poll::Ready((Vec::new(), Ok(())));
        loop {
            let Some(guard) = &mut self.guard else {
                return GOES_ON;
            };
            if let Err(failure) = guard.pass(&mut self.out) {
                return Poll::Ready((Vec::new(), Err(failure)));
            }
            let first = *first.get_or_insert(guard.stream.came());
            let goes_out = guard.judge.is_none() && guard.stream.passed() >= first;
            if goes_out || (goes_on && self.failure.is_some()) {
                return GOES_ON;
            }
            if self.upstream.is_none() {
                return guard.poll_end(cx);
            }
            if self.poll_chunk(cx).is_ready() {
                continue;
            }
            if self.meter.ended {
                self.let_go();
            } else if !matches!(
                ready!(self.watch.poll(cx, self.meter.finished)),
                Silence::Bearable
            ) {
                // What is to be done about it is done behind the head.
                return GOES_ON;
            }
        }
    }

    /// Another goes on, for whom more was hidden than for the one before.
    pub(super) fn guard_also(&mut self, guarded: &Arc<Guarded>) {
        match &mut self.guard {
            Some(guard) => guard.stream.restore_also(guarded.restoring()),
            None if guarded.is_over() => {}
            None => {
                self.guard(guarded);
                if let Some(guard) = &mut self.guard {
                    guard.stream.has_begun();
                }
            }
        }
    }

    /// What goes out next.
    pub(super) fn next_piece(&mut self) -> Option<Bytes> {
        let Some(guard) = &mut self.guard else {
            return self.out.pop();
        };
        match guard.pass(&mut self.out) {
            Ok(()) => guard.next(),
            Err(failure) => {
                self.refuse(failure);
                self.out.pop()
            }
        }
    }

    /// Nothing follows: what was held back goes out, once it is known that it may.
    pub(super) fn poll_guard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(guard) = &mut self.guard else {
            return Poll::Ready(());
        };
        let (acted, judged) = match guard.pass(&mut self.out) {
            Ok(()) => ready!(guard.poll_end(cx)),
            refused => (Vec::new(), refused),
        };
        if let Some(recorder) = &mut self.recorder {
            recorder.update(|record| record.guards.extend(acted));
        }
        match judged {
            Ok(()) => self.let_guard_go(),
            Err(failure) => self.refuse(failure),
        }
        Poll::Ready(())
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
            guard.give_up();
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
            match &mut self.judge {
                Some(judge) if block.starts_with(b":") => judge.signs.push(block),
                _ => self.stream.block(block, &mut self.out)?,
            }
        }
        match &self.judge {
            Some(judge) if self.out.len() > MOST_HELD => {
                if let Some(guard) = judge.guarded.must_be_asked() {
                    return Err(unseen(guard, "so long a stream"));
                }
                self.judge = None;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn next(&mut self) -> Option<Bytes> {
        match &mut self.judge {
            Some(judge) => judge.signs.pop(),
            None => self.out.pop(),
        }
    }

    /// Nothing follows: what was held back passes, once it is known that it may.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Judged> {
        match self.stream.finish(&mut self.out) {
            Ok(()) => self.poll_judge(cx),
            refused => Poll::Ready((Vec::new(), refused)),
        }
    }

    /// Asks about all of it.
    fn poll_judge(&mut self, cx: &mut Context<'_>) -> Poll<Judged> {
        let Some(judge) = &mut self.judge else {
            return Poll::Ready((Vec::new(), Ok(())));
        };
        let (out, is_array) = (&mut self.out, self.is_array);
        let (_, asking) = judge.asked.get_or_insert_with(|| {
            let pieces: Vec<Bytes> = std::iter::from_fn(|| out.pop()).collect();
            let all = Bytes::from(pieces.concat());
            let asking = judge.guarded.clone().ask_of_stream(all.clone(), is_array);
            (all, Box::pin(asking))
        });
        let (acted, result) = ready!(asking.as_mut().poll(cx));
        let judge = self.judge.take();
        if let (Ok(()), Some((all, _))) = (&result, judge.and_then(|judge| judge.asked)) {
            self.out.push(all);
        }
        Poll::Ready((acted, result))
    }

    /// Nothing of what is held goes out, and a failure may follow what has.
    fn give_up(&mut self) {
        let mut has_begun = self.stream.give_up();
        if self.judge.take().is_some() {
            self.out.clear();
            has_begun = false;
        }
        if self.is_array && !has_begun {
            // The array has to begin before an error can be an element of it.
            self.out.push(Bytes::from_static(b"[{}"));
        }
    }
}
