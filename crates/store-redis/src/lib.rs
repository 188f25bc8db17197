//! Redis or Valkey, where replicas have one: limited amounts that they lease, words that they tell one another, and answers that they
//! keep. It may forget; who leases tells it again, words were hints, and answers can be asked for.

mod answers;
mod quota;
mod signals;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use polygate_core::Secret;
use polygate_store::signals::WAITING;
use polygate_store::{Result, StoreError};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, RedisError, Script};
use tokio::sync::{OnceCell, broadcast};
use tokio::task::JoinHandle;

/// How long a connection may take, and an answer. Who asks has less patience; this lets the connection go.
const CONNECT: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_secs(2);

/// A Redis server. It is connected when it is first asked, and again whenever the connection broke.
pub struct RedisStore {
    client: Client,
    connection: OnceCell<ConnectionManager>,
    lease: Script,
    signals: broadcast::Sender<Arc<str>>,
    /// Hears words once somebody wants to be told.
    listener: OnceLock<JoinHandle<()>>,
}

impl RedisStore {
    /// The one at this address.
    pub fn new(url: &Secret) -> Result<Self> {
        // What is wrong is told without the address: there may be a password in it.
        let client = Client::open(url.reveal()).map_err(|_| {
            StoreError::Refused("the address must be 'redis://…' or 'rediss://…'".to_owned())
        })?;
        Ok(Self {
            client,
            connection: OnceCell::new(),
            lease: Script::new(quota::LEASE),
            signals: broadcast::Sender::new(WAITING),
            listener: OnceLock::new(),
        })
    }

    async fn connection(&self) -> Result<ConnectionManager> {
        let connect = || async {
            let config = ConnectionManagerConfig::new()
                .set_connection_timeout(Some(CONNECT))
                .set_response_timeout(Some(ANSWER))
                .set_number_of_retries(1);
            ConnectionManager::new_with_config(self.client.clone(), config)
                .await
                .map_err(|error| away(&error))
        };
        self.connection.get_or_try_init(connect).await.cloned()
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        if let Some(listener) = self.listener.get() {
            listener.abort();
        }
    }
}

fn away(error: &RedisError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}
