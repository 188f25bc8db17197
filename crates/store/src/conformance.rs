//! What every store must do: one suite for all of them.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a suite of tests: what is not as it should be ends it"
)]

mod audit;
mod config;
pub mod dashboard;
mod kept;
pub mod quota;
pub mod signals;
pub(crate) mod usage;

use std::sync::Arc;

use crate::Store;

/// Runs the suite; each chapter on an empty store of its own.
pub async fn run<S, F>(empty: impl Fn() -> F)
where
    S: Store + 'static,
    F: Future<Output = S>,
{
    config::versions(&empty().await).await;
    config::expectations(&empty().await).await;
    config::history(&empty().await).await;
    config::forgetting(&empty().await).await;
    config::pages(&empty().await).await;
    config::notes(&empty().await).await;
    config::notices(&empty().await).await;
    config::many_writers(Arc::new(empty().await)).await;
    audit::entries(&empty().await).await;
    audit::wanted(&empty().await).await;
    audit::nothing(&empty().await).await;
    audit::many_at_once(Arc::new(empty().await)).await;
    usage::rows(&empty().await).await;
    usage::by_team(&empty().await).await;
    usage::sums(&empty().await).await;
    usage::lists(&empty().await).await;
    usage::orders(&empty().await).await;
    usage::forgetting(&empty().await).await;
    usage::as_said(&empty().await).await;
    dashboard::questions(&empty().await).await;
    quota::leases(&empty().await).await;
    quota::formula(&empty().await).await;
    quota::forgetting(&empty().await).await;
    quota::many_takers(Arc::new(empty().await)).await;
    kept::answers(&empty().await).await;
    signals::words(&empty().await).await;
}
