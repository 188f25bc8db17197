//! The record of one call: built along its way, sent once, by the drop of whatever owned the call last.

use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use polygate_core::clock::micros;
use polygate_core::{Clock, Failure, Usage};
use polygate_ledger::Slot;
use polygate_providers::price::ServiceTier;

use super::attempt::AttemptRecord;
use super::charge::{ATTEMPT, Charge};
use super::content::Content;
use super::decision::{Considered, Transformed};
use super::looked::Looked;
use super::outcome::{End, Outcome};
use super::pump::Recorders;
use super::recount::{Ended, Evidence, Said};
use super::row;
use super::trace::Trace;
use crate::attribution::Attribution;
use crate::cache::Tape;
use crate::call::Call;
use crate::choose::Choice;
use crate::count::{Heard, Question};
use crate::expect::{Expected, tokens};
use crate::explain::Limit;
use crate::guard::Acted;
use crate::pulse::Flight;
use crate::quota::Reservation;
use crate::route::{Candidate, PassedOver};
use crate::seats::Seat;

/// What records say until someone is known.
pub(crate) static NOBODY: LazyLock<Arc<str>> = LazyLock::new(|| "none".into());

/// Everything worth knowing of a call.
#[derive(Clone, Debug)]
pub struct CallRecord {
    /// Its id in the ledger: ours, unlike the request's. Empty where there is no ledger.
    pub id: String,
    /// `x-request-id`.
    pub request_id: Arc<str>,
    /// HTTP method.
    pub method: http::Method,
    /// The route, as metrics name it.
    pub endpoint: &'static str,
    /// The key's name.
    pub key: Arc<str>,
    /// The key's team.
    pub team: Option<Arc<str>>,
    /// What the key and its team are tagged with.
    pub key_tags: [Option<Arc<[String]>>; 2],
    /// What the caller says of itself.
    pub attribution: Attribution,
    /// What the client program calls itself; read off the request path, see [`CallRecord::program`].
    pub client: Option<HeaderValue>,
    /// The model as asked, cut to a sane length.
    pub model: Box<str>,
    /// The model as metrics may name it.
    pub label: Arc<str>,
    /// What was decided on the routes of the models that it went through.
    pub choices: Arc<[Choice]>,
    /// The call that it is the shadow of, by id: it is no client's.
    pub shadow_of: Option<String>,
    /// The client asked for a stream.
    pub stream: bool,
    /// The provider that answered last; `none` where none was asked.
    pub provider: Arc<str>,
    /// The key of that provider, by name.
    pub credential: Arc<str>,
    /// The model there.
    pub upstream_model: Arc<str>,
    /// Each try.
    pub attempts: Vec<AttemptRecord>,
    /// Status that the client got.
    pub status: u16,
    /// How it ended.
    pub outcome: Outcome,
    /// The error's code, where there was one.
    pub error: Option<&'static str>,
    /// Token counts of what the client got, where reported.
    pub usage: Option<Usage>,
    /// How many tokens it was thought to be.
    pub expected: Expected,
    /// How providers were asked to serve it.
    pub tier: ServiceTier,
    /// What it is charged, once it is over: failed attempts included.
    pub charge: Charge,
    /// Something of it has no price.
    pub unpriced: bool,
    /// What became of the request, for whom was asked last.
    pub transformed: Transformed,
    /// What the cache had, where it was asked.
    pub looked: Option<Looked>,
    /// Token counts of an answer that was kept, which nobody pays again.
    pub saved: Option<Usage>,
    /// Guards that did something.
    pub guards: Vec<Acted>,
    /// What it was held to, and what was left of that once it had its part.
    pub limits: Vec<Limit>,
    /// Those that its first choice was between, where that went by measured scores.
    pub considered: Vec<Considered>,
    /// Who was not asked though it would have been their turn.
    pub passed_over: Vec<PassedOver>,
    /// Its place in a trace, where traces are kept.
    pub trace: Option<Trace>,
    /// What its caller keeps of that trace.
    pub trace_state: Option<HeaderValue>,
    /// When it began; microseconds since 1970.
    pub began: i64,
    /// When it began, on the clock.
    pub started: Duration,
    /// From the start to the first good event.
    pub first_event: Option<Duration>,
    /// From the start to the end.
    pub duration: Duration,
}

