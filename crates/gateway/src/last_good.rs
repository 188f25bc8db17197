//! The documents that were known last, in a file: with it a replica starts while its database is away. Secrets in it stay sealed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use polygate_store::config::Documents;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::storage::write_new;

/// The file's name, in the data directory.
pub const FILE: &str = "last-good.json";

/// Between two writes of the file.
const PAUSE: Duration = Duration::from_secs(2);

/// Keeps the file.
#[derive(Debug)]
pub struct LastGood {
    path: PathBuf,
    /// Tells a store's secret key from others'.
    check: String,
    /// The version in the file, once it is known.
    written: Option<i64>,
    next: Instant,
}

#[derive(Serialize, Deserialize)]
struct Content {
    secret_key_check: String,
    documents: Documents,
}

impl LastGood {
    /// In this directory, for documents that are sealed under this key.
    pub fn new(data_dir: &Path, check: &str) -> Self {
        Self {
            path: data_dir.join(FILE),
            check: check.to_owned(),
            written: None,
            next: Instant::now(),
        }
    }

    /// What is in the file, where there is one of use.
    pub fn read(&self) -> Result<Option<Documents>, String> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{}: {error}", self.path.display())),
        };
        let content: Content = serde_json::from_slice(&bytes)
            .map_err(|error| format!("{}: {error}", self.path.display()))?;
        if content.secret_key_check != self.check {
            return Err(format!(
                "{} was written under another secret key",
                self.path.display()
            ));
        }
        Ok(Some(content.documents))
    }

    /// Writes what is known now, unless it is in the file already or was written a moment ago.
    pub async fn keep(&mut self, version: i64, documents: impl FnOnce() -> Documents) {
        if self.written == Some(version) || Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + PAUSE;
        let content = Content {
            secret_key_check: self.check.clone(),
            documents: documents(),
        };
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || write(&path, &content)).await;
        if let Err(error) = written.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            tracing::warn!(%error, path = %self.path.display(), "the last good documents cannot be kept");
        }
        // Said once a version: the disk will not be better for saying it again.
        self.written = Some(version);
    }
}

/// Under another name first: who reads has the old one or the new one, whole.
fn write(path: &Path, content: &Content) -> std::io::Result<()> {
    let draft = path.with_extension(format!("json.{}", std::process::id()));
    let _ = std::fs::remove_file(&draft);
    write_new(&draft, &serde_json::to_vec(content)?)?;
    std::fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use polygate_store::config::{Document, Kind};

    use super::*;

    fn documents(version: i64) -> Documents {
        let document = Document {
            kind: Kind::Provider,
            name: "p".to_owned(),
            id: 1,
            body: "{}".to_owned(),
            version,
            created: 0,
            updated: 0,
        };
        Documents {
            version,
            documents: vec![document],
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_kept_last_is_read_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut kept = LastGood::new(dir.path(), "check");
        assert_eq!(kept.read(), Ok(None));
        kept.keep(1, || documents(1)).await;
        // Not at every version: a moment later.
        kept.keep(2, || documents(2)).await;
        assert_eq!(kept.read(), Ok(Some(documents(1))));
        tokio::time::advance(PAUSE).await;
        kept.keep(2, || documents(2)).await;
        kept.keep(2, || panic!("it is in the file already")).await;
        assert_eq!(kept.read(), Ok(Some(documents(2))));
        let files: Vec<_> = std::fs::read_dir(dir.path())
            .expect("a directory")
            .flatten()
            .collect();
        assert_eq!(files.len(), 1, "no draft is left");
        let mode = files[0].metadata().expect("made").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_of_no_use_is_said_to_be_so() {
        let dir = tempfile::tempdir().expect("a directory");
        LastGood::new(dir.path(), "check")
            .keep(1, || documents(1))
            .await;
        let read = || LastGood::new(dir.path(), "check").read();
        let path = dir.path().join(FILE);
        let other = LastGood::new(dir.path(), "another").read();
        assert!(other.is_err_and(|why| why.contains("another secret key")));
        let whole = std::fs::read(&path).expect("read");
        for end in [0, 1, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..end]).expect("written");
            assert!(read().is_err_and(|why| why.contains(FILE)), "{end}");
        }
    }
}
