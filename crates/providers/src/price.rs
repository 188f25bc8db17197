//! What tokens cost, by tier, and what a call comes to: whole numbers all the way, rounded once.

use std::borrow::Cow;

pub use polygate_core::ServiceTier;
use polygate_core::Usage;
use serde::{Deserialize, Serialize};

/// What a million tokens of each tier cost, in millionths of a dollar. A tier without a price of its own has that of what it is a
/// part of: reading from a cache, writing to it and sound that of input (an hour's writing that of other writing first), sound and
/// reasoning that of output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Of what is sent.
    pub input: u64,
    /// Of what is answered.
    pub output: u64,
    /// Of input that a cache had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<u64>,
    /// Of input that a cache keeps for minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<u64>,
    /// Of input that a cache keeps for an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_1h: Option<u64>,
    /// Of input that is sound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_audio: Option<u64>,
    /// Of output that is sound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_audio: Option<u64>,
    /// Of output that is reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<u64>,
}

/// What a model costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Of calls with a prompt of any length, or of usual length.
    #[serde(flatten)]
    pub rates: Rates,
    /// Of calls with a long one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long: Option<Long>,
}

/// What calls with a long prompt cost, all of their tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Long {
    /// A prompt of more tokens than this is long, cached ones included.
    pub above: u64,
    /// Their prices.
    #[serde(flatten)]
    pub rates: Rates,
}

/// Who said what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The catalogue that is built in.
    Catalogue,
    /// A list that was fetched from where the operator said.
    Fetched,
    /// The configuration's file.
    Configuration,
    /// An override that was made while the gateway ran.
    Override,
}

/// The price that a call was charged by, as its row in the ledger keeps it: with it and the tokens, the cost can be had again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceLine {
    /// Who said it.
    pub source: Source,
    /// Of when that is.
    pub date: Cow<'static, str>,
    /// The provider, or its row.
    pub provider: String,
    /// The model, as the provider calls it.
    pub model: String,
    /// How the call was served; `standard` too where nobody listed a price for how it was.
    pub tier: ServiceTier,
    /// In millionths of a dollar for a million tokens.
    #[serde(flatten)]
    pub price: Price,
}

/// How many input tokens a call has for one of its output tokens, as calls usually are.
const INPUT_SHARE: u64 = 3;

/// Millionths in one, and tokens that prices are for.
const MILLION: u128 = 1_000_000;

impl Rates {
    /// What has no price here but in those, has that one: a discount that nobody listed is not given.
    #[must_use]
    pub fn or(self, usual: &Rates) -> Self {
        Self {
            input: self.input,
            output: self.output,
            cache_read: self.cache_read.or(usual.cache_read),
            cache_write: self.cache_write.or(usual.cache_write),
            cache_write_1h: self.cache_write_1h.or(usual.cache_write_1h),
            input_audio: self.input_audio.or(usual.input_audio),
            output_audio: self.output_audio.or(usual.output_audio),
            reasoning: self.reasoning.or(usual.reasoning),
        }
    }

    fn hour(&self) -> u64 {
        self.cache_write_1h
            .or(self.cache_write)
            .unwrap_or(self.input)
    }

    /// Tokens by price. Parts are charged in full even where they are more than the whole: a provider may have left them out of it.
    /// Only sound is not charged again that a cache had.
    fn sum(&self, usage: &Usage) -> u128 {
        let cached = usage.cache_read.saturating_add(usage.cache_write);
        let fresh = usage.input.saturating_sub(cached);
        let heard = usage.input_audio.min(fresh);
        let apart = usage.reasoning.saturating_add(usage.output_audio);
        let parts = [
            (fresh - heard, self.input),
            (heard, self.input_audio.unwrap_or(self.input)),
            (usage.cache_read, self.cache_read.unwrap_or(self.input)),
            (
                usage.cache_write.saturating_sub(usage.cache_write_1h),
                self.cache_write.unwrap_or(self.input),
            ),
            (usage.cache_write_1h, self.hour()),
            (usage.output.saturating_sub(apart), self.output),
            (usage.reasoning, self.reasoning.unwrap_or(self.output)),
            (usage.output_audio, self.output_audio.unwrap_or(self.output)),
        ];
        parts.into_iter().fold(0, |sum, (tokens, price)| {
            // 64 bits each: the product fits, only the sum may not.
            sum.saturating_add(u128::from(tokens) * u128::from(price))
        })
    }

    /// The dearest that so many tokens can come to.
    fn most(&self, input: u64, output: u64) -> u128 {
        let sent = [self.cache_read, self.cache_write, self.input_audio];
        let sent = sent.into_iter().flatten().fold(self.hour(), u64::max);
        let answered = [self.output_audio, self.reasoning];
        let answered = answered.into_iter().flatten().fold(self.output, u64::max);
        let sent = u128::from(input) * u128::from(sent.max(self.input));
        sent.saturating_add(u128::from(output) * u128::from(answered))
    }
}

impl Price {
    /// From USD per million tokens; `None` where these are no prices.
    pub fn of_dollars(input: f64, output: f64) -> Option<Self> {
        let rates = Rates {
            input: millionths(input)?,
            output: millionths(output)?,
            ..Rates::default()
        };
        Some(Self { rates, long: None })
    }

    /// One number to compare by: a call of three input tokens for one of output.
    pub fn blend(self) -> u64 {
        self.rates
            .input
            .saturating_mul(INPUT_SHARE)
            .saturating_add(self.rates.output)
    }

    /// What a call cost, in millionths of a dollar. Rounded once, at the end, half up.
    pub fn cost(&self, usage: &Usage) -> i64 {
        let cached = usage.cache_read.saturating_add(usage.cache_write);
        rounded(self.at(usage.input.max(cached)).sum(usage))
    }

    /// The most that a call can cost whose prompt and answer have so many tokens at most: what is reserved for it. Every token is
    /// taken for one of the dearest tier.
    pub fn estimate(&self, input: u64, output_cap: u64) -> i64 {
        let usual = self.rates.most(input, output_cap);
        let long = self.long.filter(|long| input > long.above);
        rounded(long.map_or(usual, |long| usual.max(long.rates.most(input, output_cap))))
    }

    fn at(&self, prompt: u64) -> &Rates {
        let long = self.long.as_ref().filter(|long| prompt > long.above);
        long.map_or(&self.rates, |long| &long.rates)
    }
}

/// USD per million tokens as prices are kept; `None` where it is no price.
pub fn millionths(dollars: f64) -> Option<u64> {
    let million = 1e6;
    let is_price = dollars.is_finite() && (0.0..=million).contains(&dollars);
    is_price.then(|| (dollars * million).round() as u64)
}

/// The tokens of a call that was cut off, to charge it by: what the provider reported, completed by our count of what was sent where
/// it reported no input, and of what had come where that is more.
#[must_use]
pub fn aborted(reported: Usage, sent: u64, come: u64) -> Usage {
    let knows_input = reported.input > 0;
    Usage {
        input: if knows_input { reported.input } else { sent },
        output: reported.output.max(come),
        ..reported
    }
}

fn rounded(sum: u128) -> i64 {
    i64::try_from(sum.saturating_add(MILLION / 2) / MILLION).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