impl CallRecord {
    /// Its answer was kept from another call: nobody was asked, and nothing is paid.
    pub fn is_replayed(&self) -> bool {
        self.looked.is_some_and(Looked::is_answered)
    }

    /// What it is tagged with: by its key, its team and its caller, each tag once.
    pub fn tags(&self) -> Vec<&str> {
        let given = self.key_tags.iter().flatten().flat_map(|tags| tags.iter());
        let mut tags: Vec<&str> = Vec::new();
        for tag in given.chain(self.attribution.tags()) {
            if !tags.contains(&&**tag) {
                tags.push(tag);
            }
        }
        tags
    }
}

impl CallRecord {
    /// Attempts of whose answers the client got something.
    pub(super) fn answers(&self) -> impl Iterator<Item = &AttemptRecord> {
        self.attempts.iter().filter(|attempt| attempt.answered)
    }

    /// When an attempt of it began; microseconds since 1970.
    pub(super) fn moment(&self, attempt: &AttemptRecord) -> i64 {
        let since = attempt.started.saturating_sub(self.started);
        self.began.saturating_add(micros(since))
    }

    /// Names nobody: we answer ourselves.
    pub(crate) fn name_nobody(&mut self) {
        let none = NOBODY.clone();
        self.provider = none.clone();
        self.credential = none.clone();
        self.upstream_model = none;
    }

    /// Names who is asked, or who answered.
    pub(crate) fn name(&mut self, candidate: &Candidate) {
        self.provider = candidate.upstream.name.clone();
        self.credential = candidate.credential.name.clone();
        self.upstream_model = candidate.model.clone();
    }
}

/// Carries the record; sends it when dropped. Until someone says otherwise, the client has gone.
pub struct Recorder {
    record: Option<Box<CallRecord>>,
    clock: Arc<dyn Clock>,
    recorders: Recorders,
    /// The attempt that the call waits for or reads from.
    flight: Option<Flight>,
    /// The number of the attempt that was good: not always the last, where one was asked beside it.
    answers: Option<usize>,
    /// What the call sits on until it ends.
    seats: Vec<Seat>,
    /// What is reserved for the call until it is known what it took.
    reserved: Reservation,
    /// The same for attempts, by their numbers.
    reserved_for: Vec<(usize, Reservation)>,
    /// The call's place in the ledger, where there is one.
    slot: Option<Slot>,
    /// By what it can be counted if nobody says what it took.
    evidence: Evidence,
    /// What is said, where somebody is told.
    pub(super) content: Option<Box<Content>>,
    /// Takes the answer down, where it is to be kept.
    tape: Option<Box<Tape>>,
    /// Where it is said how the call ended.
    end: Option<Arc<OnceLock<End>>>,
    /// Why what the client sends is refused on its way, once it is: who drops the call then is not the client.
    refused: Option<Arc<OnceLock<Failure>>>,
}

impl Recorder {
    pub(crate) fn new(record: CallRecord, clock: Arc<dyn Clock>, recorders: Recorders) -> Self {
        recorders.metrics().call_started(&record);
        Self {
            record: Some(Box::new(record)),
            clock,
            recorders,
            flight: None,
            answers: None,
            seats: Vec::new(),
            reserved: Reservation::default(),
            reserved_for: Vec::new(),
            slot: None,
            evidence: Evidence::default(),
            content: None,
            tape: None,
            end: None,
            refused: None,
        }
    }

    /// The same of a call that ends when what its client sends is refused.
    pub(crate) fn unless_refused(mut self, refused: Arc<OnceLock<Failure>>) -> Self {
        self.refused = Some(refused);
        self
    }

    /// What the call asks, in case that nobody says how much it was.
    pub(crate) fn asked(&mut self, call: &Call) {
        let question = Question::of(&call.inbound.endpoint);
        let kept = || Some(self.recorders.keep(call.object.as_ref()?.bytes()));
        self.evidence.asked = question.and_then(|question| Some((question, kept()??)));
    }

