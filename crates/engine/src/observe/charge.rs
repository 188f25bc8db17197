//! What a call is charged: tokens and money of each attempt, by what is known of it when the call is over.

use std::sync::Arc;

use polygate_core::Usage;
use polygate_providers::price::{ServiceTier, aborted};
use polygate_store::usage::State;

use super::attempt::AttemptRecord;
use super::record::CallRecord;
use crate::expect::{Expected, Metered};
use crate::quota::Amounts;

/// What a call or an attempt is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// How well it is known.
    pub state: State,
    /// Tokens.
    pub usage: Usage,
    /// Millionths of a dollar; nothing where nobody knows the price.
    pub cost: i64,
}

/// What an attempt takes that failed and costs nothing.
pub(super) const ATTEMPT: Amounts = Amounts {
    requests: 1,
    tokens: 0,
    money: 0,
};

impl Charge {
    /// What failed so that it costs nothing.
    pub const NOTHING: Charge = Charge {
        state: State::Failed,
        usage: Usage {
            input: 0,
            output: 0,
            cache_read: 0,
            cache_write: 0,
            cache_write_1h: 0,
            reasoning: 0,
            input_audio: 0,
            output_audio: 0,
            served: None,
        },
        cost: 0,
    };

    /// What it takes of limits.
    pub(super) fn amounts(&self) -> Amounts {
        Amounts {
            requests: 1,
            tokens: self.usage.total(),
            money: u64::try_from(self.cost).unwrap_or_default(),
        }
    }
}

impl AttemptRecord {
    fn charge(&mut self, expected: Expected, tier: ServiceTier) {
        let (state, usage) = self.tokens(expected);
        let tier = self.served(tier);
        let line = self.tariff.as_ref().map(|tariff| tariff.line(tier));
        let cost = line.map_or(0, |line| line.cost(&usage));
        self.charge = Charge { state, usage, cost };
    }

    /// How it was served: as the provider said, else as it was asked.
    fn served(&self, asked: ServiceTier) -> ServiceTier {
        let said = self.usage.and_then(|usage| usage.served);
        said.unwrap_or(asked)
    }

    /// Its tokens, and how well they are known. What may have been paid is never nothing.
    fn tokens(&self, expected: Expected) -> (State, Usage) {
        let nothing = Usage::default();
        match (expected.metered, self.usage) {
            _ if !self.answered && !self.ambiguous => (State::Failed, nothing),
            (Metered::Nothing, _) => (State::Reported, nothing),
            (Metered::Unread, _) if self.status >= 400 => (State::Failed, nothing),
            (Metered::Unread, _) if !self.complete => (State::Aborted, nothing),
            (Metered::Unread, _) => (State::Estimated, nothing),
            (Metered::Tokens, Some(usage)) if self.complete && self.is_told(expected) => {
                (State::Reported, usage)
            }
            (Metered::Tokens, usage) => {
                let state = if self.complete {
                    State::Estimated
                } else {
                    State::Aborted
                };
                let usage = usage.unwrap_or_default();
                // Of a whole answer what its provider says stands, where it says anything.
                let is_said = self.complete && usage.output > 0;
                let most = if expected.output == 0 || is_said {
                    0
                } else {
                    self.came
                };
                let input = self.sent.unwrap_or(expected.input);
                (state, aborted(usage, input, most))
            }
        }
    }

    /// Its provider reported both halves: a prompt is never nothing, nor is an answer that says something.
    pub(super) fn is_told(&self, expected: Expected) -> bool {
        self.usage.is_some_and(|usage| {
            let is_answered = usage.output > 0 || expected.output == 0 || self.came == 0;
            usage.input > 0 && is_answered
        })
    }

    /// What it is charged is not what its provider said.
    pub(super) fn is_guessed(&self) -> bool {
        matches!(self.charge.state, State::Aborted | State::Estimated)
    }

    /// Nobody knows what it costs.
    fn is_unpriced(&self, expected: Expected) -> bool {
        let may_cost = self.charge.state != State::Failed && expected.metered != Metered::Nothing;
        let is_known = self.tariff.is_some() && expected.metered == Metered::Tokens;
        may_cost && !is_known
    }
}

impl CallRecord {
    /// An attempt of it is charged by what was guessed, and a tokenizer could say better.
    pub(super) fn is_guessed(&self) -> bool {
        let is_read = self.expected.metered == Metered::Tokens;
        is_read && self.attempts.iter().any(AttemptRecord::is_guessed)
    }

    /// Charges each attempt, and the call with all of them.
    pub(super) fn settle(&mut self) {
        let (expected, tier) = (self.expected, self.tier);
        for attempt in &mut self.attempts {
            attempt.charge(expected, tier);
        }
        let charges = self.attempts.iter().map(|attempt| attempt.charge);
        let sum = |sum: Charge, one: Charge| Charge {
            state: sum.state,
            usage: sum.usage.plus(one.usage),
            cost: sum.cost.saturating_add(one.cost),
        };
        self.charge = charges.fold(Charge::NOTHING, sum);
        self.charge.state = self.state();
        self.unpriced = self.attempts.iter().any(|one| one.is_unpriced(expected));
    }

