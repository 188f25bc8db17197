//! Where a model's calls go beside its own targets: routes by what a call is, fallbacks, and shadow traffic.

use std::fmt;

use super::{Deadlines, Model};
use crate::condition::Condition;

/// A way of a model's calls to another model. The first that fits is taken.
#[derive(Clone, Debug)]
pub struct ModelRoute {
    /// For which calls it is.
    pub when: Condition,
    /// So many of those that come here take it; `None`: all.
    pub percent: Option<Percent>,
    /// The model that it leads to.
    pub model: String,
}

/// Calls that another model gets too, and whose answers are thrown away.
#[derive(Clone, Debug)]
pub struct Shadow {
    /// The model that gets them.
    pub model: String,
    /// So many of the calls.
    pub percent: Percent,
    /// How many there are at a time; further ones are dropped.
    pub max_concurrent: usize,
}

/// So many of a hundred, to a hundredth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(u16);

/// Other models that are tried when no target of a model answered, by why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fallbacks {
    /// Rate limits and spent quotas: before those of any failure.
    pub quota: Vec<String>,
    /// Any failure that another provider might not have.
    pub any: Vec<String>,
    /// The conversation is too long for the model.
    pub context_length: Vec<String>,
    /// The provider refuses to talk about it.
    pub content_policy: Vec<String>,
}

impl Model {
    /// A model of this name that goes nowhere yet.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            routes: Vec::new(),
            strategy: None,
            affinity: None,
            targets: Vec::new(),
            fallbacks: Fallbacks::default(),
            timeouts: Deadlines::default(),
            max_concurrent: None,
            hedge: None,
            continuation: None,
            strict: false,
            limits: Vec::new(),
            shadow: None,
        }
    }
}

impl ModelRoute {
    /// Whether every call takes it that comes to it.
    pub fn takes_all(&self) -> bool {
        self.when.is_empty() && self.percent.is_none_or(|percent| percent == Percent::ALL)
    }
}

impl Percent {
    /// All of them.
    pub const ALL: Percent = Percent(10_000);

    /// This many; `None` where there is no such part.
    pub fn of(percent: f64) -> Option<Self> {
        let hundredths = (percent * 100.0).round();
        // What is no number is in no range, and what is finer would be something else.
        let is_part =
            (0.0..=10_000.0).contains(&hundredths) && (percent * 100.0 - hundredths).abs() < 1e-6;
        is_part.then_some(Self(hundredths as u16))
    }

    /// As a number.
    pub fn value(self) -> f64 {
        f64::from(self.0) / 100.0
    }

    /// Whether this number of those that are drawn is among them. The same numbers stay among more.
    pub fn takes(self, drawn: u64) -> bool {
        drawn % u64::from(Self::ALL.0) < u64::from(self.0)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.value())
    }
}

impl Fallbacks {
    /// All of them with why they are tried, in the order they are.
    pub fn by_cause(&self) -> [(&'static str, &[String]); 4] {
        [
            ("quota", &self.quota),
            ("any", &self.any),
            ("context_length", &self.context_length),
            ("content_policy", &self.content_policy),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_hundred_is_exact_to_a_hundredth() {
        for (said, shown, taken) in [
            (0.0, "0", 0),
            (0.25, "0.25", 25),
            (12.5, "12.5", 1250),
            (100.0, "100", 10_000),
        ] {
            let percent = Percent::of(said).expect("a part");
            assert_eq!(percent.to_string(), shown);
            let drawn = (0..10_000).filter(|drawn| percent.takes(*drawn));
            assert_eq!(drawn.count(), taken, "{said}");
        }
        for wrong in [-0.1, 100.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Percent::of(wrong), None, "{wrong}");
        }
    }
}
