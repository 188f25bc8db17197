//! A call that guards are for: its request, and then its answer.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use polygate_core::Failure;
use polygate_wire::{Format, RawObject};

use super::placeholder::{Concealing, Maker, Restoring};
use super::webhook::{self, Whose};
use super::{Acted, Doings, Guard, Side, Watch, blocked, body, insists, stream};
use crate::call::Call;

/// A call that guards are for.
#[derive(Clone, Debug)]
pub struct Guarded {
    maker: Maker,
    format: Format,
    answers: Watch,
    /// Guards that ask somebody about the answer.
    asking: Vec<Arc<Guard>>,
    whose: Whose,
    /// The request as the client means it, where another one is sent.
    pub unguarded: Option<RawObject>,
}

impl Guarded {
    /// Looks through what a call asks for, and puts what is let through in its place. Its body, where it has no object, comes and goes.
    pub fn request(
        guards: &[Arc<Guard>],
        maker: &Maker,
        call: &mut Call,
        body: &mut Bytes,
    ) -> (Doings, Result<(), Failure>) {
        let mut doings = Doings::new(Side::Request, maker.clone());
        let asked: Vec<Arc<Guard>> = guards.iter().filter(|one| one.requests).cloned().collect();
        let watch = Watch::new(&asked, Restoring::default());
        let looked = look(&watch, call, body, &mut doings);
        let result = looked.and_then(|replaced| {
            doings.refusal().map_or(Ok(()), Err)?;
            let unguarded = call.object.clone().filter(|_| replaced.is_some());
            if let Some(bytes) = replaced {
                replace(call, body, bytes)?;
            }
            let answered: Vec<Arc<Guard>> =
                guards.iter().filter(|one| one.answers).cloned().collect();
            let mut restoring = Restoring::default();
            restoring.extend(doings.restoring());
            let answers = Watch::new(&answered, restoring);
            let asking = answered.into_iter().filter(|one| one.webhook.is_some());
            call.guarded = Some(Arc::new(Self {
                maker: maker.clone(),
                format: call.inbound.endpoint.format(),
                answers,
                asking: asking.collect(),
                whose: Whose::of(call),
                unguarded,
            }));
            Ok(())
        });
        (doings, result)
    }

    /// Asks whoever is to be asked about a request that was looked through, and puts what is let through in its place.
    pub async fn ask_request(
        guards: &[Arc<Guard>],
        call: &mut Call,
        body: &mut Bytes,
    ) -> (Vec<Acted>, Result<(), Failure>) {
        let asked: Vec<Arc<Guard>> = guards
            .iter()
            .filter(|one| one.requests && one.webhook.is_some())
            .cloned()
            .collect();
        let (whose, format) = (Whose::of(call), call.inbound.endpoint.format());
        let bytes = call
            .object
            .as_ref()
            .map_or(&*body, RawObject::bytes)
            .clone();
        let (acted, result) = ask_each(&asked, &whose, Side::Request, format, &bytes).await;
        let result = result.and_then(|replaced| match replaced {
            Some(bytes) => replace(call, body, bytes),
            None => Ok(()),
        });
        (acted, result)
    }

    /// Of this call, and this is put back too: for who hides more of it in one attempt than guards do in all of it.
    #[must_use]
    pub fn also(call: &Call, restoring: &Restoring) -> Self {
        let base = call.guarded.as_deref().cloned();
        let mut guarded = base.unwrap_or_else(|| Self {
            maker: Maker::default(),
            format: call.inbound.endpoint.format(),
            answers: Watch::default(),
            asking: Vec::new(),
            whose: Whose::default(),
            unguarded: None,
        });
        guarded.unguarded = guarded.unguarded.or_else(|| call.object.clone());
        guarded.answers = guarded.answers.also(restoring);
        guarded
    }

    /// Whether nothing is looked for in answers.
    pub fn is_over(&self) -> bool {
        self.answers.is_empty() && self.asking.is_empty()
    }

    /// Whether something was taken out of the request that is put back into the answer.
    pub fn restores(&self) -> bool {
        !self.answers.restoring.is_empty()
    }

    /// A guard that has to see what is answered, by its name: what nobody can look through is not let through.
    pub fn insists(&self) -> Option<&Arc<str>> {
        let rules = self.answers.rules.iter().map(|rule| &rule.guard);
        insists(rules.chain(&self.asking))
    }

    /// Whether somebody is asked about the answer.
    pub fn asks(&self) -> bool {
        !self.asking.is_empty()
    }

