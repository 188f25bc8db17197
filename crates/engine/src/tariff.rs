//! What calls of a candidate cost: its price lines, by how a call is served, made once a configuration.

use std::borrow::Cow;
use std::sync::Arc;

use polygate_core::Usage;
use polygate_providers::price::{ServiceTier, Source};
use polygate_providers::{Catalogue, Price, PriceLine};

use crate::config::PriceOverride;
use crate::snapshot::Upstream;

/// What calls of a candidate cost.
#[derive(Debug)]
pub struct Tariff {
    usual: Line,
    others: Vec<Line>,
}

/// A price with the words that rows of the ledger keep it in.
#[derive(Debug)]
pub struct Line {
    tier: ServiceTier,
    price: Price,
    text: Arc<str>,
}

impl Tariff {
    /// What a model costs at a provider: by an override made while the gateway runs, by the target's own price, by the file's
    /// overrides, by the catalogue. `None`: nobody knows.
    pub fn of(
        upstream: &Upstream,
        model: &str,
        own: Option<Price>,
        (overrides, catalogue): (&[PriceOverride], &Catalogue),
    ) -> Option<Self> {
        let best = best(overrides, &upstream.name, model);
        let made_later = best.filter(|one| one.source == Source::Override);
        let said = made_later.map(|one| (one.source, &*one.date, one.price));
        let own = own.map(|price| (Source::Configuration, "", price));
        let in_file = best.map(|one| (one.source, &*one.date, one.price));
        if let Some((source, date, price)) = said.or(own).or(in_file) {
            let usual = Line::of(PriceLine {
                source,
                date: Cow::Owned(date.to_owned()),
                provider: upstream.name.to_string(),
                model: model.to_owned(),
                tier: ServiceTier::Standard,
                price,
            });
            return Some(Self {
                usual,
                others: Vec::new(),
            });
        }
        let listing = catalogue.listing(upstream.said, model)?;
        let usual = Line::of(listing.line(ServiceTier::Standard)?);
        let tiers = listing.tiers.iter();
        let others = tiers.filter_map(|(tier, _)| listing.line(*tier).map(Line::of));
        Some(Self {
            usual,
            others: others.collect(),
        })
    }

    /// The price of calls that are served so; the usual one where nobody listed another.
    pub fn line(&self, tier: ServiceTier) -> &Line {
        let mut others = self.others.iter();
        others.find(|line| line.tier == tier).unwrap_or(&self.usual)
    }

    /// The usual price.
    pub fn usual(&self) -> Price {
        self.usual.price
    }

    /// The most that a call can come to, however it is served; millionths of a dollar.
    pub fn most(&self, input: u64, output_cap: u64) -> u64 {
        let lines = std::iter::once(&self.usual).chain(&self.others);
        let most = lines.map(|line| line.most(input, output_cap)).max();
        most.unwrap_or_default()
    }
}

impl Line {
    fn of(line: PriceLine) -> Self {
        Self {
            tier: line.tier,
            price: line.price,
            // It has strings and numbers alone.
            text: serde_json::to_string(&line).unwrap_or_default().into(),
        }
    }

    /// What so many tokens cost; millionths of a dollar.
    pub fn cost(&self, usage: &Usage) -> i64 {
        self.price.cost(usage)
    }

    /// The most that a call with a prompt and an answer of so many tokens can come to; millionths of a dollar.
    pub fn most(&self, input: u64, output_cap: u64) -> u64 {
        let most = self.price.estimate(input, output_cap);
        u64::try_from(most).unwrap_or_default()
    }

    /// The line as JSON.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }
}

/// The override that is meant for this: those made later first, then those of the provider alone, then the most specific name; of
/// equals the first.
fn best<'a>(
    overrides: &'a [PriceOverride],
    provider: &str,
    model: &str,
) -> Option<&'a PriceOverride> {
    let is_meant = |one: &&PriceOverride| {
        let mut of = one.provider.iter();
        of.all(|name| name == provider) && one.model.matches(model)
    };
    let rank = |one: &PriceOverride| {
        let is_later = one.source == Source::Override;
        (is_later, one.provider.is_some(), one.model.specificity())
    };
    let matching = overrides.iter().filter(is_meant);
    matching.reduce(|best, next| if rank(next) > rank(best) { next } else { best })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::pattern::Pattern;

    fn one(source: Source, provider: Option<&str>, model: &str, input: f64) -> PriceOverride {
        PriceOverride {
            provider: provider.map(str::to_owned),
            model: Pattern::mapping(model).expect("a pattern"),
            price: Price::of_dollars(input, 1.0).expect("a price"),
            date: String::new(),
            source,
        }
    }

    #[test]
    fn the_nearest_override_wins() {
        let overrides = [
            one(Source::Configuration, None, "gpt-*", 1.0),
            one(Source::Configuration, None, "gpt-4*", 2.0),
            one(Source::Configuration, Some("a"), "gpt-*", 3.0),
            one(Source::Override, None, "*-mini", 4.0),
            one(Source::Override, None, "*-mini", 5.0),
        ];
        let input = |provider, model| {
            let best = best(&overrides, provider, model)?;
            Some(best.price.rates.input / 1_000_000)
        };
        for (provider, model, expected) in [
            ("b", "gpt-3", Some(1)),
            ("b", "gpt-4o", Some(2)),
            ("a", "gpt-4o", Some(3)),
            ("a", "gpt-4o-mini", Some(4)),
            ("a", "o3", None),
        ] {
            assert_eq!(input(provider, model), expected, "{provider}/{model}");
        }
    }

    /// Two dollars a million tokens of input, one where it is flexible, four before others.
    pub(crate) fn tiered() -> Tariff {
        let line = |tier, input| {
            Line::of(PriceLine {
                source: Source::Catalogue,
                date: "2026-11".into(),
                provider: "p".to_owned(),
                model: "m".to_owned(),
                tier,
                price: Price::of_dollars(input, 10.0).expect("a price"),
            })
        };
        Tariff {
            usual: line(ServiceTier::Standard, 2.0),
            others: vec![
                line(ServiceTier::Flex, 1.0),
                line(ServiceTier::Priority, 4.0),
            ],
        }
    }

    #[test]
    fn the_most_is_that_of_the_dearest_tier() {
        let tariff = tiered();
        assert_eq!(tariff.most(1000, 100), 5000);
        let usage = Usage {
            input: 1000,
            output: 100,
            ..Usage::default()
        };
        assert_eq!(tariff.line(ServiceTier::Flex).cost(&usage), 2000);
        assert_eq!(tariff.line(ServiceTier::Batch).cost(&usage), 3000);
        assert!(
            tariff
                .line(ServiceTier::Flex)
                .text()
                .contains(r#""tier":"flex""#)
        );
    }
}
