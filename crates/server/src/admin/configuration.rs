//! What the admin API asks of whoever reads configurations: whether documents are any good, what the file has, what is in force.

use async_trait::async_trait;
use polygate_store::config::{Kind, Put};
use serde_json::{Map, Value};

use super::problem::Field;

/// Reads configurations. The server itself does not.
#[async_trait]
pub trait Configuration: Send + Sync {
    /// What the file has of this kind, in its order, without secrets.
    fn file_objects(&self, kind: Kind) -> Vec<FileObject>;
    /// Whether the file has one of this name, served or not.
    fn is_in_file(&self, kind: Kind, name: &str) -> bool;
    /// What would come of these documents.
    async fn check(&self, puts: &[Put]) -> Checked;
    /// Documents that are not served, now.
    fn left_out(&self) -> Vec<LeftOut>;
    /// Whose key has this keyed hash, among those of documents that are known here.
    fn key_of(&self, hash: &[u8; 32]) -> Option<String>;
    /// What is in force here.
    fn standing(&self) -> Standing;
    /// Waits until a version is in force here; whether it came to that in time.
    async fn in_force(&self, version: i64) -> bool;
    /// Reads the file and the database again, now; or what is wrong with the file.
    async fn reload(&self) -> Result<(), Vec<String>>;
}

/// Something that the file has.
#[derive(Clone, Debug)]
pub struct FileObject {
    /// Its name.
    pub name: String,
    /// What there is to say of it, in the words of documents.
    pub body: Map<String, Value>,
}

/// What would come of documents.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// What is wrong with them themselves.
    pub problems: Vec<Field>,
    /// What else would be served no longer.
    pub left_out: Vec<LeftOut>,
}

/// A document that is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// What it describes.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Why.
    pub why: String,
}

/// What is in force.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing {
    /// The version of the database's documents; 0: there is none.
    pub version: i64,
    /// Since when; microseconds since 1970.
    pub since: i64,
    /// How often the configuration was swapped since the start.
    pub generation: u64,
    /// The file as it is now was refused: what it said before is in force.
    pub is_file_refused: bool,
    /// What the database says now was refused.
    pub are_documents_refused: bool,
    /// The database answered when it was last asked.
    pub is_store_up: bool,
}
