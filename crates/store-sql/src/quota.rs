//! Limited amounts.

use async_trait::async_trait;
use polygate_store::quota::{Granted, Lease, QuotaWindow};
use polygate_store::{QuotaStore, Result};

use crate::error::from_sqlx;
use crate::pool::{Pool, SqlStore, reading, writing};

/// Takes of a row and says what was taken: the row is held by the statement alone. What is granted is [`Granted::of`] in SQL.
const TAKE: &str = "INSERT INTO quotas (name, began, ends, taken, granted) VALUES ($1, $2, $3, $4, $4)
    ON CONFLICT (name, began) DO UPDATE SET
      granted = CASE WHEN quotas.taken >= $6 THEN 0 WHEN $6 - quotas.taken < $5 THEN $6 - quotas.taken ELSE $5 END,
      taken = CASE WHEN quotas.taken >= $6 THEN quotas.taken WHEN $6 - quotas.taken < $5 THEN $6 ELSE quotas.taken + $5 END
    RETURNING granted, taken";

/// Gives back likewise, whatever the limit is.
const GIVE: &str =
    "INSERT INTO quotas (name, began, ends, taken, granted) VALUES ($1, $2, $3, $4, $4)
    ON CONFLICT (name, began) DO UPDATE SET
      granted = CASE WHEN $5 < -quotas.taken THEN -quotas.taken ELSE $5 END,
      taken = CASE WHEN $5 < -quotas.taken THEN 0 ELSE quotas.taken + $5 END
    RETURNING granted, taken";

/// One lease on a connection, in a transaction or in none.
macro_rules! leased {
    ($connection:expr, $lease:expr) => {{
        let lease: &Lease = $lease;
        let first = Granted::of(0, lease.want, lease.cap);
        let text = if lease.want < 0 { GIVE } else { TAKE };
        let mut query = sqlx::query_as(text)
            .bind(&lease.window.name)
            .bind(lease.window.began)
            .bind(lease.window.ends)
            .bind(first.granted)
            .bind(lease.want);
        if lease.want >= 0 {
            query = query.bind(lease.cap);
        }
        let (granted, taken): (i64, i64) = query.fetch_one($connection).await.map_err(from_sqlx)?;
        Granted { granted, taken }
    }};
}

#[async_trait]
impl QuotaStore for SqlStore {
    async fn lease(&self, leases: &[Lease]) -> Result<Vec<Granted>> {
        if let [lease] = leases {
            return self.lease_one(lease).await.map(|granted| vec![granted]);
        }
        // In one order whoever asks, so that two who want the same do not wait for one another.
        let mut order: Vec<usize> = (0..leases.len()).collect();
        order.sort_by_key(|index| leases.get(*index).map(|lease| &lease.window));
        writing!(self, transaction => {
            let mut granted = vec![Granted::default(); leases.len()];
            for index in order {
                if let Some((lease, slot)) = leases.get(index).zip(granted.get_mut(index)) {
                    *slot = leased!(&mut *transaction, lease);
                }
            }
            granted
        })
    }

    async fn taken(&self, windows: &[QuotaWindow]) -> Result<Vec<i64>> {
        let mut all = Vec::with_capacity(windows.len());
        for window in windows {
            let taken: Option<(i64,)> = reading!(self, connection => {
                sqlx::query_as("SELECT taken FROM quotas WHERE name = $1 AND began = $2")
                    .bind(&window.name)
                    .bind(window.began)
                    .fetch_optional(connection)
                    .await
            })
            .map_err(from_sqlx)?;
            all.push(taken.map_or(0, |(taken,)| taken));
        }
        Ok(all)
    }

    async fn forget_windows(&self, before: i64, limit: u32) -> Result<u64> {
        writing!(self, transaction => {
            let done = sqlx::query(
                "DELETE FROM quotas WHERE (name, began) IN
                 (SELECT name, began FROM quotas WHERE ends < $1 ORDER BY ends LIMIT $2)",
            )
            .bind(before)
            .bind(i64::from(limit))
            .execute(&mut *transaction)
            .await
            .map_err(from_sqlx)?;
            done.rows_affected()
        })
    }
}

impl SqlStore {
    /// One statement is a transaction of its own.
    async fn lease_one(&self, lease: &Lease) -> Result<Granted> {
        Ok(match &self.pool {
            Pool::Sqlite { writer, .. } => leased!(writer, lease),
            Pool::Postgres(pool) => leased!(pool, lease),
        })
    }
}
