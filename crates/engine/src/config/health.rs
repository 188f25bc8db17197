//! What is asked in the background.

use std::time::Duration;

/// Health checks: lists of models, which cost no tokens, and chats of one token, which do.
#[derive(Clone, Debug)]
pub struct HealthCheck {
    /// Whether at all.
    pub enabled: bool,
    /// How often.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Every model that the configuration names is chatted with, unless its provider names one for that.
    pub probe_models: bool,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(10),
            probe_models: false,
        }
    }
}
