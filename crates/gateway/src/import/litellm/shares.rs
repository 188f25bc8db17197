//! Shares of a name's calls, as LiteLLM shares them out.

use serde_json::Value;

/// What an entry says, by each of the keys that shares go by, the strongest first.
pub type Share = [Option<Value>; 3];

/// A target with the entries that it is made of.
#[derive(Debug)]
pub struct One<'a> {
    /// Its tier.
    pub tier: Option<&'a Value>,
    /// What each of its entries says.
    pub entries: &'a [Share],
}

/// What targets get.
#[derive(Debug, Default)]
pub struct Shares {
    /// The weight of each.
    pub weights: Vec<Option<Value>>,
    /// What is to be said of it.
    pub notes: Vec<Option<&'static str>>,
}

/// The share of each target, by the strongest key that the first entry of its tier has, as LiteLLM shares out: who does not say it gets
/// none. Its other strategies look at no share: there whoever has one has it.
pub fn of(targets: &[One<'_>], is_shared: bool) -> Shares {
    const NONE: &str = "it says no share, and the first of its name does: it is asked when the others are out, as by LiteLLM";
    const UNSEEN: &str = "its weight does not count, as by LiteLLM: the first of its name has none";
    let share = |one: &One<'_>| {
        let tier = targets.iter().filter(|other| other.tier == one.tier);
        let entries = tier.flat_map(|other| other.entries);
        let seen: Vec<_> = entries
            .take(if is_shared { 1 } else { usize::MAX })
            .collect();
        let has = |kind: &usize| seen.iter().any(|entry| said(entry, *kind).is_some());
        let is_unseen = !has(&0) && one.entries.iter().any(|entry| said(entry, 0).is_some());
        let unseen = is_unseen.then_some(UNSEEN);
        let Some(kind) = (0..3).find(has) else {
            let times = one.entries.len();
            return ((times > 1).then(|| times.into()), unseen);
        };
        let entries = one.entries.iter();
        let entries = entries.filter_map(|entry| said(entry, kind).cloned());
        match entries.reduce(both) {
            None if is_shared => (Some(0.into()), Some(NONE)),
            weight => (weight, unseen),
        }
    };
    let (weights, notes) = targets.iter().map(share).unzip();
    Shares {
        weights: whole(weights),
        notes,
    }
}

/// What an entry says by one of the keys.
fn said(share: &Share, kind: usize) -> Option<&Value> {
    share.get(kind).and_then(Option::as_ref)
}

/// The sum of two shares, where no variable says one.
fn both(one: Value, other: Value) -> Value {
    let Some((first, second)) = one.as_f64().zip(other.as_f64()) else {
        return one;
    };
    let sum = (first + second).min(f64::from(u32::MAX));
    match sum.fract() {
        0.0 => (sum as u64).into(),
        _ => sum.into(),
    }
}

/// Shares in whole numbers, as they are here, to a thousandth. What a variable says stays.
fn whole(weights: Vec<Option<Value>>) -> Vec<Option<Value>> {
    if !weights.iter().flatten().any(Value::is_f64) {
        return weights;
    }
    let thousandths = |weight: &Value| {
        let weight = (weight.as_f64()? * 1000.0).round();
        Some((weight as u64).max(u64::from(weight > 0.0)))
    };
    let said = weights.iter().flatten().filter_map(thousandths);
    let common = said.fold(0, |mut one, mut other| {
        while other > 0 {
            (one, other) = (other, one % other);
        }
        one
    });
    let share = |weight: Value| match thousandths(&weight) {
        Some(share) => (share / common.max(1)).min(u64::from(u32::MAX)).into(),
        None => weight,
    };
    let weights = weights.into_iter();
    weights.map(|weight| weight.map(share)).collect()
}