    /// What the attempt said whose answer the client gets: what its provider reported, and what was heard of it.
    pub(crate) fn heard(&mut self, usage: Option<Usage>, heard: Heard) {
        let came = heard.by_length();
        self.of_answer(|attempt| (attempt.usage, attempt.came) = (usage, came));
        self.said(Said::Heard(heard));
    }

    /// The same of a whole answer.
    pub(crate) fn answered(&mut self, usage: Option<Usage>, body: &Bytes) {
        let came = tokens(body.len());
        self.of_answer(|attempt| {
            (attempt.usage, attempt.came, attempt.complete) = (usage, came, true);
        });
        let expected = self.record.as_ref().map(|record| record.expected);
        let attempt = self.record.as_ref().zip(self.answers);
        let attempt = attempt.and_then(|(record, number)| record.attempts.get(number));
        let is_told = attempt
            .zip(expected)
            .is_some_and(|(attempt, expected)| attempt.is_told(expected));
        if is_told {
            // Nobody has to count what was reported, unless somebody else was asked too.
            if self
                .record
                .as_ref()
                .is_some_and(|record| record.attempts.len() == 1)
            {
                self.evidence = Evidence::default();
            }
        } else if let Some(kept) = self.recorders.keep(body) {
            self.said(Said::Whole(kept));
        }
    }

    fn said(&mut self, said: Said) {
        let said = self.answers.map(|number| (number, said));
        self.evidence.said.extend(said);
    }

    /// From here on the call is accounted for, where there is a ledger. `Err`: it cannot be, and is not to be made.
    pub(crate) fn open(&mut self) -> Result<(), Failure> {
        let (Some(ledger), Some(record)) = (self.recorders.ledger(), &mut self.record) else {
            return Ok(());
        };
        let slot = ledger.reserve().ok_or_else(row::no_slot)?;
        record.id = slot.id(record.began);
        self.slot = Some(slot);
        Ok(())
    }

    /// An attempt is in flight until the call ends or another one takes its place.
    pub fn hold(&mut self, flight: Flight) {
        self.flight = Some(flight);
    }

    /// Nothing is in flight: the attempt is over, the call is not.
    pub fn land(&mut self) {
        self.flight = None;
    }

    /// More of the answer goes to the client.
    pub(crate) fn answers(&mut self, piece: &[u8]) {
        if let Some(content) = &mut self.content {
            content.answer(piece);
        }
        if let Some(tape) = &mut self.tape
            && !tape.take(piece)
        {
            tape.stop();
            self.tape = None;
        }
    }

    /// The answer is taken down from here on; how the call ends is said there.
    pub(crate) fn tapes(&mut self, tape: Option<Tape>, end: Option<Arc<OnceLock<End>>>) {
        self.tape = tape.map(Box::new);
        self.end = end;
    }

    /// All of the answer is with the client, and it is a good one.
    pub(crate) fn ends_well(&mut self) {
        if let Some(tape) = self.tape.take() {
            let usage = self.record.as_ref().and_then(|record| record.usage);
            tape.end(usage, self.clock.unix_micros() / 1000);
        }
    }

    /// Somebody is told what is said.
    pub(crate) fn tells(&mut self, content: Content) {
        self.content = Some(Box::new(content));
    }

    /// The call keeps its seats until it ends.
    pub fn keep(&mut self, seats: impl IntoIterator<Item = Option<Seat>>) {
        self.seats.extend(seats.into_iter().flatten());
    }

    /// The call keeps what is reserved until it ends.
    pub(crate) fn reserve(&mut self, reserved: Reservation) {
        self.reserved = reserved;
    }

    /// The same for an attempt, by its number.
    pub(crate) fn reserve_for(&mut self, number: usize, reserved: Option<Reservation>) {
        self.reserved_for.extend(reserved.map(|one| (number, one)));
    }

