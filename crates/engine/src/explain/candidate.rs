//! One candidate of an explained call: whether it would be asked, what speaks for it, and what it would be sent.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use polygate_core::Failure;
use polygate_wire::RawObject;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Limit, Moment, Refusal, limits};
use crate::call::Call;
use crate::cloak::Cloak;
use crate::engine::Engine;
use crate::expect::Expected;
use crate::health::seconds;
use crate::lane::{self, Making};
use crate::policy::Standing;
use crate::route::{Candidate, Route, Seen, Verdict};
use crate::shape::Shape;
use crate::tariff::Tariff;

/// One candidate of the call.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    /// Its provider.
    pub provider: Arc<str>,
    /// The provider's key.
    pub credential: Arc<str>,
    /// The model's name there.
    pub model: Arc<str>,
    /// `asked`, or the word for why it is not.
    pub verdict: &'static str,
    /// The same in a sentence, where there is more to say.
    pub why: Option<String>,
    /// Whether it is its turn cannot be foreseen.
    pub by_chance: bool,
    /// It is preferred by what keeps the call with others: the strategy alone would ask another first.
    pub by_affinity: bool,
    /// How long it rests.
    pub rests_for_seconds: Option<u64>,
    /// For what it is a fallback.
    pub fallback_for: Option<&'static str>,
    /// The group it is chosen in: the next is asked when nobody is left in the one before.
    pub group: usize,
    /// By what its group chooses.
    pub strategy: &'static str,
    /// What that goes by.
    pub scores: Scores,
    /// How the request would be sent there. `None`: its body passes unread.
    pub lane: Option<Lane>,
    /// Why the gateway would not send the request there, though it were this one's turn.
    pub refusal: Option<Refusal>,
    /// Members of the request that are sent in other words than the client's; of a translated one all are.
    pub altered: Vec<String>,
    /// What would be lost on the way, by pointers into the request.
    pub losses: Vec<String>,
    /// Payload rules that change what is sent, and those that cannot do what they say.
    pub rules: Vec<String>,
    /// The line of the price list. `None`: nobody knows what it costs.
    pub price: Option<Box<RawValue>>,
    /// The most that the call can cost there, in millionths of a dollar.
    pub most_cost: Option<u64>,
    /// What limits the provider, and the fallback's model.
    pub limits: Vec<Limit>,
}

/// What strategies go by.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Scores {
    /// Its share.
    pub weight: u32,
    /// Calls under way with its key.
    pub calls: u32,
    /// Time to the first good event, as a mean that rises at once and sinks slowly. `None`: nobody measured it lately.
    pub latency_ms: Option<u64>,
    /// What three million tokens of prompts and one of answers cost; millionths of a dollar.
    pub price: Option<u64>,
}

/// How a request goes to a provider.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Lane {
    /// `native` or `translated`; `estimated` where the gateway counts tokens itself.
    pub kind: &'static str,
    /// The format there.
    pub format: &'static str,
}

/// A request as one provider would get it.
#[derive(Clone, Default)]
pub(super) struct Sent {
    lane: Option<Lane>,
    refusal: Option<Refusal>,
    altered: Vec<String>,
    losses: Vec<String>,
    rules: Vec<String>,
}

impl Engine {
    pub(super) fn explained(
        &self,
        seen: &Seen<'_>,
        sent: Sent,
        (call, route): (&Call, &Route),
        moment: Moment,
    ) -> Explained {
        let candidate = seen.candidate;
        let Sent {
            lane,
            refusal,
            altered,
            losses,
            rules,
        } = sent;
        let expected = Expected::of(call);
        let line = |tariff: &Arc<Tariff>| tariff.line(call.tier()).text().to_string();
        let tariff = candidate.tariff.as_ref();
        Explained {
            provider: candidate.upstream.name.clone(),
            credential: candidate.credential.name.clone(),
            model: candidate.model.clone(),
            verdict: seen.verdict.name(),
            why: seen.verdict.why().or_else(|| too_small(seen.too_small?)),
            by_chance: matches!(seen.verdict, Verdict::Asked { by_chance: true }),
            by_affinity: seen.is_by_affinity,
            rests_for_seconds: match seen.verdict {
                Verdict::Resting(_, wait) => seconds(wait),
                _ => None,
            },
            fallback_for: match seen.verdict {
                Verdict::Fallback(cause) => Some(cause.name()),
                _ => None,
            },
            group: seen.place.group(),
            strategy: seen.strategy.name(),
            scores: seen
                .standing
                .map(|standing| Scores::of(standing, moment.now))
                .unwrap_or_default(),
            lane,
            refusal,
            altered,
            losses,
            rules,
            price: tariff.and_then(|tariff| RawValue::from_string(line(tariff)).ok()),
            most_cost: tariff.map(|tariff| tariff.most(expected.input, expected.output)),
            limits: limits(route.quotas_at(seen.place), moment.seconds),
        }
    }

