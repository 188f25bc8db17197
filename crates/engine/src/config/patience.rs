//! How long clients may take.

use std::time::Duration;

/// How long clients may take for what they do.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For a request's head, from its first byte; from the connection's beginning for the first.
    pub header: Duration,
    /// For the next piece of a request's body.
    pub body: Duration,
    /// For reading a piece of an answer.
    pub write: Duration,
    /// Between requests.
    pub idle: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(30),
            body: Duration::from_secs(30),
            write: Duration::from_secs(60),
            // Longer than what load balancers keep connections for: the one who sends must close first.
            idle: Duration::from_secs(75),
        }
    }
}