    /// An attempt took no more than itself.
    fn release(&mut self, number: usize) {
        let mut reserved = self.reserved_for.iter();
        let at = reserved.position(|(of, _)| *of == number);
        if let Some((_, reserved)) = at.map(|at| self.reserved_for.swap_remove(at)) {
            reserved.settle(ATTEMPT);
        }
    }

    /// Changes the record.
    pub fn update(&mut self, change: impl FnOnce(&mut CallRecord)) {
        if let Some(record) = self.record.as_mut() {
            change(record);
        }
    }

    /// A candidate is asked now. By the number that it gets it is told how that came out. `Err`: it may not be asked, since the ledger
    /// does not take it.
    pub(crate) fn asks(&mut self, candidate: &Candidate) -> Result<usize, Failure> {
        let attempt = AttemptRecord::asked(candidate, self.clock.now());
        let Some(record) = &mut self.record else {
            return Ok(0);
        };
        let number = record.attempts.len();
        if let Some(slot) = &self.slot {
            let written = slot.intend(&row::intent(record, &attempt, number));
            written.map_err(|error| row::refusal(&error))?;
        }
        record.name(candidate);
        record.attempts.push(attempt);
        Ok(number)
    }

    /// An attempt was good, or failed.
    pub(crate) fn came_out(&mut self, number: usize, failure: Option<&Failure>) {
        self.settle(number, |attempt, now| attempt.came_out(failure, now));
        match failure {
            None => self.answers = Some(number),
            Some(failure) if !failure.ambiguous => self.release(number),
            Some(_) => {}
        }
    }

    /// Changes what is told of the attempt whose answer the client gets.
    pub fn of_answer(&mut self, change: impl FnOnce(&mut AttemptRecord)) {
        if let Some(number) = self.answers {
            self.settle(number, |attempt, _| change(attempt));
        }
    }

    /// An attempt is beside another one.
    pub(crate) fn hedges(&mut self, number: usize) {
        self.settle(number, |attempt, _| attempt.is_hedge = true);
    }

    /// A good attempt goes on with an answer that broke off.
    pub(crate) fn continues(&mut self, number: usize) {
        self.settle(number, |attempt, _| attempt.continues());
    }

    /// Another attempt beside this one was good first.
    pub(crate) fn lost(&mut self, number: usize) {
        self.settle(number, AttemptRecord::lost);
    }

    fn settle(&mut self, number: usize, settle: impl FnOnce(&mut AttemptRecord, Duration)) {
        let now = self.clock.now();
        let record = self.record.as_mut();
        if let Some(attempt) = record.and_then(|record| record.attempts.get_mut(number)) {
            settle(attempt, now);
        }
    }

    /// What is known so far.
    pub fn record(&self) -> Option<&CallRecord> {
        self.record.as_deref()
    }

    /// The first good event is here.
    pub fn first_event(&mut self) {
        let now = self.clock.now();
        self.update(|record| {
            record
                .first_event
                .get_or_insert(now.saturating_sub(record.started));
        });
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let Some(mut record) = self.record.take() else {
            return;
        };
        let now = self.clock.now();
        record.duration = now.saturating_sub(record.started);
        let refused = self.refused.as_ref().and_then(|refused| refused.get());
        match (record.outcome, refused) {
            (Outcome::ClientGone, Some(failure)) => {
                record.status = failure.status;
                record.outcome = Outcome::Failed;
                record.error = Some(failure.kind.name());
            }
            (Outcome::ClientGone, None) => record.status = 499,
            _ => {}
        }
        if let Some(end) = self.end.take() {
            let (outcome, error, usage) = (record.outcome, record.error, record.usage);
            let _ = end.set(End {
                outcome,
                error,
                usage,
            });
        }
        let attempts = record.attempts.iter_mut();
        attempts.for_each(|attempt| attempt.call_ended(now));
        self.recorders.end(Ended {
            record,
            evidence: std::mem::take(&mut self.evidence),
            content: self.content.take(),
            reserved: std::mem::take(&mut self.reserved),
            reserved_for: std::mem::take(&mut self.reserved_for),
            slot: self.slot.take(),
            recorders: self.recorders.clone(),
        });
    }
}
