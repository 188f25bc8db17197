//! The audit log in memory.

use async_trait::async_trait;

use super::MemoryStore;
use crate::audit::{AuditStore, Entry, Event, EventFilter};
use crate::error::Result;

#[async_trait]
impl AuditStore for MemoryStore {
    async fn add(&self, event: &Event) -> Result<i64> {
        Ok(self.held().note(event.clone()))
    }

    async fn entries(&self, of: &EventFilter, before: i64, limit: u32) -> Result<Vec<Entry>> {
        let held = self.held();
        let newest = held.events.iter().rev();
        let wanted = newest.filter(|entry| entry.number < before && of.matches(&entry.event));
        Ok(wanted.take(limit as usize).cloned().collect())
    }

    async fn forget_entries(&self, before: i64, limit: u32) -> Result<u64> {
        let mut held = self.held();
        let mut left = u64::from(limit);
        held.events.retain(|entry| {
            let is_old = left > 0 && entry.event.at < before;
            left -= u64::from(is_old);
            !is_old
        });
        Ok(u64::from(limit) - left)
    }
}

impl EventFilter {
    fn matches(&self, event: &Event) -> bool {
        let begins =
            |text: &str, with: &Option<String>| text.starts_with(with.as_deref().unwrap_or(""));
        begins(&event.actor, &self.actor)
            && begins(&event.action, &self.action)
            && self.since.is_none_or(|since| event.at >= since)
            && self.until.is_none_or(|until| event.at < until)
    }
}
