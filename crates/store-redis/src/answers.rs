//! Answers that are kept for calls that ask the same: a text each, that goes by itself.

use std::time::Duration;

use polygate_store::Result;

use super::{RedisStore, away};

/// So many keys are looked at, and forgotten, at a time.
const PAGE: usize = 500;

impl RedisStore {
    /// The answer that is kept under a key.
    pub async fn answer(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let mut connection = self.connection().await?;
        let found = redis::cmd("GET")
            .arg(named(key))
            .query_async(&mut connection)
            .await;
        found.map_err(|error| away(&error))
    }

    /// Keeps an answer for so long.
    pub async fn keep_answer(&self, key: &str, answer: &[u8], ttl: Duration) -> Result<()> {
        let mut connection = self.connection().await?;
        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        let kept = redis::cmd("SET")
            .arg(named(key))
            .arg(answer)
            .arg("PX")
            .arg(millis)
            .query_async::<()>(&mut connection)
            .await;
        kept.map_err(|error| away(&error))
    }

    /// Forgets the answers whose keys begin so; how many.
    pub async fn forget_answers(&self, beginning: &str) -> Result<u64> {
        let mut connection = self.connection().await?;
        let pattern = format!("{}*", named(beginning));
        let (mut cursor, mut count) = (0_u64, 0);
        loop {
            let (next, keys): (u64, Vec<String>) = redis::cmd("SCAN")
                .arg(cursor)
                .arg("MATCH")
                .arg(&pattern)
                .arg("COUNT")
                .arg(PAGE)
                .query_async(&mut connection)
                .await
                .map_err(|error| away(&error))?;
            // One by one: where there are several servers, keys are spread over them.
            let mut gone = redis::pipe();
            for key in &keys {
                gone.cmd("UNLINK").arg(key);
            }
            if !keys.is_empty() {
                let gone: Vec<u64> = gone
                    .query_async(&mut connection)
                    .await
                    .map_err(|error| away(&error))?;
                count += gone.iter().sum::<u64>();
            }
            cursor = next;
            if cursor == 0 {
                return Ok(count);
            }
        }
    }
}

fn named(key: &str) -> String {
    format!("polygate:answers:{key}")
}
