//! Configuration as documents with one version counter: every write is a numbered version, which can be followed, compared and
//! taken back.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::error::Result;

/// What a document describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An upstream with its credentials.
    Provider,
    /// A model that names its targets.
    Model,
    /// A caller's key.
    Key,
    /// Callers that share limits.
    Team,
    /// What a model costs, where the catalogue is wrong or silent.
    Price,
}

/// A document: one thing of the configuration, by kind and name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// What it describes.
    pub kind: Kind,
    /// Unique among those of its kind.
    pub name: String,
    /// A number of its own among those of its kind, given once.
    pub id: i64,
    /// A JSON object. Secrets in it are sealed.
    pub body: String,
    /// The version that wrote it last.
    pub version: i64,
    /// When it was made; microseconds since 1970.
    pub created: i64,
    /// When it was written last; microseconds since 1970.
    pub updated: i64,
}

/// One document's change in a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The version.
    pub version: i64,
    /// What it describes.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The document as it was; `None`: there was none.
    pub before: Option<Document>,
    /// The document as it became; `None`: it was deleted.
    pub after: Option<Document>,
}

/// A numbered version: who wrote it, when and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Counted from 1, without gaps.
    pub version: i64,
    /// When; microseconds since 1970.
    pub at: i64,
    /// Who.
    pub actor: String,
    /// What was done, in a few words.
    pub action: String,
    /// How many documents it changed.
    pub changes: i64,
}

/// What a write expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Whatever there is.
    Anything,
    /// Nothing by this name.
    Nothing,
    /// A document by this name.
    Something,
    /// The document as this version wrote it.
    Version(i64),
}

/// One document to be written or deleted.
#[derive(Clone, Debug)]
pub struct Put {
    /// What it describes.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The new body; `None` deletes.
    pub body: Option<String>,
    /// What must be there before.
    pub expect: Expect,
}

/// A new version: all of its documents, or none.
#[derive(Clone, Debug)]
pub struct Write {
    /// Who.
    pub actor: String,
    /// What is done, in a few words.
    pub action: String,
    /// When; microseconds since 1970.
    pub at: i64,
    /// What changes.
    pub puts: Vec<Put>,
}

/// All documents of one version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Documents {
    /// The version; 0: nothing was ever written.
    pub version: i64,
    /// By kind and name.
    pub documents: Vec<Document>,
}

/// A page of documents.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Those with a higher number.
    pub after: i64,
    /// So many at most.
    pub limit: u32,
}

/// Where the configuration is kept.
#[async_trait]
pub trait ConfigStore: Send + Sync {
    /// The last version; 0: nothing was ever written.
    async fn version(&self) -> Result<i64>;
    /// Everything, as of one version.
    async fn documents(&self) -> Result<Documents>;
    /// One document.
    async fn document(&self, kind: Kind, name: &str) -> Result<Option<Document>>;
    /// One document, by its number.
    async fn document_by_id(&self, kind: Kind, id: i64) -> Result<Option<Document>>;
    /// Documents of a kind, by number.
    async fn page(&self, kind: Kind, page: Page) -> Result<Vec<Document>>;
    /// Makes a version; its number. Nothing to change is no version: the last one's number.
    async fn write(&self, write: Write) -> Result<i64>;
    /// What changed after a version, oldest first. A version's changes are never torn apart; about so many changes at most. Nothing
    /// where what changed first is forgotten.
    async fn changes(&self, after: i64, limit: u32) -> Result<Vec<Change>>;
    /// Versions before this one, newest first.
    async fn versions(&self, before: i64, limit: u32) -> Result<Vec<Version>>;
    /// Forgets versions but the last ones, the oldest first and so many at most; how many. Documents stay.
    async fn forget_versions(&self, kept: u32, limit: u32) -> Result<u64>;
    /// Told whenever something may have been written, by whomever. A notice may be lost: who follows also asks from time to time.
    fn notices(&self) -> watch::Receiver<u64>;
    /// A word that is kept beside the configuration.
    async fn note(&self, name: &str) -> Result<Option<String>>;
    /// Keeps a word where there is none yet; the one that is there.
    async fn note_once(&self, name: &str, value: &str) -> Result<String>;
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] = [
        Kind::Provider,
        Kind::Model,
        Kind::Key,
        Kind::Team,
        Kind::Price,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Provider => "provider",
            Kind::Model => "model",
            Kind::Key => "key",
            Kind::Team => "team",
            Kind::Price => "price",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(word: &str) -> std::result::Result<Self, String> {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == word)
            .ok_or_else(|| format!("'{word}' is no kind of document"))
    }
}

impl Documents {
    /// Goes on to the version of these changes.
    pub fn apply(&mut self, changes: &[Change]) {
        let mut known = self.take();
        for change in changes {
            self.version = self.version.max(change.version);
            set(&mut known, change, &change.after);
        }
        self.documents = known.into_values().collect();
    }

    /// Goes back to this version, by the changes that came after it, oldest first.
    pub fn undo(&mut self, changes: &[Change], version: i64) {
        let mut known = self.take();
        for change in changes.iter().rev() {
            if change.version > version {
                set(&mut known, change, &change.before);
            }
        }
        self.version = version;
        self.documents = known.into_values().collect();
    }

    /// What has to be written so that this becomes that.
    pub fn puts_to(&self, target: &Documents) -> Vec<Put> {
        let index = |documents: &Documents| -> BTreeMap<(Kind, String), Document> {
            let pairs = documents.documents.iter();
            pairs
                .map(|document| ((document.kind, document.name.clone()), document.clone()))
                .collect()
        };
        let (here, there) = (index(self), index(target));
        let put =
            |(kind, name): &(Kind, String), body: Option<String>, found: Option<&Document>| {
                let expect = found.map_or(Expect::Nothing, |found| Expect::Version(found.version));
                Put {
                    kind: *kind,
                    name: name.clone(),
                    body,
                    expect,
                }
            };
        let gone = here
            .iter()
            .filter(|(key, _)| !there.contains_key(*key))
            .map(|(key, found)| put(key, None, Some(found)));
        let changed = there.iter().filter_map(|(key, wanted)| {
            let found = here.get(key);
            let is_same = found.is_some_and(|found| found.body == wanted.body);
            (!is_same).then(|| put(key, Some(wanted.body.clone()), found))
        });
        gone.chain(changed).collect()
    }

    fn take(&mut self) -> BTreeMap<(Kind, String), Document> {
        let documents = std::mem::take(&mut self.documents).into_iter();
        documents
            .map(|document| ((document.kind, document.name.clone()), document))
            .collect()
    }
}

fn set(known: &mut BTreeMap<(Kind, String), Document>, change: &Change, to: &Option<Document>) {
    let key = (change.kind, change.name.clone());
    match to {
        Some(document) => known.insert(key, document.clone()),
        None => known.remove(&key),
    };
}
