//! The refusals of a gateway that has too much to do, or is on its way out.

use polygate_core::{Failure, Kind};
use polygate_engine::seats::COME_AGAIN;

/// The refusal of a call that there is no place for.
pub fn overloaded(what: &str) -> Failure {
    Failure::new(
        Kind::Unavailable,
        format!("the gateway has as many {what} as it takes: try again shortly"),
    )
    .retry_after(Some(COME_AGAIN))
}

/// The end of a call for which the gateway did not wait.
pub fn stopping() -> Failure {
    Failure::new(
        Kind::Unavailable,
        "the gateway is stopping and could not wait for the rest of this answer",
    )
    .retry_after(Some(COME_AGAIN))
}
