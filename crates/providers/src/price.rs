//! What models cost, as listed: `data/prices.toml`, read once. Only for comparing.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::table::Row;

/// USD per million tokens, in millionths of a dollar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Of what is sent.
    pub input: u64,
    /// Of what is answered.
    pub output: u64,
}

/// How many input tokens a call has for one of its output tokens, as calls usually are.
const INPUT_SHARE: u64 = 3;

/// Millionths in one.
const MILLION: f64 = 1e6;

/// What names may have in front that says nothing of the price: Google's collection, and Bedrock's places.
const FRONTS: [&str; 8] = [
    "models/", "us.", "eu.", "apac.", "global.", "us-gov.", "jp.", "au.",
];

impl Price {
    /// From USD per million tokens; `None` where these are no prices.
    pub fn of_dollars(input: f64, output: f64) -> Option<Self> {
        let millionths = |dollars: f64| {
            let is_price = dollars.is_finite() && (0.0..=MILLION).contains(&dollars);
            is_price.then(|| (dollars * MILLION).round() as u64)
        };
        Some(Self {
            input: millionths(input)?,
            output: millionths(output)?,
        })
    }

    /// One number to compare by: a call of three input tokens for one of output.
    pub fn blend(self) -> u64 {
        self.input
            .saturating_mul(INPUT_SHARE)
            .saturating_add(self.output)
    }
}

/// What a model costs at a provider of this row; `None` where nobody listed it.
pub fn price_of(row: &Row, model: &str) -> Option<Price> {
    let listed = |name: &str| {
        let prices = CATALOGUE.get(name)?;
        let bare = FRONTS.iter().find_map(|front| model.strip_prefix(front));
        let pair = prices
            .get(model)
            .or_else(|| bare.and_then(|bare| prices.get(bare)))?;
        let [input, output] = *pair;
        Some(Price { input, output })
    };
    // The same vendor's other address.
    listed(&row.name).or_else(|| row.dialect.as_deref().and_then(listed))
}

type Catalogue = HashMap<String, HashMap<String, [u64; 2]>>;

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    let prices = toml::from_str(include_str!("../data/prices.toml"));
    // The file is ours, and a test reads it: nobody meets the empty one.
    prices.unwrap_or_default()
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row_named;

    fn price(row: &str, model: &str) -> Option<Price> {
        price_of(row_named(row).expect("a row"), model)
    }

    #[test]
    fn every_list_is_of_a_row_and_no_price_is_absurd() {
        assert!(CATALOGUE.len() > 30);
        for (row, prices) in CATALOGUE.iter() {
            assert!(row_named(row).is_some(), "{row}");
            for (model, [input, output]) in prices {
                let most = 2_000_000_000;
                assert!(input.max(output) < &most, "{row} {model}");
            }
        }
    }

    #[test]
    fn names_are_found_as_providers_take_them() {
        let gpt = price("openai", "gpt-4o").expect("a price");
        assert_eq!((gpt.input, gpt.output), (2_500_000, 10_000_000));
        assert_eq!(gpt.blend(), 17_500_000);
        let nova = price("bedrock", "amazon.nova-lite-v1:0");
        assert!(nova.is_some());
        assert_eq!(price("bedrock", "eu.amazon.nova-lite-v1:0"), nova);
        assert_eq!(
            price("gemini", "models/gemini-2.5-flash"),
            price("gemini", "gemini-2.5-flash")
        );
        assert_eq!(price("openai", "gpt-of-mine"), None);
    }

    #[test]
    fn dollars_are_checked() {
        let price = Price::of_dollars(3.0, 15.0).expect("a price");
        assert_eq!((price.input, price.output), (3_000_000, 15_000_000));
        for wrong in [-1.0, f64::NAN, f64::INFINITY, 1e9] {
            assert_eq!(Price::of_dollars(wrong, 1.0), None, "{wrong}");
        }
    }
}
