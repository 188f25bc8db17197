//! What is written before a call is paid for, and what becomes of it where nobody wrote how the call ended.

use std::borrow::Cow;

use polygate_core::Usage;
use polygate_store::usage::{AttemptRow, CallRow, State};
use serde::{Deserialize, Serialize};

/// The error's code of calls that ended with the gateway.
pub const GATEWAY_ENDED: &str = "gateway_ended";

/// The outcome of what was cut off.
const ABORTED: &str = "aborted";

/// An upstream is about to be called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent<'a> {
    /// The call's own id.
    pub call: Cow<'a, str>,
    /// Which try of the call.
    pub attempt: u32,
    /// `x-request-id`.
    pub request_id: Cow<'a, str>,
    /// The key's name.
    pub key: Cow<'a, str>,
    /// The key's team.
    pub team: Cow<'a, str>,
    /// The model as asked.
    pub model: Cow<'a, str>,
    /// The model as sums name it.
    pub label: Cow<'a, str>,
    /// The provider.
    pub provider: Cow<'a, str>,
    /// Its credential, by name.
    pub credential: Cow<'a, str>,
    /// The model there.
    pub upstream_model: Cow<'a, str>,
    /// The route, as metrics name it.
    pub endpoint: Cow<'a, str>,
    /// It is a stream.
    pub stream: bool,
    /// The call that it is the shadow of, by id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow_of: Option<Cow<'a, str>>,
    /// When the attempt began; microseconds since 1970.
    pub started: i64,
    /// What it may cost.
    pub estimate: Estimate<'a>,
}

/// What an attempt may cost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate<'a> {
    /// Input tokens.
    pub input: u64,
    /// Output tokens, at most.
    pub output: u64,
    /// What both cost by the price line, in millionths of a dollar.
    pub cost: i64,
    /// The line of the price list, JSON; `None`: nobody knows the price.
    pub price: Option<Cow<'a, str>>,
}

impl Intent<'_> {
    fn attempt_row(&self, began: i64) -> AttemptRow {
        AttemptRow {
            started: self.started.saturating_sub(began).max(0),
            provider: self.provider.to_string(),
            credential: self.credential.to_string(),
            model: self.upstream_model.to_string(),
            outcome: ABORTED.to_owned(),
            status: 0,
            duration: 0,
            state: State::Aborted,
            usage: Usage {
                input: self.estimate.input,
                output: self.estimate.output,
                ..Usage::default()
            },
            cost: self.estimate.cost,
        }
    }
}

/// The row of a call whose end nobody wrote. Any of its attempts may have been paid: all of them count, by their estimates.
pub(crate) fn aborted(intents: &[Intent<'_>]) -> Option<CallRow> {
    let first = intents.iter().min_by_key(|intent| intent.attempt)?;
    let last = intents.iter().max_by_key(|intent| intent.attempt)?;
    let attempts: Vec<AttemptRow> = intents
        .iter()
        .map(|intent| intent.attempt_row(first.started))
        .collect();
    let usage = attempts.iter().map(|attempt| attempt.usage);
    let costs = attempts.iter().map(|attempt| attempt.cost);
    Some(CallRow {
        id: first.call.to_string(),
        request_id: first.request_id.to_string(),
        started: first.started,
        duration: last.started.saturating_sub(first.started).max(0),
        first_event: None,
        endpoint: last.endpoint.to_string(),
        key: last.key.to_string(),
        team: last.team.to_string(),
        model: last.model.to_string(),
        label: last.label.to_string(),
        provider: last.provider.to_string(),
        credential: last.credential.to_string(),
        upstream_model: last.upstream_model.to_string(),
        client: String::new(),
        stream: last.stream,
        status: 0,
        outcome: ABORTED.to_owned(),
        error: Some(GATEWAY_ENDED.to_owned()),
        state: State::Aborted,
        usage: usage.fold(Usage::default(), Usage::plus),
        cost: costs.fold(0, i64::saturating_add),
        price: last.estimate.price.as_deref().map(str::to_owned),
        losses: None,
        tags: None,
        end_user: None,
        session: None,
        metadata: None,
        passed_over: None,
        cached: None,
        saved: None,
        decision: None,
        shadow_of: first.shadow_of.as_deref().map(str::to_owned),
        attempts,
    })
}
