//! Words between processes, published to whoever listens at the same database of one Redis.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use polygate_store::signals::{SignalStore, fits};
use polygate_store::{Result, StoreError};
use redis::{Client, RedisResult};
use tokio::sync::broadcast;
use tokio::time::{sleep, timeout};

use super::{ANSWER, CONNECT, RedisStore, away};

/// Between two tries to listen again.
const PAUSE: Duration = Duration::from_secs(1);

/// After so long a silence it is asked whether the server is still there: a connection may die without a word.
const SILENCE: Duration = Duration::from_secs(15);

/// Published words know no databases: each has a channel of its own.
pub(super) fn channel(client: &Client) -> String {
    let database = client.get_connection_info().redis_settings().db();
    format!("polygate:signals:{database}")
}

#[async_trait]
impl SignalStore for RedisStore {
    async fn tell(&self, word: &str) -> Result<()> {
        fits(word)?;
        let mut connection = self.connection().await?;
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(channel(&self.client)).arg(word);
        let told = publish.query_async::<i64>(&mut connection);
        match timeout(ANSWER, told).await {
            Ok(told) => told.map(drop).map_err(|error| away(&error)),
            Err(_) => Err(StoreError::Unavailable("it does not answer".to_owned())),
        }
    }

    fn told(&self) -> broadcast::Receiver<Arc<str>> {
        let told = self.signals.subscribe();
        self.listener.get_or_init(|| {
            let (client, signals) = (self.client.clone(), self.signals.clone());
            tokio::spawn(listen(client, signals))
        });
        told
    }
}

/// Passes words on for ever, over broken connections. Those that are lost were hints.
async fn listen(client: Client, signals: broadcast::Sender<Arc<str>>) {
    loop {
        if let Err(error) = hear(&client, &signals).await {
            tracing::debug!(%error, "the words of other replicas are not heard");
        }
        sleep(PAUSE).await;
    }
}

async fn hear(client: &Client, signals: &broadcast::Sender<Arc<str>>) -> RedisResult<()> {
    let Ok(listener) = timeout(CONNECT, client.get_async_pubsub()).await else {
        return Ok(());
    };
    let (mut asking, mut words) = listener?.split();
    let Ok(subscribed) = timeout(ANSWER, asking.subscribe(channel(client))).await else {
        return Ok(());
    };
    subscribed?;
    loop {
        match timeout(SILENCE, words.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(word)) => {
                // What is no text is no word of ours; and nobody may listen.
                if let Ok(word) = word.get_payload::<String>() {
                    let _ = signals.send(word.into());
                }
            }
            Err(_) => match timeout(ANSWER, asking.ping::<redis::Value>()).await {
                Ok(answered) => drop(answered?),
                Err(_) => return Ok(()),
            },
        }
    }
}
