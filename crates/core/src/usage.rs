//! Token counts of one call, by tier.

use serde::{Deserialize, Serialize};

use crate::ServiceTier;

/// Tokens as the provider reported them. `input` includes what came from a cache; `output` includes reasoning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// All input tokens, cached ones included.
    pub input: u64,
    /// All output tokens, reasoning included.
    pub output: u64,
    /// Input tokens read from the provider's prompt cache.
    pub cache_read: u64,
    /// Input tokens written to the provider's prompt cache.
    pub cache_write: u64,
    /// Those of `cache_write` that are kept for an hour.
    pub cache_write_1h: u64,
    /// Output tokens spent on reasoning.
    pub reasoning: u64,
    /// Input tokens that are sound.
    pub input_audio: u64,
    /// Output tokens that are sound.
    pub output_audio: u64,
    /// How the provider served them, where it said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub served: Option<ServiceTier>,
}

impl Usage {
    /// Input and output together.
    pub fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }

    /// Both together: counts of two calls.
    #[must_use]
    pub fn plus(self, other: Usage) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            cache_write_1h: self.cache_write_1h.saturating_add(other.cache_write_1h),
            reasoning: self.reasoning.saturating_add(other.reasoning),
            input_audio: self.input_audio.saturating_add(other.input_audio),
            output_audio: self.output_audio.saturating_add(other.output_audio),
            served: self.served.filter(|served| other.served == Some(*served)),
        }
    }

    /// The same, served as these words say.
    #[must_use]
    pub fn served_as(self, word: Option<&str>) -> Self {
        Self {
            served: word.and_then(ServiceTier::served).or(self.served),
            ..self
        }
    }

    /// Takes a later report of the same call: providers repeat or complete their counts, they never take back.
    pub fn merge(&mut self, later: Usage) {
        self.input = self.input.max(later.input);
        self.output = self.output.max(later.output);
        self.cache_read = self.cache_read.max(later.cache_read);
        self.cache_write = self.cache_write.max(later.cache_write);
        self.cache_write_1h = self.cache_write_1h.max(later.cache_write_1h);
        self.reasoning = self.reasoning.max(later.reasoning);
        self.input_audio = self.input_audio.max(later.input_audio);
        self.output_audio = self.output_audio.max(later.output_audio);
        self.served = later.served.or(self.served);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_reports_complete_earlier_ones() {
        let mut usage = Usage {
            input: 10,
            output: 1,
            ..Usage::default()
        };
        usage.merge(Usage {
            output: 7,
            ..Usage::default()
        });
        assert_eq!(
            usage,
            Usage {
                input: 10,
                output: 7,
                ..Usage::default()
            }
        );
        assert_eq!(usage.total(), 17);
    }
}
