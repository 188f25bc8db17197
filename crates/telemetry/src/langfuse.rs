//! A call as Langfuse knows it: a trace, and in it a generation for each attempt, with tokens and money of that one.

use std::time::{Duration, UNIX_EPOCH};

use http::Uri;
use opentelemetry_proto::tonic::resource::v1::Resource;
use polygate_engine::config;
use polygate_engine::observe::{AttemptRecord, CallRecord, is_part};
use serde_json::json;

use crate::attributes::{self, Attributes};
use crate::export::{Book, Page, Wanted};
use crate::message::Conversation;
use crate::span::{self, Noted};
use crate::waiting::Waiting;

/// Where Langfuse takes OTLP.
const PATH: &str = "api/public/otel/v1/traces";

/// What a trace is called.
const NAME: &str = "llm-proxy-request";

/// Spans for Langfuse.
pub(crate) struct Langfuse {
    resource: Resource,
    sample: f64,
    noted: Noted,
}

/// Where a Langfuse takes OTLP.
pub(crate) fn address(host: &Uri) -> Result<Uri, String> {
    let text = host.to_string();
    let address = format!("{}/{PATH}", text.trim_end_matches('/'));
    address
        .parse()
        .map_err(|error| format!("'{text}' is no address of a Langfuse: {error}"))
}

impl Langfuse {
    /// For this project.
    pub(crate) fn new(own: &config::Langfuse) -> Self {
        let mut attributes = Attributes::default();
        attributes.text("service.name", "polygate");
        attributes.text("service.version", env!("CARGO_PKG_VERSION"));
        let environment = own.environment.as_deref().unwrap_or_default();
        attributes.text("langfuse.environment", environment);
        let release = own.release.as_deref().unwrap_or_default();
        attributes.text("langfuse.release", release);
        Self {
            resource: attributes::of(attributes),
            sample: own.sample,
            noted: Noted::default(),
        }
    }
}

impl Book for Langfuse {
    fn wanted(&self) -> Wanted {
        let sample = self.sample;
        Box::new(move |record| record.trace.is_some_and(|trace| is_part(trace.id, sample)))
    }

    fn note(&mut self, call: Waiting) {
        let record = &*call.record;
        let Some(trace) = record.trace.filter(|trace| is_part(trace.id, self.sample)) else {
            return;
        };
        let said = call
            .content()
            .map(|content| Conversation::read(content, record.stream));
        let shared = of_trace(record, said.as_ref());
        let mut attributes = shared.clone();
        attributes.text("langfuse.observation.type", "span");
        level(record.error, &mut attributes);
        span::own(&call, &mut attributes);
        self.noted.call(record, trace, attributes);
        for (number, attempt) in record.attempts.iter().enumerate() {
            let mut attributes = generation(record, attempt, said.as_ref());
            attributes.extend(&shared);
            self.noted.attempt(record, trace, number, attributes);
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

/// What every span says of the trace, so that it does not matter which comes first.
fn of_trace(record: &CallRecord, said: Option<&Conversation>) -> Attributes {
    let mut attributes = Attributes::default();
    attributes.text("langfuse.trace.name", NAME);
    attributes.text("langfuse.user.id", span::user(record));
    let session = record.attribution.session().unwrap_or_default();
    attributes.text("langfuse.session.id", session);
    let mut tags = vec![
        format!("endpoint:{}", record.endpoint),
        format!("credential:{}", record.key),
        format!("user_agent:{}", record.program()),
        format!("provider:{}", record.provider),
        format!("model:{}", span::model(record)),
    ];
    tags.extend(record.tags().into_iter().map(str::to_owned));
    attributes.list("langfuse.trace.tags", tags.iter().map(String::as_str));
    let metadata = [
        ("request_id", &*record.request_id),
        ("call_id", record.id.as_str()),
        ("credential_name", &*record.key),
        ("endpoint", record.endpoint),
        ("team", record.team.as_deref().unwrap_or_default()),
    ];
    for (key, value) in metadata {
        attributes.text(&format!("langfuse.trace.metadata.{key}"), value);
    }
    let told = |key: &str| metadata.iter().any(|(ours, _)| *ours == key);
    for (key, value) in record.attribution.metadata().into_iter().flatten() {
        if !told(&key) {
            let key = format!("langfuse.trace.metadata.{key}");
            attributes.text(&key, span::shown(&value));
        }
    }
    if let Some(said) = said {
        attributes.text("langfuse.trace.input", said.chat());
        attributes.text("langfuse.trace.output", said.text());
    }
    attributes
}

fn generation(
    record: &CallRecord,
    attempt: &AttemptRecord,
    said: Option<&Conversation>,
) -> Attributes {
    let mut attributes = Attributes::default();
    attributes.text("langfuse.observation.type", "generation");
    attributes.text("langfuse.observation.model.name", &*attempt.model);
    level(span::failed(attempt), &mut attributes);
    let metadata = [
        ("provider_key", &*attempt.provider),
        ("credential", &*attempt.credential),
        ("requested_model", &*record.model),
        ("outcome", attempt.outcome),
        ("usage_state", attempt.charge.state.as_str()),
    ];
    for (key, value) in metadata {
        attributes.text(&format!("langfuse.observation.metadata.{key}"), value);
    }
    attributes.flag("langfuse.observation.metadata.is_streaming", record.stream);
    let usage = attempt.charge.usage;
    if usage.total() > 0 {
        // Langfuse adds up what is not called `total`: each token is in one of these.
        let details = json!({
            "input": usage.input.saturating_sub(usage.cache_read).saturating_sub(usage.cache_write),
            "cache_read_input_tokens": usage.cache_read,
            "cache_creation_input_tokens": usage.cache_write,
            "output": usage.output.saturating_sub(usage.reasoning),
            "output_reasoning_tokens": usage.reasoning,
            "total": usage.total(),
        });
        attributes.text("langfuse.observation.usage_details", details.to_string());
        let dollars = attempt.charge.cost as f64 / 1e6;
        let cost = json!({ "total": dollars });
        attributes.text("langfuse.observation.cost_details", cost.to_string());
    }
    if let Some(said) = said {
        attributes.text("langfuse.observation.input", said.chat());
        let parameters = said.parameters();
        attributes.text("langfuse.observation.model.parameters", parameters);
    }
    if attempt.answered {
        let first = record.first_event.unwrap_or_default();
        let micros = i64::try_from(first.as_micros()).unwrap_or(i64::MAX);
        let moment = moment(record.began.saturating_add(micros));
        attributes.text("langfuse.observation.completion_start_time", moment);
        if let Some(said) = said {
            attributes.text("langfuse.observation.output", said.text());
        }
    }
    attributes
}

fn level(error: Option<&str>, attributes: &mut Attributes) {
    let level = if error.is_some() { "ERROR" } else { "DEFAULT" };
    attributes.text("langfuse.observation.level", level);
    let message = error.unwrap_or_default();
    attributes.text("langfuse.observation.status_message", message);
}

/// ISO 8601 of microseconds since 1970.
fn moment(micros: i64) -> String {
    let since = Duration::from_micros(u64::try_from(micros).unwrap_or_default());
    humantime::format_rfc3339_micros(UNIX_EPOCH + since).to_string()
}
