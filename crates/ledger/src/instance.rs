//! Whose files are whose: every process has its own, and a lock that ends with it. What the dead leave is taken over by the living.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{LedgerError, Result};

/// The file whose lock is held while files are made or taken over: never the name of an instance.
const CLAIMS: &str = "claims";

/// A process's files in a folder. Its lock is free once this is dropped, or the process dead.
#[derive(Debug)]
pub(crate) struct Instance {
    folder: PathBuf,
    name: String,
    _lock: File,
}

/// What a dead process left.
#[derive(Debug)]
pub(crate) struct Orphan {
    /// Its files, now ours.
    pub(crate) instance: Instance,
    /// The numbers of its segments, in order.
    pub(crate) segments: Vec<u64>,
}

impl Instance {
    /// A new one.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let _claims = claims(folder)?;
        let name = format!("{:032x}", rand::random::<u128>());
        let instance = Self::lock(folder, &name)?;
        instance.ok_or_else(|| LedgerError::Folder {
            doing: "lock",
            path: lock_path(folder, &name),
            source: io::ErrorKind::WouldBlock.into(),
        })
    }

    /// Where a segment is.
    pub(crate) fn segment(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{}-{number}.log", self.name))
    }

    /// Has the disk keep the names of its files.
    pub(crate) fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    /// Where its reserve is.
    pub(crate) fn reserve(&self) -> PathBuf {
        self.folder.join(format!("{}.reserve", self.name))
    }

    /// A file by which it is seen whether there is room.
    pub(crate) fn probe(&self) -> PathBuf {
        self.folder.join(format!("{}-probe.reserve", self.name))
    }

    /// Removes its lock and its reserve, once its segments are gone.
    pub(crate) fn remove(&self) {
        remove(&self.reserve());
        remove(&self.probe());
        remove(&lock_path(&self.folder, &self.name));
    }

    fn lock(folder: &Path, name: &str) -> Result<Option<Self>> {
        let path = lock_path(folder, name);
        let file = open(&path)?;
        Ok(file.try_lock().is_ok().then(|| Self {
            folder: folder.to_owned(),
            name: name.to_owned(),
            _lock: file,
        }))
    }
}

/// Takes over what the dead left.
pub(crate) fn orphans(folder: &Path) -> Result<Vec<Orphan>> {
    let _claims = claims(folder)?;
    let mut orphans = Vec::new();
    for name in found(folder)?.into_keys() {
        let Some(instance) = Instance::lock(folder, &name)? else {
            continue;
        };
        // Looked at again: its owner may have ended between the list and the lock.
        let segments = found(folder)?.remove(&name).unwrap_or_default();
        if segments.is_empty() {
            instance.remove();
        } else {
            orphans.push(Orphan { instance, segments });
        }
    }
    Ok(orphans)
}

/// Removes a file that may be gone already.
pub(crate) fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "a file of the ledger cannot be removed");
        }
        _ => {}
    }
}

fn claims(folder: &Path) -> Result<File> {
    let path = folder.join(CLAIMS);
    let file = open(&path)?;
    file.lock().map_err(LedgerError::folder("lock", &path))?;
    Ok(file)
}

fn open(path: &Path) -> Result<File> {
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.map_err(LedgerError::folder("open", path))
}

fn lock_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.lock"))
}

/// The instances of a folder, with the numbers of their segments in order.
fn found(folder: &Path) -> Result<BTreeMap<String, Vec<u64>>> {
    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let entries = fs::read_dir(folder).map_err(LedgerError::folder("list", folder))?;
    for entry in entries {
        let entry = entry.map_err(LedgerError::folder("list", folder))?;
        let name = entry.file_name();
        let Some((stem, ending)) = name.to_str().and_then(|name| name.split_once('.')) else {
            continue;
        };
        let (instance, number) = match stem.split_once('-') {
            Some((instance, number)) => (instance, number.parse().ok()),
            None => (stem, None),
        };
        let is_ours = instance.len() == 32 && instance.bytes().all(|b| b.is_ascii_hexdigit());
        match (is_ours, ending, number) {
            (true, "log", Some(number)) => found.entry(instance.into()).or_default().push(number),
            (true, "lock" | "reserve", None) => {
                found.entry(instance.into()).or_default();
            }
            _ => {}
        }
    }
    found
        .values_mut()
        .for_each(|numbers| numbers.sort_unstable());
    Ok(found)
}
