//! What is old is forgotten: calls, entries of the audit log, versions of the configuration. In batches, in the background.

use std::sync::Arc;
use std::time::Duration;

use polygate_engine::Engine;
use polygate_engine::config::Config;
use polygate_store::StoreError;
use polygate_store::error::Result;

use crate::storage::Opened;

/// How often it is looked for, and how much is forgotten at a time, with a pause behind it.
const LOOK: Duration = Duration::from_secs(600);
const BATCH: u32 = 1_000;
const PAUSE: Duration = Duration::from_millis(100);

/// How long one batch may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// One batch of what is too old; how much was forgotten.
macro_rules! batches {
    ($what:literal, $batch:expr) => {
        async {
            let mut forgotten = 0;
            loop {
                let some = tokio::time::timeout(PATIENCE, $batch)
                    .await
                    .unwrap_or_else(|_| {
                        Err(StoreError::Unavailable("it does not answer".to_owned()))
                    })?;
                forgotten += some;
                if some < u64::from(BATCH) {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
            if forgotten > 0 {
                tracing::info!(forgotten, concat!("old ", $what, " are forgotten"));
            }
            Ok::<(), StoreError>(())
        }
    };
}

/// Forgets what is older than the configuration wants, for ever. Sums of calls stay, and so does what is in force.
pub async fn forget(opened: Arc<Opened>, engine: Arc<Engine>) {
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        if !opened.is_settled() {
            continue;
        }
        let config = engine.snapshot().config.clone();
        let now = engine.clock().unix_micros();
        if let Err(error) = forget_old(&opened, &config, now).await {
            tracing::warn!(%error, "what is old cannot be forgotten now");
        }
    }
}

async fn forget_old(opened: &Opened, config: &Config, now: i64) -> Result<()> {
    let store = &opened.store;
    if let Some(before) = config.ledger.retention.map(|kept| before(now, kept)) {
        batches!("calls", store.forget_calls_before(before, BATCH)).await?;
    }
    if let Some(before) = config.audit.retention.map(|kept| before(now, kept)) {
        batches!(
            "entries of the audit log",
            store.forget_entries(before, BATCH)
        )
        .await?;
    }
    if let Some(kept) = config.audit.versions {
        let versions = batches!(
            "versions of the configuration",
            store.forget_versions(kept.get(), BATCH)
        );
        versions.await?;
    }
    Ok(())
}

fn before(now: i64, kept: Duration) -> i64 {
    now.saturating_sub(i64::try_from(kept.as_micros()).unwrap_or(i64::MAX))
}
