//! What the log asks of the disk where a disk may be full, so that tests can play one that is.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// A disk that may be full.
pub(crate) trait Disk: Send + Sync {
    /// Writes at the file's end, at one go; how many bytes were taken.
    fn append(&self, file: &File, bytes: &[u8]) -> io::Result<usize>;
    /// Makes a file that takes up so much room.
    fn reserve(&self, path: &Path, bytes: u64) -> io::Result<()>;
    /// Gives that room back.
    fn release(&self, path: &Path) -> io::Result<()>;
}

/// The machine's own.
#[derive(Debug)]
pub(crate) struct Machine;

impl Disk for Machine {
    fn append(&self, mut file: &File, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match file.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    fn reserve(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let block = [0_u8; 64 * 1024];
        let write = || {
            let mut file = File::create(path)?;
            let mut left = bytes;
            while left > 0 {
                let part = left.min(block.len() as u64);
                file.write_all(block.get(..part as usize).unwrap_or(&block))?;
                left -= part;
            }
            // Room is given out late by some file systems: this asks for it now.
            file.sync_data()
        };
        write().inspect_err(|_| {
            let _ = fs::remove_file(path);
        })
    }

    fn release(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}
