//! PostgreSQL's notifications: what others write is noticed at once. Those that are lost are made up for by asking.

use std::time::Duration;

use sqlx::postgres::{PgListener, PgPool};
use tokio::sync::watch;

/// The channel of configuration.
pub(crate) const CHANNEL: &str = "polygate_config";

/// Between two tries to listen again.
const PAUSE: Duration = Duration::from_secs(1);

/// Passes notices on for ever, over broken connections.
pub(crate) async fn listen(pool: PgPool, notices: watch::Sender<u64>) {
    loop {
        if let Err(error) = hear(&pool, &notices).await {
            tracing::debug!(%error, "the database's notices are not heard; it is asked instead");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn hear(pool: &PgPool, notices: &watch::Sender<u64>) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        // What was said before we listened, or while the connection was gone, is made up for.
        notices.send_modify(|count| *count += 1);
        listener.try_recv().await?;
    }
}
