//! The audit log in memory.

use async_trait::async_trait;

use super::MemoryStore;
use crate::audit::{AuditStore, Entry, Event};
use crate::error::Result;

#[async_trait]
impl AuditStore for MemoryStore {
    async fn add(&self, event: &Event) -> Result<i64> {
        let mut held = self.held();
        held.events.push(event.clone());
        Ok(i64::try_from(held.events.len()).unwrap_or(i64::MAX))
    }

    async fn entries(&self, before: i64, limit: u32) -> Result<Vec<Entry>> {
        let held = self.held();
        let entries = (1..).zip(held.events.iter().cloned());
        let entries = entries.map(|(number, event)| Entry { number, event });
        let mut entries: Vec<Entry> = entries.take_while(|entry| entry.number < before).collect();
        entries.reverse();
        entries.truncate(limit as usize);
        Ok(entries)
    }
}
