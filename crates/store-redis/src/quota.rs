//! What is taken of windows: a number each, that goes a day after its window.

use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use polygate_store::quota::{Granted, Lease, QuotaStore, QuotaWindow};
use polygate_store::{Result, StoreError};

use super::{RedisStore, away};

/// Each wish by itself and in order, all at once: nobody comes between. Numbers are whole as far as Lua's are, which is a billion
/// dollars.
pub const LEASE: &str = r"
local answer = {}
for at, key in ipairs(KEYS) do
  local want, cap, seconds = tonumber(ARGV[3 * at - 2]), tonumber(ARGV[3 * at - 1]), tonumber(ARGV[3 * at])
  local taken = tonumber(redis.call('GET', key) or '0')
  local granted
  if want >= 0 then
    granted = math.min(want, math.max(cap - taken, 0))
  else
    granted = math.max(want, -taken)
  end
  if granted ~= 0 then
    taken = taken + granted
    redis.call('SET', key, string.format('%.0f', taken))
    if seconds > 0 then
      redis.call('EXPIRE', key, seconds)
    end
  end
  answer[2 * at - 1] = granted
  answer[2 * at] = taken
end
return answer
";

/// The largest whole number that Lua counts with.
const MOST: i64 = 1 << 53;

/// How long a window is kept after its end: replicas' clocks differ.
const AFTER: i64 = 86_400;

#[async_trait]
impl QuotaStore for RedisStore {
    async fn lease(&self, leases: &[Lease]) -> Result<Vec<Granted>> {
        let mut connection = self.connection().await?;
        let mut call = self.lease.prepare_invoke();
        for lease in leases {
            call.key(key(&lease.window))
                .arg(lease.want.clamp(-MOST, MOST))
                .arg(lease.cap.clamp(-MOST, MOST))
                .arg(seconds(&lease.window));
        }
        let answer: Vec<i64> = call
            .invoke_async(&mut connection)
            .await
            .map_err(|error| away(&error))?;
        let granted = answer.chunks_exact(2).filter_map(|pair| match pair {
            [granted, taken] => Some(Granted {
                granted: *granted,
                taken: *taken,
            }),
            _ => None,
        });
        let granted: Vec<Granted> = granted.collect();
        if granted.len() != leases.len() {
            return Err(StoreError::Corrupt(
                "an answer of another length".to_owned(),
            ));
        }
        Ok(granted)
    }

    async fn taken(&self, windows: &[QuotaWindow]) -> Result<Vec<i64>> {
        if windows.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.connection().await?;
        let keys: Vec<String> = windows.iter().map(key).collect();
        let taken: Vec<Option<i64>> = redis::cmd("MGET")
            .arg(keys)
            .query_async(&mut connection)
            .await
            .map_err(|error| away(&error))?;
        Ok(taken.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// They go by themselves.
    async fn forget_windows(&self, _before: i64, _limit: u32) -> Result<u64> {
        Ok(0)
    }
}

/// One slot for all, so that one script may have them together where there are several servers.
fn key(window: &QuotaWindow) -> String {
    format!("polygate:{{quota}}:{}:{}", window.name, window.began)
}

/// How long a window is kept; 0: for ever.
fn seconds(window: &QuotaWindow) -> i64 {
    if window.ends == i64::MAX {
        return 0;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    (window.ends / 1_000_000).saturating_sub(now).max(0) + AFTER
}
