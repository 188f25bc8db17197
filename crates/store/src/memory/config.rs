//! Configuration in memory.

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Held, MemoryStore};
use crate::audit::{Event, subject};
use crate::config::{
    Change, ConfigStore, Document, Documents, Expect, Kind, Page, Put, Version, Write,
};
use crate::error::{Result, StoreError};

impl Held {
    fn version(&self) -> i64 {
        self.versions.last().map_or(0, |last| last.version)
    }

    /// What a put makes of what is there; `None`: no change.
    fn change(&mut self, put: Put, version: i64, at: i64) -> Result<Option<Change>> {
        let Put {
            kind,
            name,
            body,
            expect,
        } = put;
        let before = self.documents.get(&(kind, name.clone())).cloned();
        expect.check(kind, &name, before.as_ref())?;
        let after = match body {
            None => None,
            Some(body) if before.as_ref().is_some_and(|before| before.body == body) => {
                return Ok(None);
            }
            Some(body) => Some(Document {
                kind,
                id: before.as_ref().map_or_else(
                    || {
                        self.last_id += 1;
                        self.last_id
                    },
                    |before| before.id,
                ),
                name: name.clone(),
                body,
                version,
                created: before.as_ref().map_or(at, |before| before.created),
                updated: at,
            }),
        };
        let is_news = before.is_some() || after.is_some();
        Ok(is_news.then_some(Change {
            version,
            kind,
            name,
            before,
            after,
        }))
    }
}

impl Expect {
    /// Whether what is there is what was expected.
    pub fn check(self, kind: Kind, name: &str, found: Option<&Document>) -> Result<()> {
        let is_met = match self {
            Expect::Anything => true,
            Expect::Nothing => found.is_none(),
            Expect::Something => found.is_some(),
            Expect::Version(version) => found.is_some_and(|found| found.version == version),
        };
        let conflict = || StoreError::Conflict {
            kind,
            name: name.to_owned(),
            found: found.map(|found| found.version),
        };
        is_met.then_some(()).ok_or_else(conflict)
    }
}

#[async_trait]
impl ConfigStore for MemoryStore {
    async fn version(&self) -> Result<i64> {
        Ok(self.held().version())
    }

    async fn documents(&self) -> Result<Documents> {
        let held = self.held();
        Ok(Documents {
            version: held.version(),
            documents: held.documents.values().cloned().collect(),
        })
    }

    async fn document(&self, kind: Kind, name: &str) -> Result<Option<Document>> {
        Ok(self.held().documents.get(&(kind, name.to_owned())).cloned())
    }

    async fn document_by_id(&self, kind: Kind, id: i64) -> Result<Option<Document>> {
        let held = self.held();
        let mut documents = held.documents.values();
        let found = documents.find(|document| document.kind == kind && document.id == id);
        Ok(found.cloned())
    }

    async fn page(&self, kind: Kind, page: Page) -> Result<Vec<Document>> {
        let held = self.held();
        let of = |document: &&Document| document.kind == kind && document.id > page.after;
        let mut documents: Vec<_> = held.documents.values().filter(of).cloned().collect();
        documents.sort_by_key(|document| document.id);
        documents.truncate(page.limit as usize);
        Ok(documents)
    }

    async fn write(&self, write: Write) -> Result<i64> {
        let mut held = self.held();
        let version = held.version() + 1;
        let mut changes = Vec::new();
        for put in write.puts {
            changes.extend(held.change(put, version, write.at)?);
        }
        if changes.is_empty() {
            return Ok(held.version());
        }
        for change in &changes {
            let key = (change.kind, change.name.clone());
            match &change.after {
                Some(document) => held.documents.insert(key, document.clone()),
                None => held.documents.remove(&key),
            };
        }
        let names = changes.iter().map(|change| (change.kind, &*change.name));
        let event = Event::of_version(
            version,
            write.at,
            &write.actor,
            &write.action,
            subject(names),
        );
        held.note(event);
        held.versions.push(Version {
            version,
            at: write.at,
            actor: write.actor,
            action: write.action,
            changes: i64::try_from(changes.len()).unwrap_or(i64::MAX),
        });
        held.changes.extend(changes);
        self.notices.send_modify(|count| *count += 1);
        Ok(version)
    }

    async fn changes(&self, after: i64, limit: u32) -> Result<Vec<Change>> {
        let held = self.held();
        let mut taken: Vec<Change> = Vec::new();
        let mut versions = held.versions.iter();
        if !versions.any(|version| version.version == after + 1) {
            return Ok(taken);
        }
        for change in held.changes.iter().filter(|change| change.version > after) {
            let is_next = taken
                .last()
                .is_some_and(|last| last.version != change.version);
            if is_next && taken.len() >= limit as usize {
                break;
            }
            taken.push(change.clone());
        }
        Ok(taken)
    }

    async fn versions(&self, before: i64, limit: u32) -> Result<Vec<Version>> {
        let held = self.held();
        let versions = held.versions.iter().rev();
        let versions = versions.filter(|version| version.version < before);
        Ok(versions.take(limit as usize).cloned().collect())
    }

    async fn forget_versions(&self, kept: u32, limit: u32) -> Result<u64> {
        let mut held = self.held();
        let old = held.versions.len().saturating_sub(kept.max(1) as usize);
        let old = old.min(limit as usize);
        let gone: Vec<i64> = held
            .versions
            .drain(..old)
            .map(|version| version.version)
            .collect();
        held.changes
            .retain(|change| !gone.contains(&change.version));
        Ok(old as u64)
    }

    fn notices(&self) -> watch::Receiver<u64> {
        self.notices.subscribe()
    }

    async fn note(&self, name: &str) -> Result<Option<String>> {
        Ok(self.held().notes.get(name).cloned())
    }

    async fn note_once(&self, name: &str, value: &str) -> Result<String> {
        let mut held = self.held();
        let note = held.notes.entry(name.to_owned());
        Ok(note.or_insert_with(|| value.to_owned()).clone())
    }
}
