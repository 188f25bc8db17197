//! What calls are counted and summed up by, one thing at a time.

use std::borrow::Cow;
use std::collections::BTreeMap;

use polygate_store::usage::{CallFilter, CallRow, Filter, HOUR};

/// One thing that calls have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Facet {
    All,
    Error,
    Key,
    Model,
    /// The model, by each of its names.
    Named,
    Provider,
    Status,
    Stream,
    Team,
}

/// What a call is counted by.
pub(crate) struct Faces<'a> {
    pub(crate) started: i64,
    pub(crate) key: &'a str,
    pub(crate) team: &'a str,
    pub(crate) provider: &'a str,
    pub(crate) model: &'a str,
    pub(crate) label: &'a str,
    pub(crate) upstream_model: &'a str,
    pub(crate) status: i64,
    pub(crate) stream: i64,
    pub(crate) failed: bool,
}

/// A facet, an hour and a name. In an order that all who write have, so that none waits for one who waits for it.
pub(crate) type FacetKey<'a> = (Facet, i64, Cow<'a, str>);

impl Facet {
    /// The word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Facet::All => "all",
            Facet::Error => "error",
            Facet::Key => "key",
            Facet::Model => "model",
            Facet::Named => "named",
            Facet::Provider => "provider",
            Facet::Status => "status",
            Facet::Stream => "stream",
            Facet::Team => "team",
        }
    }
}

/// Those of single calls that have no sums: nothing is left of them once the calls are gone.
pub(crate) const COUNTED: &str = "('error', 'named', 'status', 'stream')";

impl<'a> Faces<'a> {
    pub(crate) fn of(call: &'a CallRow) -> Self {
        Self {
            started: call.started,
            key: &call.key,
            team: &call.team,
            provider: &call.provider,
            model: &call.model,
            label: &call.label,
            upstream_model: &call.upstream_model,
            status: i64::from(call.status),
            stream: i64::from(call.stream),
            failed: call.error.is_some(),
        }
    }

    fn hour(&self) -> i64 {
        self.started.div_euclid(HOUR) * HOUR
    }

    /// What there are sums of.
    pub(crate) fn summed(&self) -> [FacetKey<'a>; 5] {
        [
            (Facet::All, ""),
            (Facet::Key, self.key),
            (Facet::Team, self.team),
            (Facet::Model, self.label),
            (Facet::Provider, self.provider),
        ]
        .map(|(facet, name)| (facet, self.hour(), name.into()))
    }

    /// What is only counted.
    pub(crate) fn counted(&self) -> Vec<FacetKey<'a>> {
        let mut names = vec![self.label];
        for name in [self.model, self.upstream_model] {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let hour = self.hour();
        let mut all = vec![
            (Facet::Status, hour, self.status.to_string().into()),
            (Facet::Stream, hour, self.stream.to_string().into()),
        ];
        all.extend(
            names
                .into_iter()
                .map(|name| (Facet::Named, hour, name.into())),
        );
        if self.failed {
            all.push((Facet::Error, hour, "".into()));
        }
        all
    }
}

impl<'a> Faces<'a> {
    /// All that it is counted by.
    pub(crate) fn all(&self) -> Vec<FacetKey<'a>> {
        let mut all = self.counted();
        all.extend(self.summed());
        all
    }
}

/// Counts of these keys.
pub(crate) fn count<'a>(
    keys: impl Iterator<Item = FacetKey<'a>>,
    each: i64,
) -> BTreeMap<FacetKey<'a>, i64> {
    let mut counts = BTreeMap::new();
    for key in keys {
        *counts.entry(key).or_default() += each;
    }
    counts
}

/// What a filter of sums asks for.
pub(crate) fn of_sums(of: &Filter) -> Vec<(Facet, &str)> {
    [
        (Facet::Key, &of.key),
        (Facet::Team, &of.team),
        (Facet::Model, &of.model),
        (Facet::Provider, &of.provider),
    ]
    .into_iter()
    .filter_map(|(facet, name)| Some((facet, name.as_deref()?)))
    .collect()
}

/// What a filter of calls asks for, all of which a call must have.
pub(crate) fn of_calls(of: &CallFilter) -> Vec<(Facet, Cow<'_, str>)> {
    let summed = of_sums(&of.of).into_iter();
    let mut all: Vec<_> = summed.map(|(facet, name)| (facet, name.into())).collect();
    let counted = [
        (Facet::Named, of.named.as_deref().map(Cow::from)),
        (
            Facet::Status,
            of.status.map(|status| status.to_string().into()),
        ),
        (
            Facet::Stream,
            of.stream.map(|stream| i64::from(stream).to_string().into()),
        ),
        (Facet::Error, of.errors.then(|| "".into())),
    ];
    all.extend(
        counted
            .into_iter()
            .filter_map(|(facet, name)| Some((facet, name?))),
    );
    if all.is_empty() {
        all.push((Facet::All, "".into()));
    }
    all
}