    /// What it costs, if it is over with what is known now: whole answers are. `None`: nobody knows, or knows yet: what was not
    /// reported is counted later.
    pub(crate) fn cost(&mut self) -> Option<u64> {
        self.settle();
        let cost = u64::try_from(self.charge.cost).ok();
        cost.filter(|_| !self.unpriced && self.charge.state == State::Reported)
    }

    /// How well the whole is known: as that of the answer, unless something beside it is less well known.
    fn state(&self) -> State {
        let is_own_count = self.expected.metered == Metered::Nothing && self.error.is_none();
        if self.is_replayed() || is_own_count {
            return State::Reported;
        }
        let is_guessed = AttemptRecord::is_guessed;
        let mut answers = self.attempts.iter().rev();
        match answers.find(|one| one.answered).map(|one| one.charge.state) {
            Some(State::Reported) if self.attempts.iter().any(is_guessed) => State::Estimated,
            Some(state) => state,
            None if self.attempts.iter().any(is_guessed) => State::Aborted,
            None => State::Failed,
        }
    }

    /// The line of the price list that the answer, else the last attempt, is charged by. `None`: nobody knows one.
    pub fn price(&self) -> Option<&Arc<str>> {
        let mut attempts = self.attempts.iter().rev();
        let answer = attempts.find(|one| one.answered);
        let attempt = answer.or(self.attempts.last())?;
        let tariff = attempt.tariff.as_ref()?;
        let is_read = self.expected.metered != Metered::Unread;
        is_read.then(|| tariff.line(attempt.served(self.tier)).text())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::attribution::Attribution;
    use crate::observe::{Outcome, Transformed};
    use crate::tariff::tests::tiered;

    /// A call of which nothing is known yet.
    pub(in crate::observe) fn call(attempts: Vec<AttemptRecord>) -> CallRecord {
        CallRecord {
            id: String::new(),
            request_id: "r-1".into(),
            method: http::Method::POST,
            endpoint: "/v1/chat/completions",
            key: "k".into(),
            team: None,
            key_tags: [None, None],
            attribution: Attribution::default(),
            client: None,
            model: "fast".into(),
            label: "fast".into(),
            choices: Arc::default(),
            shadow_of: None,
            stream: true,
            provider: "p".into(),
            credential: "p#1".into(),
            upstream_model: "m".into(),
            attempts,
            status: 200,
            outcome: Outcome::Completed,
            error: None,
            usage: None,
            expected: Expected {
                input: 100,
                output: 1000,
                metered: Metered::Tokens,
            },
            tier: ServiceTier::Standard,
            charge: Charge::NOTHING,
            unpriced: false,
            guards: Vec::new(),
            limits: Vec::new(),
            considered: Vec::new(),
            passed_over: Vec::new(),
            looked: None,
            saved: None,
            transformed: Transformed::default(),
            trace: None,
            trace_state: None,
            began: 1_700_000_000_000_000,
            started: Duration::from_secs(5),
            first_event: None,
            duration: Duration::from_millis(20),
        }
    }

    /// One that was asked and of which nothing else is known: it may have been paid.
    pub(in crate::observe) fn asked() -> AttemptRecord {
        AttemptRecord {
            row: "mock",
            provider: "p".into(),
            credential: "p#1".into(),
            model: "m".into(),
            tariff: None,
            outcome: "given_up",
            status: 0,
            started: Duration::from_secs(5),
            duration: Duration::from_millis(3),
            own: Duration::ZERO,
            ambiguous: true,
            answered: false,
            is_hedge: false,
            complete: false,
            usage: None,
            came: 0,
            sent: None,
            charge: Charge::NOTHING,
        }
    }

    fn failed() -> AttemptRecord {
        AttemptRecord {
            ambiguous: false,
            ..asked()
        }
    }

    fn answered(usage: Option<Usage>, complete: bool) -> AttemptRecord {
        AttemptRecord {
            answered: true,
            ambiguous: false,
            complete,
            usage,
            came: 7,
            ..asked()
        }
    }

    fn counts(input: u64, output: u64) -> Usage {
        Usage {
            input,
            output,
            ..Usage::default()
        }
    }

    #[test]
    fn an_attempt_is_charged_by_what_is_known_of_it() {
        for (what, attempt, state, usage) in [
            ("failed for nothing", failed(), State::Failed, counts(0, 0)),
            ("given up", asked(), State::Aborted, counts(100, 0)),
            (
                "reported",
                answered(Some(counts(9, 5)), true),
                State::Reported,
                counts(9, 5),
            ),
            (
                "silent",
                answered(None, true),
                State::Estimated,
                counts(100, 7),
            ),
            (
                "cut off",
                answered(None, false),
                State::Aborted,
                counts(100, 7),
            ),
            (
                "cut off behind a report",
                answered(Some(counts(9, 0)), false),
                State::Aborted,
                counts(9, 7),
            ),
            (
                "zeros",
                answered(Some(counts(0, 0)), true),
                State::Estimated,
                counts(100, 7),
            ),
            (
                "the prompt alone",
                answered(Some(counts(9, 0)), true),
                State::Estimated,
                counts(9, 7),
            ),
            (
                "the answer alone",
                answered(Some(counts(0, 5)), true),
                State::Estimated,
                counts(100, 5),
            ),
            (
                "the prompt alone, and nothing was said",
                AttemptRecord {
                    came: 0,
                    ..answered(Some(counts(9, 0)), true)
                },
                State::Reported,
                counts(9, 0),
            ),
        ] {
            let mut call = call(vec![attempt]);
            call.settle();
            let charge = call.attempts[0].charge;
            assert_eq!((charge.state, charge.usage), (state, usage), "{what}");
            assert_eq!(call.charge, charge, "{what}");
            assert_eq!(call.unpriced, state != State::Failed, "{what}");
        }
    }

    #[test]
    fn what_the_provider_says_of_the_tier_counts_before_what_was_asked() {
        use ServiceTier::{Flex, Priority, Standard};
        for (asked, served, cost, word) in [
            (Flex, None, 1050, "flex"),
            (Flex, Some(Standard), 2050, "standard"),
            (Standard, Some(Flex), 1050, "flex"),
            (Flex, Some(Priority), 4050, "priority"),
        ] {
            let usage = Usage {
                served,
                ..counts(1000, 5)
            };
            let mut attempt = answered(Some(usage), true);
            attempt.tariff = Some(Arc::new(tiered()));
            let mut call = call(vec![attempt]);
            call.tier = asked;
            call.settle();
            assert_eq!(call.charge.cost, cost, "{asked:?} {served:?}");
            let line = call.price().expect("a price");
            assert!(line.contains(&format!(r#""tier":"{word}""#)), "{line}");
        }
    }

    #[test]
    fn a_call_is_charged_with_all_of_its_attempts() {
        let reported = || answered(Some(counts(9, 5)), true);
        for (what, attempts, state, usage) in [
            ("none", vec![], State::Failed, counts(0, 0)),
            (
                "failed, good",
                vec![failed(), reported()],
                State::Reported,
                counts(9, 5),
            ),
            (
                "lost, good",
                vec![asked(), reported()],
                State::Estimated,
                counts(109, 5),
            ),
            (
                "good, lost",
                vec![reported(), asked()],
                State::Estimated,
                counts(109, 5),
            ),
            (
                "failed, lost",
                vec![failed(), asked()],
                State::Aborted,
                counts(100, 0),
            ),
            (
                "good, cut off",
                vec![answered(Some(counts(9, 5)), false)],
                State::Aborted,
                counts(9, 7),
            ),
        ] {
            let mut call = call(attempts);
            call.settle();
            assert_eq!(
                (call.charge.state, call.charge.usage),
                (state, usage),
                "{what}"
            );
        }
    }

    #[test]
    fn what_has_no_answer_of_a_model_is_charged_as_such() {
        let mut counting = call(vec![answered(None, true)]);
        counting.expected.metered = Metered::Nothing;
        counting.settle();
        assert_eq!(counting.charge.state, State::Reported);
        assert!(counting.charge.usage == counts(0, 0) && !counting.unpriced);
        let mut embedding = call(vec![answered(None, true)]);
        embedding.expected.output = 0;
        embedding.settle();
        assert_eq!(embedding.charge.usage, counts(100, 0));
        embedding.attempts[0].usage = Some(counts(9, 0));
        embedding.settle();
        let charge = embedding.charge;
        assert_eq!(
            (charge.state, charge.usage),
            (State::Reported, counts(9, 0))
        );
        counting.error = Some("content_blocked");
        counting.attempts.clear();
        counting.settle();
        assert_eq!(counting.charge.state, State::Failed, "refused");
        let mut broken = call(vec![answered(None, false)]);
        broken.expected.metered = Metered::Unread;
        broken.settle();
        assert!(broken.charge.state == State::Aborted && broken.unpriced);
        let mut proxied = call(vec![answered(None, true)]);
        proxied.expected.metered = Metered::Unread;
        proxied.settle();
        assert!(proxied.charge.state == State::Estimated && proxied.unpriced);
        proxied.attempts[0].status = 404;
        proxied.settle();
        assert!(proxied.charge.state == State::Failed && !proxied.unpriced);
    }
}
