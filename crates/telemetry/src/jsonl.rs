//! The request log: one line of JSON a call, in a file of its own that a thread of its own writes. Who calls never waits for it: what
//! there is no room for is counted and lost.

mod content;

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use polygate_engine::config::Jsonl;
use polygate_engine::observe::{AttemptRecord, CallRecord, Sink, Told};
use serde_json::{Value, json};

/// What was written is in the file after so long at most.
const FLUSH: Duration = Duration::from_secs(1);

/// Where calls are put.
pub struct Entrance {
    queue: SyncSender<Arc<CallRecord>>,
    told: Told,
}

/// Opens the file and starts the thread, which ends when the entrance is gone and everything is written.
pub fn start(own: &Jsonl, told: Told) -> Result<(Entrance, JoinHandle<()>), String> {
    let file = Rotating::open(own).map_err(|error| {
        format!(
            "the request log {} cannot be written: {error}",
            own.path.display()
        )
    })?;
    let (queue, records) = sync_channel(own.queue);
    let writer = Writer {
        records,
        file,
        told: told.clone(),
        content: own.content,
        is_failing: false,
    };
    let thread = std::thread::Builder::new()
        .name("request-log".to_owned())
        .spawn(move || writer.run())
        .map_err(|error| format!("the request log has no thread: {error}"))?;
    Ok((Entrance { queue, told }, thread))
}

impl Sink for Entrance {
    fn take(&mut self, record: &Arc<CallRecord>) {
        if self.queue.try_send(record.clone()).is_err() {
            self.told.dropped();
        }
    }
}

struct Writer {
    records: Receiver<Arc<CallRecord>>,
    file: Rotating,
    told: Told,
    content: bool,
    is_failing: bool,
}

impl Writer {
    fn run(mut self) {
        loop {
            match self.records.recv_timeout(FLUSH) {
                Ok(record) => self.write(&record),
                Err(RecvTimeoutError::Timeout) => self.flush(),
                Err(RecvTimeoutError::Disconnected) => return self.flush(),
            }
        }
    }

    fn write(&mut self, record: &CallRecord) {
        let line = encoded(&line(record, self.content));
        match self.file.write(line.as_bytes()) {
            Ok(()) => {
                self.told.sent(1);
                self.is_failing = false;
            }
            Err(error) => self.fail(&error),
        }
    }

    fn flush(&mut self) {
        if let Err(error) = self.file.flush() {
            self.fail(&error);
        }
    }

    /// Said once until it works again: a disk that is full stays so for long.
    fn fail(&mut self, error: &io::Error) {
        self.told.refused(1);
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::error!(%error, path = %self.file.path.display(), "the request log cannot be written: calls are missing in it");
        }
    }
}

/// In one line that holds no control character: JSON itself leaves those of ISO 6429 as they are.
fn encoded(value: &Value) -> String {
    let text = value.to_string();
    let mut line = String::with_capacity(text.len() + 1);
    for one in text.chars() {
        if one.is_control() {
            let _ = write!(line, "\\u{:04x}", u32::from(one));
        } else {
            line.push(one);
        }
    }
    line.push('\n');
    line
}

/// A call as a line. What comes from outside is in strings, which JSON encodes: no line feed and no escape sequence stays one.
fn line(record: &CallRecord, content: bool) -> Value {
    let mut line = json!({
        "type": "call",
        "timestamp_us": record.began,
        "request_id": &*record.request_id,
        "id": record.id,
        "method": record.method.as_str(),
        "endpoint": record.endpoint,
        "key": &*record.key,
        "team": record.team.as_deref(),
        "client": record.program(),
        "model": &*record.model,
        "provider": &*record.provider,
        "credential": &*record.credential,
        "upstream_model": &*record.upstream_model,
        "stream": record.stream,
        "status": record.status,
        "outcome": record.outcome.name(),
        "error": record.error,
        "attempts": record.attempts.iter().map(attempt).collect::<Vec<_>>(),
        "dropped": record.losses.iter().map(|loss| &loss.0).collect::<Vec<_>>(),
        "usage": usage(&record.charge.usage),
        "usage_state": record.charge.state.as_str(),
        "cost_micro_usd": record.charge.cost,
        "first_event_ms": record.first_event.map(millis),
        "duration_ms": millis(record.duration),
    });
    if let (true, Some(said), Some(members)) = (content, &record.content, line.as_object_mut()) {
        members.insert("request".to_owned(), content::shown(&said.asked));
        members.insert("response".to_owned(), content::shown(&said.answered));
    }
    line
}

fn attempt(attempt: &AttemptRecord) -> Value {
    json!({
        "provider": &*attempt.provider,
        "credential": &*attempt.credential,
        "model": &*attempt.model,
        "outcome": attempt.outcome,
        "status": attempt.status,
        "duration_ms": millis(attempt.duration),
        "usage": usage(&attempt.charge.usage),
        "cost_micro_usd": attempt.charge.cost,
    })
}

fn usage(usage: &polygate_core::Usage) -> Value {
    json!({
        "input": usage.input,
        "output": usage.output,
        "cache_read": usage.cache_read,
        "cache_write": usage.cache_write,
        "cache_write_1h": usage.cache_write_1h,
        "reasoning": usage.reasoning,
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A file that makes room for the next when it is large enough: `x`, before it `x.1`, before that `x.2`.
struct Rotating {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
    most: u64,
    older: u32,
}

impl Rotating {
    fn open(own: &Jsonl) -> io::Result<Self> {
        if let Some(folder) = own.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = open(&own.path)?;
        Ok(Self {
            path: own.path.clone(),
            bytes: file.metadata()?.len(),
            file: BufWriter::new(file),
            most: own.most_bytes,
            older: own.older,
        })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let size = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.bytes > 0 && self.bytes.saturating_add(size) > self.most {
            self.rotate()?;
        }
        self.file.write_all(line)?;
        self.bytes += size;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file.flush()?;
        for number in (1..self.older).rev() {
            let _ = std::fs::rename(self.numbered(number), self.numbered(number + 1));
        }
        if self.older > 0 {
            std::fs::rename(&self.path, self.numbered(1))?;
        } else {
            std::fs::remove_file(&self.path)?;
        }
        self.file = BufWriter::new(open(&self.path)?);
        self.bytes = 0;
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

/// For its owner's eyes only.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_makes_room_and_no_more_than_so_many_are_kept() {
        let folder = std::env::temp_dir().join(format!("polygate-jsonl-{}", std::process::id()));
        let own = Jsonl {
            path: folder.join("a").join("calls.jsonl"),
            most_bytes: 25,
            older: 2,
            ..Jsonl::default()
        };
        let mut file = Rotating::open(&own).expect("it opens");
        for number in 0..9 {
            let line = format!("line {number} of it\n");
            file.write(line.as_bytes()).expect("written");
        }
        file.flush().expect("written");
        let read = |path: PathBuf| std::fs::read_to_string(path).ok();
        let kept = [
            read(own.path.clone()),
            read(file.numbered(1)),
            read(file.numbered(2)),
            read(file.numbered(3)),
        ];
        let of = |number: u32| Some(format!("line {number} of it\n"));
        assert_eq!(kept, [of(8), of(7), of(6), None]);
        let again = Rotating::open(&own).expect("it opens");
        assert_eq!(again.bytes, 13, "what is there counts");
        std::fs::remove_dir_all(folder).expect("it was there");
    }
}
