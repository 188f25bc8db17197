//! How often a call is tried, and what rests meanwhile.

use std::time::Duration;

/// How often and how long is tried.
#[derive(Clone, Debug)]
pub struct Retry {
    /// Further attempts after the first; `None`: each candidate once, and at least three more in all.
    pub max_retries: Option<u32>,
    /// The same for streams, before their first good event: the lower of both counts.
    pub stream_retries: Option<u32>,
    /// Backoff before the same candidate is asked again: full jitter up to `initial · 2ⁿ`, at most this.
    pub max_backoff: Duration,
    /// Where that backoff begins.
    pub initial_backoff: Duration,
    /// The longest that a call waits for a resting candidate.
    pub max_wait: Duration,
    /// Rest of a credential after 429 without Retry-After.
    pub cooldown_rate_limit: Duration,
    /// Rest of a credential after 402 and quota messages.
    pub cooldown_quota: Duration,
    /// Rest of a provider whose breaker opened on error statuses.
    pub cooldown_error: Duration,
    /// Rest of a provider whose breaker opened on connections.
    pub cooldown_network: Duration,
    /// The longest rest that an upstream's Retry-After can ask for.
    pub max_cooldown: Duration,
    /// Failures in a row that open a provider's breaker.
    pub breaker_threshold: u32,
}

impl Retry {
    /// So many attempts a call has at most; `None`: each candidate one, and more.
    pub fn attempts(&self, stream: bool) -> Option<usize> {
        let retries = [self.max_retries, self.stream_retries.filter(|_| stream)];
        let retries = retries.into_iter().flatten().min()?;
        Some(
            usize::try_from(retries)
                .unwrap_or(usize::MAX)
                .saturating_add(1),
        )
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_retries: None,
            stream_retries: None,
            max_backoff: Duration::from_secs(5),
            initial_backoff: Duration::from_millis(200),
            max_wait: Duration::ZERO,
            cooldown_rate_limit: Duration::from_secs(60),
            cooldown_quota: Duration::from_secs(3600),
            cooldown_error: Duration::from_secs(15),
            cooldown_network: Duration::from_secs(10),
            max_cooldown: Duration::from_secs(3600),
            breaker_threshold: 5,
        }
    }
}
