//! A call's record in the words of the ledger: its intent before an upstream is asked, its row when it is over.

use polygate_core::Failure;
use polygate_core::Kind;
use polygate_core::clock::micros;
use polygate_ledger::{Estimate, Intent, LedgerError};
use polygate_store::usage::{AttemptRow, CallRow};

use super::attempt::AttemptRecord;
use super::decision;
use super::record::CallRecord;
use crate::expect::Metered;
use crate::route::PassedOver;
use crate::seats::COME_AGAIN;

/// What a call is about to ask of an upstream.
pub(super) fn intent<'a>(
    record: &'a CallRecord,
    attempt: &'a AttemptRecord,
    number: usize,
) -> Intent<'a> {
    Intent {
        call: record.id.as_str().into(),
        attempt: u32::try_from(number).unwrap_or(u32::MAX),
        request_id: (&*record.request_id).into(),
        key: (&*record.key).into(),
        team: record.team.as_deref().unwrap_or_default().into(),
        model: (&*record.model).into(),
        label: (&*record.label).into(),
        provider: (&*attempt.provider).into(),
        credential: (&*attempt.credential).into(),
        upstream_model: (&*attempt.model).into(),
        endpoint: record.endpoint.into(),
        stream: record.stream,
        shadow_of: record.shadow_of.as_deref().map(Into::into),
        started: record.moment(attempt),
        estimate: estimate(record, attempt),
    }
}

fn estimate<'a>(record: &CallRecord, attempt: &'a AttemptRecord) -> Estimate<'a> {
    let expected = record.expected;
    let is_read = expected.metered == Metered::Tokens;
    let tariff = attempt.tariff.as_ref().filter(|_| is_read);
    let line = tariff.map(|tariff| tariff.line(record.tier));
    let cost = line.map_or(0, |line| line.most(expected.input, expected.output));
    Estimate {
        input: expected.input,
        output: expected.output,
        cost: i64::try_from(cost).unwrap_or(i64::MAX),
        price: line.map(|line| (&**line.text()).into()),
    }
}

/// Why no upstream is asked.
pub(super) fn refusal(error: &LedgerError) -> Failure {
    tracing::debug!(%error, "a call is refused: it could not be accounted for");
    let message =
        "the gateway's ledger takes no more calls: none is made that could not be accounted for";
    Failure::new(Kind::Unavailable, message).retry_after(Some(COME_AGAIN))
}

/// Why a call is not begun.
pub(super) fn no_slot() -> Failure {
    refusal(&LedgerError::Full("there is no slot".to_owned()))
}

/// How a call went. Not on the request path.
pub(super) fn row(record: &CallRecord) -> CallRow {
    CallRow {
        id: record.id.clone(),
        request_id: record.request_id.to_string(),
        started: record.began,
        duration: micros(record.duration),
        first_event: record.first_event.map(micros),
        endpoint: record.endpoint.to_owned(),
        key: record.key.to_string(),
        team: record.team.as_deref().unwrap_or_default().to_owned(),
        model: record.model.to_string(),
        label: record.label.to_string(),
        provider: record.provider.to_string(),
        credential: record.credential.to_string(),
        upstream_model: record.upstream_model.to_string(),
        client: record.program().to_owned(),
        stream: record.stream,
        status: i32::from(record.status),
        outcome: record.outcome.name().to_owned(),
        error: record.error.map(str::to_owned),
        state: record.charge.state,
        usage: record.charge.usage,
        cost: record.charge.cost,
        price: record.price().map(|text| text.to_string()),
        losses: listed(
            record
                .transformed
                .losses
                .iter()
                .map(|loss| &*loss.0)
                .collect(),
        ),
        tags: listed(record.tags()),
        end_user: record.attribution.end_user().map(str::to_owned),
        session: record.attribution.session().map(str::to_owned),
        metadata: described(record),
        passed_over: passed_over(&record.passed_over),
        cached: record
            .looked
            .filter(|looked| looked.is_answered())
            .map(|looked| looked.name().to_owned()),
        saved: record.saved,
        decision: Some(decision::text(record)),
        shadow_of: record.shadow_of.clone(),
        attempts: record
            .attempts
            .iter()
            .map(|attempt| attempt_row(record, attempt))
            .collect(),
    }
}

fn passed_over(passed: &[PassedOver]) -> Option<String> {
    let has_any = !passed.is_empty();
    has_any.then(|| serde_json::to_string(passed).unwrap_or_default())
}

fn attempt_row(record: &CallRecord, attempt: &AttemptRecord) -> AttemptRow {
    AttemptRow {
        started: micros(attempt.started.saturating_sub(record.started)),
        provider: attempt.provider.to_string(),
        credential: attempt.credential.to_string(),
        model: attempt.model.to_string(),
        outcome: attempt.outcome.to_owned(),
        status: i32::from(attempt.status),
        duration: micros(attempt.duration),
        state: attempt.charge.state,
        usage: attempt.charge.usage,
        cost: attempt.charge.cost,
    }
}

/// Texts as a JSON list; `None` where there are none.
fn listed(texts: Vec<&str>) -> Option<String> {
    let has_any = !texts.is_empty();
    has_any.then(|| serde_json::to_string(&texts).unwrap_or_default())
}

fn described(record: &CallRecord) -> Option<String> {
    let metadata = record.attribution.metadata()?;
    serde_json::to_string(&metadata).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use polygate_core::Usage;
    use polygate_store::usage::State;
    use polygate_wire::Loss;

    use super::*;
    use crate::observe::charge::tests::{asked, call};

    #[test]
    fn a_row_says_what_the_record_says() {
        let usage = Usage {
            input: 9,
            output: 5,
            ..Usage::default()
        };
        let lost = AttemptRecord {
            provider: "slow".into(),
            ..asked()
        };
        let good = AttemptRecord {
            outcome: "ok",
            status: 200,
            answered: true,
            complete: true,
            usage: Some(usage),
            started: Duration::from_secs(7),
            ..asked()
        };
        let mut record = call(vec![lost, good]);
        record.id = "id-1".to_owned();
        record.team = Some("blue".into());
        record.key_tags[1] = Some(vec!["x".to_owned(), "y".to_owned()].into());
        record.transformed.losses = vec![Loss("/messages/0/name".to_owned())];
        record.first_event = Some(Duration::from_millis(2));
        record.settle();
        let row = row(&record);
        assert_eq!(
            (&*row.id, &*row.request_id, row.started, row.duration),
            ("id-1", "r-1", 1_700_000_000_000_000, 20_000)
        );
        assert_eq!(row.first_event, Some(2000));
        assert_eq!(row.losses.as_deref(), Some(r#"["/messages/0/name"]"#));
        assert_eq!(
            (&*row.team, row.tags.as_deref()),
            ("blue", Some(r#"["x","y"]"#))
        );
        assert_eq!(row.usage.input, 109, "what was lost counts");
        assert_eq!((row.state, row.price), (State::Estimated, None));
        let states: Vec<_> = row.attempts.iter().map(|one| one.state).collect();
        assert_eq!(states, [State::Aborted, State::Reported]);
        assert_eq!(&*row.attempts[0].provider, "slow");
        let intent = intent(&record, &record.attempts[1], 1);
        assert_eq!((&*intent.call, intent.attempt), ("id-1", 1));
        assert_eq!(intent.started, 1_700_000_002_000_000);
        assert_eq!((intent.estimate.input, intent.estimate.output), (100, 1000));
    }
}
