//! One structured line a call.

use super::record::{CallRecord, Outcome};

/// Writes the line. Texts from outside are fields, which the subscriber encodes.
pub(super) fn write(record: &CallRecord) {
    let usage = record.usage.unwrap_or_default();
    let tried: Vec<String> = record
        .attempts
        .iter()
        .map(|attempt| format!("{}:{}", attempt.provider, attempt.outcome))
        .collect();
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: "polygate::call",
                request_id = &*record.request_id,
                endpoint = record.endpoint,
                key = &*record.key,
                client = record.program(),
                model = &*record.model,
                provider = &*record.provider,
                credential = &*record.credential,
                upstream_model = &*record.upstream_model,
                stream = record.stream,
                status = record.status,
                outcome = record.outcome.name(),
                error = record.error.unwrap_or_default(),
                attempts = record.attempts.len(),
                tried = tried.join(","),
                input_tokens = usage.input,
                output_tokens = usage.output,
                cost_micro_usd = record.charge.cost,
                losses = record.losses.len(),
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