    /// Asks whoever is to be asked about a whole answer; `None`: it stays as it is.
    pub async fn ask(&self, bytes: &Bytes) -> (Vec<Acted>, Result<Option<Bytes>, Failure>) {
        let (format, side) = (self.format, Side::Answer);
        ask_each(&self.asking, &self.whose, side, format, bytes).await
    }

    /// Asks about a stream that is held, which passes as it is or not at all.
    pub async fn ask_of_stream(
        self: Arc<Self>,
        bytes: Bytes,
        is_array: bool,
    ) -> (Vec<Acted>, Result<(), Failure>) {
        let said = stream::said(self.format, &bytes, is_array);
        let texts: Vec<Cow<'_, str>> = said.iter().map(|text| text.as_str().into()).collect();
        let mut all = Vec::new();
        for guard in &self.asking {
            let Some(hook) = &guard.webhook else {
                continue;
            };
            let (outcome, result) = hook
                .ask(&guard.name, Side::Answer, &self.whose, &texts)
                .await;
            all.extend(outcome.acted);
            // Events cannot be written anew for other texts.
            let refused = outcome.texts.map(|_| blocked(&guard.name, Side::Answer));
            if let Err(failure) = result.and_then(|()| refused.map_or(Ok(()), Err)) {
                return (all, Err(failure));
            }
        }
        (all, Ok(()))
    }

    /// Without whose answer a stream that is too long to be held does not go on.
    pub fn must_be_asked(&self) -> Option<&Arc<str>> {
        insists(&self.asking)
    }

    /// A stream to the call's client.
    pub fn stream(&self, is_array: bool) -> stream::Stream {
        stream::Stream::new(self.format, is_array, self.answers.clone(), self.doings())
    }

    /// A whole answer to the call's client; `None`: it stays as it is.
    pub fn answer(&self, bytes: &[u8]) -> (Doings, Result<Option<Bytes>, Failure>) {
        let mut doings = self.doings();
        let looked = body::body(bytes, self.format, Side::Answer, &self.answers, &mut doings);
        let result = looked.and_then(|replaced| doings.refusal().map_or(Ok(replaced), Err));
        (doings, result)
    }

    /// JSON of an answer that is kept for later calls, as its client gets it; `None`: it is not to be kept.
    pub fn kept<'a>(&self, json: &'a str) -> Option<Cow<'a, str>> {
        match self.answer(json.as_bytes()).1 {
            Ok(None) => Some(Cow::Borrowed(json)),
            Ok(Some(bytes)) => String::from_utf8(bytes.into()).ok().map(Cow::Owned),
            Err(_) => None,
        }
    }

    /// What is put back into the answer.
    pub fn restoring(&self) -> &Restoring {
        &self.answers.restoring
    }

    /// Takes what was put back out again, for those who are told of calls.
    pub fn concealing(&self) -> Concealing {
        self.answers.restoring.concealing()
    }

    fn doings(&self) -> Doings {
        Doings::new(Side::Answer, self.maker.clone())
    }
}

/// Asks each guard's webhook in turn about a body; `None`: it stays as it is.
async fn ask_each(
    guards: &[Arc<Guard>],
    whose: &Whose,
    side: Side,
    format: Format,
    bytes: &Bytes,
) -> (Vec<Acted>, Result<Option<Bytes>, Failure>) {
    let (mut all, mut replaced) = (Vec::new(), None);
    for guard in guards {
        let Some(hook) = &guard.webhook else {
            continue;
        };
        let body = replaced.as_ref().unwrap_or(bytes);
        let (acted, result) = webhook::ask(hook, &guard.name, whose, side, format, body).await;
        all.extend(acted);
        match result {
            Ok(new) => replaced = new.or(replaced),
            Err(failure) => return (all, Err(failure)),
        }
    }
    (all, Ok(replaced))
}

/// The call asks this.
pub(crate) fn replace(call: &mut Call, body: &mut Bytes, bytes: Bytes) -> Result<(), Failure> {
    match &mut call.object {
        Some(object) => *object = RawObject::parse(bytes)?,
        None => *body = bytes,
    }
    Ok(())
}

/// What a call asks, looked through; `None`: it stays as it is.
pub(crate) fn look(
    watch: &Watch,
    call: &Call,
    body: &Bytes,
    doings: &mut Doings,
) -> Result<Option<Bytes>, Failure> {
    if watch.is_empty() {
        return Ok(None);
    }
    let format = call.inbound.endpoint.format();
    match &call.object {
        Some(object) => body::body(object.bytes(), format, Side::Request, watch, doings),
        None if std::str::from_utf8(body).is_ok_and(body::is_json) => {
            body::body(body, format, Side::Request, watch, doings)
        }
        None => body::text(body, watch, doings),
    }
}
