//! Limited amounts.

use async_trait::async_trait;
use polygate_store::quota::{Granted, Lease, QuotaWindow};
use polygate_store::{QuotaStore, Result};

use crate::error::from_sqlx;
use crate::pool::{SqlStore, reading, writing};

#[async_trait]
impl QuotaStore for SqlStore {
    async fn lease(&self, leases: &[Lease]) -> Result<Vec<Granted>> {
        // In one order whoever asks, so that two who want the same do not wait for one another.
        let mut order: Vec<usize> = (0..leases.len()).collect();
        order.sort_by_key(|index| leases.get(*index).map(|lease| &lease.window));
        writing!(self, transaction => {
            let mut granted = vec![Granted::default(); leases.len()];
            for index in order {
                let Some(lease) = leases.get(index) else { continue };
                // Holds the row until the end: what is read here nobody changes.
                let (taken,): (i64,) = sqlx::query_as(
                    "INSERT INTO quotas (name, began, ends, taken) VALUES ($1, $2, $3, 0)
                     ON CONFLICT (name, began) DO UPDATE SET taken = quotas.taken RETURNING taken",
                )
                .bind(&lease.window.name)
                .bind(lease.window.began)
                .bind(lease.window.ends)
                .fetch_one(&mut *transaction)
                .await
                .map_err(from_sqlx)?;
                let grant = Granted::of(taken, lease.want, lease.cap);
                if grant.granted != 0 {
                    sqlx::query("UPDATE quotas SET taken = $3 WHERE name = $1 AND began = $2")
                        .bind(&lease.window.name)
                        .bind(lease.window.began)
                        .bind(grant.taken)
                        .execute(&mut *transaction)
                        .await
                        .map_err(from_sqlx)?;
                }
                if let Some(slot) = granted.get_mut(index) {
                    *slot = grant;
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