    /// What the candidate would be sent; where the body passes unread, nobody knows.
    pub(super) fn sent(
        &self,
        call: &Call,
        (candidate, asked_as): (&Candidate, &str),
        moment: Moment,
    ) -> Sent {
        let Some(meant) = &call.object else {
            return Sent::default();
        };
        let provider = candidate.upstream.provider.as_ref();
        if call.inbound.endpoint.is_estimated_at(provider) {
            return Sent::estimated(call);
        }
        let snapshot = self.snapshot();
        let cloak = Cloak::over(candidate.upstream.cloak.as_ref(), call);
        let cloaked = cloak.map(|cloak| cloak.hide(call, &Bytes::new()));
        let cloaked = match cloaked.transpose() {
            Ok(cloaked) => cloaked.flatten(),
            Err(failure) => return Sent::refused(failure),
        };
        let call = cloaked.as_ref().map_or(call, |cloaked| &cloaked.call);
        let object = call.object.as_ref().unwrap_or(meant);
        let making = Making {
            call,
            object,
            provider,
            model: &candidate.model,
            created: moment.seconds,
            strict: call.strict,
            kept: self.kept(),
        };
        let mut rules = Vec::new();
        let shape = Shape::of(&snapshot, call, (candidate, asked_as));
        let prepared = shape.prepare(&making, &mut |rule, path, done| {
            rules.extend(done.words().map(|words| format!("{rule} {path}{words}")));
        });
        match prepared {
            Ok(prepared) => Sent {
                rules,
                ..Sent::of(meant, prepared)
            },
            Err(failure) => Sent::refused(failure),
        }
    }
}

fn too_small(context: u64) -> Option<String> {
    let message = format!(
        "its context of {context} tokens is surely too small: it is asked where nobody else is left"
    );
    Some(message)
}

impl Sent {
    fn of(object: &RawObject, prepared: lane::Prepared) -> Self {
        let is_native = matches!(prepared.lane, lane::Lane::Native(_));
        let losses = prepared.losses.into_iter();
        Self {
            lane: Some(Lane {
                kind: if is_native { "native" } else { "translated" },
                format: prepared.lane.upstream_format().name(),
            }),
            refusal: None,
            altered: match RawObject::parse(prepared.body) {
                Ok(sent) if is_native => differing(object, &sent),
                _ => Vec::new(),
            },
            losses: losses.map(|loss| loss.0).take(NAMED).collect(),
            rules: Vec::new(),
        }
    }

    /// It is not sent at all: the gateway itself counts.
    fn estimated(call: &Call) -> Self {
        Self {
            lane: Some(Lane {
                kind: "estimated",
                format: call.inbound.endpoint.format().name(),
            }),
            ..Self::default()
        }
    }

    fn refused(failure: Failure) -> Self {
        Self {
            refusal: Some(Refusal::of(failure)),
            ..Self::default()
        }
    }
}

/// So many names of members are said at most.
const NAMED: usize = 64;

/// The members that one has otherwise than the other, or not at all. A request may have a million of them.
fn differing(one: &RawObject, other: &RawObject) -> Vec<String> {
    let (before, after): (HashMap<_, _>, HashMap<_, _>) =
        (one.iter().collect(), other.iter().collect());
    let changed = other
        .iter()
        .filter(|(name, text)| before.get(name) != Some(text));
    let removed = one.iter().filter(|(name, _)| !after.contains_key(name));
    let pointers = changed.chain(removed).map(|(name, _)| format!("/{name}"));
    pointers.take(NAMED).collect()
}

impl Scores {
    /// Of this one at this moment.
    pub(crate) fn of(standing: &Standing, now: Duration) -> Self {
        let latency = standing.target.decayed(now);
        Self {
            weight: standing.weight,
            calls: standing.target.account_load(),
            latency_ms: latency.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            price: standing.price,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// With a look through all members for each of them, this takes minutes.
    #[test]
    fn a_request_of_very_many_members_is_compared_in_one_go() {
        let members: Vec<String> = (0..300_000).map(|at| format!(r#""k{at}":{at}"#)).collect();
        let object = |rest: &str| {
            let text = format!("{{{},{rest}}}", members.join(","));
            RawObject::parse(Bytes::from(text)).expect("an object")
        };
        let names = differing(
            &object(r#""model":"a","x":1"#),
            &object(r#""model":"b","y":1"#),
        );
        assert_eq!(names, ["/model", "/y", "/x"]);
    }
}
