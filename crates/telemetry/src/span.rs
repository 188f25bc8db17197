//! A call as spans: one of its own, and one for each of its attempts.

use std::num::NonZeroU64;
use std::time::Duration;

use http::HeaderValue;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use polygate_core::Usage;
use polygate_engine::observe::{AttemptRecord, CallRecord, Looked, Outcome, Trace};
use prost::Message;
use serde_json::Value;

use crate::attributes::{self, Attributes, operation, vendor};
use crate::export::{Book, Page, Wanted, What};
use crate::message::Conversation;
use crate::waiting::{Held, Waiting};

/// So many spans are sent together.
const BATCH: usize = 512;

/// So many bytes of spans are sent together, and one call's more: collectors take bodies of some megabytes.
const BATCH_BYTES: usize = 4 << 20;

/// Spans for a collector.
pub(crate) struct Spans {
    resource: Resource,
    noted: Noted,
}

/// Spans that wait to be sent.
#[derive(Default)]
pub(crate) struct Noted {
    spans: Vec<Span>,
    /// So long they are when they are sent.
    bytes: usize,
    calls: u64,
    held: Vec<Held>,
}

/// When a span began and ended.
#[derive(Clone, Copy)]
pub(crate) struct Stretch {
    began: u64,
    ended: u64,
}

impl Spans {
    /// Of this process.
    pub(crate) fn new(resource: Resource) -> Self {
        Self {
            resource,
            noted: Noted::default(),
        }
    }
}

impl Book for Spans {
    fn wanted(&self) -> Wanted {
        Box::new(|record| record.trace.is_some_and(|trace| trace.is_sampled))
    }

    fn note(&mut self, call: Waiting) {
        let record = &*call.record;
        let Some(trace) = record.trace.filter(|trace| trace.is_sampled) else {
            return;
        };
        let said = call
            .content()
            .map(|content| Conversation::read(content, record.stream));
        let mut attributes = common(record);
        attributes.text(attributes::METHOD, record.method.as_str());
        attributes.text(attributes::ROUTE, record.endpoint);
        attributes.number(attributes::STATUS, record.status);
        own(&call, &mut attributes);
        if let Some(said) = &said {
            said.describe(&mut attributes);
        }
        self.noted.call(record, trace, attributes);
        for (number, attempt) in record.attempts.iter().enumerate() {
            self.noted
                .attempt(record, trace, number, of_attempt(record, attempt));
        }
        self.noted.keep(call.held);
    }

    fn is_full(&self) -> bool {
        self.noted.is_full()
    }

    fn page(&mut self) -> Option<Page> {
        self.noted.page(&self.resource)
    }
}

impl Noted {
    /// The span of a call.
    pub(crate) fn call(&mut self, record: &CallRecord, trace: Trace, attributes: Attributes) {
        let stretch = Stretch::from(record.began, record.duration);
        let is_error = record.outcome != Outcome::Completed;
        self.calls += 1;
        self.add(Span {
            parent_span_id: trace.parent.map(bytes).unwrap_or_default(),
            kind: SpanKind::Server.into(),
            status: is_error.then(|| status(record.error.unwrap_or(record.outcome.name()))),
            attributes: attributes.into_vec(),
            ..span(trace, trace.span, model(record), record, stretch)
        });
    }

    /// The span of one of its attempts.
    pub(crate) fn attempt(
        &mut self,
        record: &CallRecord,
        trace: Trace,
        number: usize,
        attributes: Attributes,
    ) {
        let Some(attempt) = record.attempts.get(number) else {
            return;
        };
        let stretch = stretch(record, attempt);
        self.add(Span {
            parent_span_id: bytes(trace.span),
            kind: SpanKind::Client.into(),
            status: failed(attempt).map(status),
            attributes: attributes.into_vec(),
            ..span(
                trace,
                trace.attempt(number),
                &attempt.model,
                record,
                stretch,
            )
        });
    }

    fn add(&mut self, span: Span) {
        self.bytes += span.encoded_len();
        self.spans.push(span);
    }

