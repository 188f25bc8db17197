//! What is known of a call from its first moment on, and of requests that become none.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use polygate_providers::price::ServiceTier;

use super::Engine;
use crate::attribution::{self, Attribution};
use crate::call::{Inbound, InboundBody};
use crate::expect::Expected;
use crate::observe::{CallRecord, Charge, NOBODY, Outcome, Recorder, Refused, Trace, Transformed};

/// What records say until it is known which model it is.
static OTHER: LazyLock<Arc<str>> = LazyLock::new(|| "other".into());

impl Engine {
    /// Notes a request that was refused before it became a call.
    pub fn refused(&self, refused: Refused) {
        self.recorders.refused(refused);
    }

    pub(crate) fn recorder(&self, inbound: &Inbound) -> Recorder {
        let record = self.record(inbound);
        let recorder = Recorder::new(record, self.clock.clone(), self.recorders.clone());
        match &inbound.body {
            InboundBody::Passing(_, refused) => recorder.unless_refused(refused.clone()),
            InboundBody::Whole(_) => recorder,
        }
    }

    /// A record of what came in.
    pub(super) fn record(&self, inbound: &Inbound) -> CallRecord {
        let none = NOBODY.clone();
        let headers = &inbound.headers;
        let sample = self.telling.sample;
        let trace = sample.map(|sample| Trace::of(headers, sample));
        CallRecord {
            id: String::new(),
            request_id: inbound.request_id.clone(),
            method: inbound.method.clone(),
            endpoint: inbound.endpoint.label(),
            key: inbound.caller.name(),
            team: inbound.caller.team.as_ref().map(|team| team.name.clone()),
            key_tags: inbound.caller.tags(),
            attribution: Attribution::of(&inbound.headers),
            client: attribution::program(&inbound.headers),
            model: Box::default(),
            label: OTHER.clone(),
            choices: Arc::default(),
            shadow_of: None,
            stream: false,
            provider: none.clone(),
            credential: none.clone(),
            upstream_model: none,
            attempts: Vec::new(),
            // Until someone says otherwise the client has gone.
            status: 499,
            outcome: Outcome::ClientGone,
            error: None,
            usage: None,
            expected: Expected::default(),
            tier: ServiceTier::Standard,
            charge: Charge::NOTHING,
            unpriced: false,
            transformed: Transformed::default(),
            looked: None,
            saved: None,
            guards: Vec::new(),
            limits: Vec::new(),
            considered: Vec::new(),
            passed_over: Vec::new(),
            trace_state: trace.and_then(|trace| trace.state(headers)),
            trace,
            began: self.clock.unix_micros(),
            started: self.clock.now(),
            first_event: None,
            duration: Duration::ZERO,
        }
    }
}
