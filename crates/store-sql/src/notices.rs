//! PostgreSQL's notifications: what others write is noticed at once, and what they tell is heard. Those that are lost are made up for by
//! asking, or were hints.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPool};
use tokio::sync::{broadcast, watch};

use crate::signals;

/// The channel of configuration.
pub(crate) const CHANNEL: &str = "polygate_config";

/// Between two tries to listen again.
const PAUSE: Duration = Duration::from_secs(1);

/// Whom notifications are passed on to.
pub(crate) struct Ears {
    pub(crate) notices: watch::Sender<u64>,
    pub(crate) signals: broadcast::Sender<Arc<str>>,
}

/// Passes notifications on for ever, over broken connections.
pub(crate) async fn listen(pool: PgPool, ears: Ears) {
    loop {
        if let Err(error) = hear(&pool, &ears).await {
            tracing::debug!(%error, "the database's notices are not heard; it is asked instead");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn hear(pool: &PgPool, ears: &Ears) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen_all([CHANNEL, signals::CHANNEL]).await?;
    // What was said before we listened, or while the connection was gone, is made up for.
    ears.notices.send_modify(|count| *count += 1);
    loop {
        match listener.try_recv().await? {
            Some(word) if word.channel() == signals::CHANNEL => {
                // Nobody may listen.
                let _ = ears.signals.send(word.payload().into());
            }
            _ => ears.notices.send_modify(|count| *count += 1),
        }
    }
}