    /// All of a call is noted: what it keeps is kept until it is sent.
    pub(crate) fn keep(&mut self, held: Held) {
        self.held.push(held);
    }

    /// There is enough for a page.
    pub(crate) fn is_full(&self) -> bool {
        self.spans.len() >= BATCH || self.bytes >= BATCH_BYTES
    }

    /// All that wait.
    pub(crate) fn page(&mut self, resource: &Resource) -> Option<Page> {
        let Noted {
            spans, calls, held, ..
        } = std::mem::take(self);
        if spans.is_empty() {
            return None;
        }
        let scope_spans = vec![ScopeSpans {
            scope: Some(attributes::scope()),
            spans,
            schema_url: attributes::SCHEMA.to_owned(),
        }];
        let resource_spans = vec![ResourceSpans {
            resource: Some(resource.clone()),
            scope_spans,
            schema_url: attributes::SCHEMA.to_owned(),
        }];
        let what = What::Traces(ExportTraceServiceRequest { resource_spans });
        Some(Page { what, calls, held })
    }
}

impl Stretch {
    /// From microseconds since 1970, for so long.
    fn from(began: i64, took: Duration) -> Self {
        let began = nanos(began);
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        Self {
            began,
            ended: began.saturating_add(took),
        }
    }
}

/// An attempt: until it was decided, or, where the client got its answer, until the answer's end.
pub(crate) fn stretch(record: &CallRecord, attempt: &AttemptRecord) -> Stretch {
    let since = attempt.started.saturating_sub(record.started);
    let took = match attempt.answered {
        true => record.duration.saturating_sub(since),
        false => attempt.duration,
    };
    let micros = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
    Stretch::from(record.began.saturating_add(micros), took)
}

/// Why an attempt was no success: it failed, or was given up.
pub(crate) fn failed(attempt: &AttemptRecord) -> Option<&'static str> {
    (!attempt.is_good()).then_some(attempt.outcome)
}

/// What is said of a call and of its attempts alike.
fn common(record: &CallRecord) -> Attributes {
    let mut attributes = Attributes::default();
    attributes.text(attributes::OPERATION, operation(record.endpoint));
    attributes.text(attributes::REQUEST_MODEL, &*record.model);
    attributes
}

/// What only we say of a call.
pub(crate) fn own(call: &Waiting, attributes: &mut Attributes) {
    let record = &*call.record;
    let answering = record.attempts.iter().rfind(|attempt| attempt.answered);
    if let Some(attempt) = answering.or(record.attempts.last()) {
        attributes.text(attributes::PROVIDER, vendor(attempt.row));
        attributes.text(attributes::RESPONSE_MODEL, &*attempt.model);
    }
    tokens(&record.charge.usage, attributes);
    if let Some(error) = record.error {
        attributes.text(attributes::ERROR, error);
    }
    attributes.text(attributes::USER, user(record));
    let session = record.attribution.session().unwrap_or_default();
    attributes.text(attributes::SESSION, session);
    attributes.text(attributes::CONVERSATION, session);
    attributes.text("polygate.request_id", &*record.request_id);
    attributes.text("polygate.call_id", record.id.as_str());
    attributes.text("polygate.key", &*record.key);
    attributes.text("polygate.team", record.team.as_deref().unwrap_or_default());
    attributes.text("polygate.client", record.program());
    attributes.text("polygate.outcome", record.outcome.name());
    attributes.flag("polygate.stream", record.stream);
    attributes.number("polygate.attempts", record.attempts.len());
    attributes.number("polygate.cost_micro_usd", record.charge.cost);
    attributes.text("polygate.usage_state", record.charge.state.as_str());
    let looked = record.looked.map(Looked::name).unwrap_or_default();
    attributes.text("polygate.cache", looked);
    attributes.list("polygate.tags", record.tags().into_iter());
    for (key, value) in record.attribution.metadata().into_iter().flatten() {
        attributes.text(&format!("polygate.metadata.{key}"), shown(&value));
    }
    let losses = record.transformed.losses.iter().map(|loss| loss.0.as_str());
    attributes.list("polygate.dropped", losses);
    let guards: Vec<String> = record.guards.iter().map(ToString::to_string).collect();
    attributes.list("polygate.guards", guards.iter().map(String::as_str));
    let passed_over = record.passed_over.iter().map(ToString::to_string);
    let passed_over: Vec<String> = passed_over.collect();
    attributes.list(
        "polygate.passed_over",
        passed_over.iter().map(String::as_str),
    );
    let routes: Vec<String> = record.choices.iter().map(ToString::to_string).collect();
    attributes.list("polygate.routes", routes.iter().map(String::as_str));
    let shadow_of = record.shadow_of.as_deref().unwrap_or_default();
    attributes.text("polygate.shadow_of", shadow_of);
    if call.is_silenced() {
        attributes.flag("polygate.content_dropped", true);
    }
    if let Some(first) = record.first_event {
        attributes.fraction("polygate.time_to_first_event", first.as_secs_f64());
    }
}

