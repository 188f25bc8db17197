//! One structured line a call.

use std::borrow::Cow;

use super::looked::Looked;
use super::outcome::Outcome;
use super::record::CallRecord;

/// Writes the line. Texts from outside are fields, which the subscriber encodes; of control characters JSON leaves those of ISO 6429
/// as they are.
pub(super) fn write(record: &CallRecord) {
    let usage = record.charge.usage;
    let tried: Vec<String> = record
        .attempts
        .iter()
        .map(|attempt| format!("{}:{}", attempt.provider, attempt.outcome))
        .collect();
    let attempt_ms: Vec<String> = record
        .attempts
        .iter()
        .map(|attempt| attempt.duration.as_millis().to_string())
        .collect();
    let tags = record.tags();
    let routes: Vec<String> = record.choices.iter().map(ToString::to_string).collect();
    let guards: Vec<String> = record.guards.iter().map(ToString::to_string).collect();
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: "polygate::call",
                request_id = &*record.request_id,
                id = &*record.id,
                endpoint = record.endpoint,
                key = &*record.key,
                team = record.team.as_deref().unwrap_or_default(),
                client = record.program(),
                end_user = record.attribution.end_user().unwrap_or_default(),
                session = record.attribution.session().unwrap_or_default(),
                tags = tags.join(","),
                model = &*printable(&record.model),
                routes = routes.join(","),
                shadow_of = record.shadow_of.as_deref().unwrap_or_default(),
                provider = &*record.provider,
                credential = &*record.credential,
                upstream_model = &*printable(&record.upstream_model),
                stream = record.stream,
                status = record.status,
                outcome = record.outcome.name(),
                error = record.error.unwrap_or_default(),
                attempts = record.attempts.len(),
                tried = tried.join(","),
                attempt_ms = attempt_ms.join(","),
                input_tokens = usage.input,
                output_tokens = usage.output,
                cache_read_tokens = usage.cache_read,
                reasoning_tokens = usage.reasoning,
                cache = record.looked.map(Looked::name).unwrap_or_default(),
                saved_tokens = record.saved.unwrap_or_default().total(),
                usage_state = record.charge.state.as_str(),
                cost_micro_usd = record.charge.cost,
                losses = record.transformed.losses.len(),
                guards = guards.join(","),
                first_event_ms = record.first_event.map_or(0, |since| since.as_millis() as u64),
                duration_ms = record.duration.as_millis() as u64,
                "call"
            )
        };
    }
    match record.outcome {
        Outcome::Failed if record.status >= 500 => line!(warn),
        _ => line!(info),
    }
}

/// Without control characters, which terminals obey.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        let shown = |one: char| if one.is_control() { '\u{fffd}' } else { one };
        return Cow::Owned(text.chars().map(shown).collect());
    }
    Cow::Borrowed(text)
}