/// What the model of a call is called: as metrics call it, else as the caller does, whose words are bounded there only.
pub(crate) fn model(record: &CallRecord) -> &str {
    match &*record.label {
        "other" => &record.model,
        label => label,
    }
}

fn state(said: &HeaderValue) -> String {
    said.to_str().unwrap_or_default().to_owned()
}

/// Whom a call is made for: as the caller says, else the caller.
pub(crate) fn user(record: &CallRecord) -> &str {
    record.attribution.end_user().unwrap_or(&record.key)
}

/// A value of metadata: texts as they are, everything else as JSON.
pub(crate) fn shown(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn of_attempt(record: &CallRecord, attempt: &AttemptRecord) -> Attributes {
    let mut attributes = Attributes::default();
    attributes.text(attributes::OPERATION, operation(record.endpoint));
    attributes.text(attributes::PROVIDER, vendor(attempt.row));
    attributes.text(attributes::REQUEST_MODEL, &*attempt.model);
    attributes.text(attributes::RESPONSE_MODEL, &*attempt.model);
    tokens(&attempt.charge.usage, &mut attributes);
    if attempt.status > 0 {
        attributes.number(attributes::STATUS, attempt.status);
    }
    if let Some(error) = failed(attempt) {
        attributes.text(attributes::ERROR, error);
    }
    attributes.text("polygate.provider", &*attempt.provider);
    attributes.text("polygate.credential", &*attempt.credential);
    attributes.text("polygate.outcome", attempt.outcome);
    attributes.number("polygate.cost_micro_usd", attempt.charge.cost);
    attributes
}

fn tokens(usage: &Usage, attributes: &mut Attributes) {
    let counts = [
        (attributes::INPUT_TOKENS, usage.input),
        (attributes::OUTPUT_TOKENS, usage.output),
        (attributes::CACHE_READ, usage.cache_read),
        (attributes::CACHE_WRITE, usage.cache_write),
        (attributes::REASONING, usage.reasoning),
    ];
    for (key, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        attributes.number(key, count);
    }
}

fn span(trace: Trace, id: NonZeroU64, model: &str, record: &CallRecord, at: Stretch) -> Span {
    Span {
        trace_id: trace.id.get().to_be_bytes().to_vec(),
        span_id: bytes(id),
        name: format!("{} {model}", operation(record.endpoint)),
        start_time_unix_nano: at.began,
        end_time_unix_nano: at.ended,
        trace_state: record.trace_state.as_ref().map_or_else(String::new, state),
        flags: trace.flags().into(),
        ..Span::default()
    }
}

fn status(why: &str) -> Status {
    Status {
        message: why.to_owned(),
        code: StatusCode::Error.into(),
    }
}

fn bytes(id: NonZeroU64) -> Vec<u8> {
    id.get().to_be_bytes().to_vec()
}

/// Nanoseconds of microseconds since 1970.
pub(crate) fn nanos(micros: i64) -> u64 {
    u64::try_from(micros)
        .unwrap_or_default()
        .saturating_mul(1000)
}
