//! The request log: one line of JSON a call, in a file of its own that a thread of its own writes. Who calls never waits for it: what
//! there is no room for is counted and lost.

mod content;

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use polygate_engine::config::Jsonl;
use polygate_engine::observe::{AttemptRecord, Finished, Looked, Sink, Told};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::waiting::{Door, Spoken, Waiting};

/// What was written is in the file after so long at most.
const FLUSH: Duration = Duration::from_secs(1);

/// Where calls are put.
pub struct Entrance {
    queue: SyncSender<Waiting>,
    door: Door,
}

/// Opens the file and starts the thread, which ends when the entrance is gone and everything is written: then the second is resolved.
/// Nobody joins the thread: a disk that hangs would hold up the end of the process.
pub fn start(own: &Jsonl, told: Told) -> Result<(Entrance, oneshot::Receiver<()>), String> {
    let file = Rotating::open(own).map_err(|error| {
        format!(
            "the request log {} cannot be written: {error}",
            own.path.display()
        )
    })?;
    let (queue, calls) = sync_channel(own.queue);
    let writer = Writer {
        calls,
        file,
        told: told.clone(),
        unsure: 0,
        is_failing: false,
        flush_at: Instant::now() + FLUSH,
    };
    let (done, end) = oneshot::channel();
    std::thread::Builder::new()
        .name("request-log".to_owned())
        .spawn(move || {
            writer.run();
            let _ = done.send(());
        })
        .map_err(|error| format!("the request log has no thread: {error}"))?;
    let door = Door::new(told, own.content);
    Ok((Entrance { queue, door }, end))
}

impl Sink for Entrance {
    fn take(&mut self, call: &Finished) {
        self.door
            .pass(call, |waiting| self.queue.try_send(waiting).is_ok());
    }
}

struct Writer {
    calls: Receiver<Waiting>,
    file: Rotating,
    told: Told,
    /// Calls whose lines may not be in the file yet.
    unsure: u64,
    is_failing: bool,
    flush_at: Instant,
}

impl Writer {
    fn run(mut self) {
        loop {
            let wait = self.flush_at.saturating_duration_since(Instant::now());
            match self.calls.recv_timeout(wait) {
                Ok(call) => self.write(&call),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.flush(),
            }
            self.flush_if_due(Instant::now());
        }
    }

    /// By the clock, however many calls come meanwhile.
    fn flush_if_due(&mut self, now: Instant) {
        if now >= self.flush_at {
            self.flush();
            self.flush_at = now + FLUSH;
        }
    }

    fn write(&mut self, call: &Waiting) {
        let line = encoded(&line(call));
        self.unsure += 1;
        if let Err(error) = self.file.write(line.as_bytes()) {
            self.fail(&error);
        }
    }

    fn flush(&mut self) {
        match self.file.flush() {
            Ok(()) if self.unsure > 0 => {
                self.told.sent(std::mem::take(&mut self.unsure));
                self.is_failing = false;
            }
            Ok(()) => {}
            Err(error) => self.fail(&error),
        }
    }

    /// What is not surely in the file is lost, and not tried again. Said once until it works: a disk that is full stays so for long.
    fn fail(&mut self, error: &io::Error) {
        self.told.refused(std::mem::take(&mut self.unsure));
        self.file.discard();
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
fn line(call: &Waiting) -> Value {
    let record = &*call.record;
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
        "end_user": record.attribution.end_user(),
        "session": record.attribution.session(),
        "tags": record.tags(),
        "metadata": record.attribution.metadata(),
        "ignored": record.attribution.ignored(),
        "model": &*record.model,
        "provider": &*record.provider,
        "credential": &*record.credential,
        "upstream_model": &*record.upstream_model,
        "stream": record.stream,
        "status": record.status,
        "outcome": record.outcome.name(),
        "error": record.error,
        "attempts": record.attempts.iter().map(attempt).collect::<Vec<_>>(),
        "dropped": record.transformed.losses.iter().map(|loss| &loss.0).collect::<Vec<_>>(),
        "guards": record.guards.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "passed_over": &record.passed_over,
        "cache": record.looked.map(Looked::name),
        "saved": record.saved.as_ref().map(usage),
        "routes": &*record.choices,
        "shadow_of": record.shadow_of,
        "usage": usage(&record.charge.usage),
        "usage_state": record.charge.state.as_str(),
        "cost_micro_usd": record.charge.cost,
        "first_event_ms": record.first_event.map(millis),
        "duration_ms": millis(record.duration),
    });
    match &call.spoken {
        Spoken::Kept(said) => {
            line["request"] = content::shown(&said.asked);
            line["response"] = content::shown(&said.answered);
        }
        Spoken::Dropped => line["content_dropped"] = true.into(),
        Spoken::Untold => {}
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

/// A file that makes room for the next when it is large enough: `x`, before it `x.1`, before that `x.2`. What is no file, such as
/// `/dev/stdout`, is only written to.
struct Rotating {
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
    is_file: bool,
    most: u64,
    older: u32,
}

impl Rotating {
    fn open(own: &Jsonl) -> io::Result<Self> {
        if let Some(folder) = own.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = open(&own.path)?;
        let now = file.metadata()?;
        Ok(Self {
            path: own.path.clone(),
            bytes: now.len(),
            is_file: now.is_file(),
            file: BufWriter::new(file),
            most: own.most_bytes,
            older: own.older,
        })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let size = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.is_file && self.bytes > 0 && self.bytes.saturating_add(size) > self.most {
            self.rotate()?;
        }
        self.file.write_all(line)?;
        self.bytes += size;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    /// Forgets what is not in the file yet. Where it cannot be opened again, writing goes on failing.
    fn discard(&mut self) {
        if let Ok(file) = self.file.get_ref().try_clone() {
            let failed = std::mem::replace(&mut self.file, BufWriter::new(file));
            // Dropped otherwise, it would try once more.
            let _ = failed.into_parts();
        }
    }

    /// Nothing is moved before there is a file to go on with: tried again and again, it would push out the older ones.
    fn rotate(&mut self) -> io::Result<()> {
        self.file.flush()?;
        let mut fresh = self.path.clone().into_os_string();
        fresh.push(".next");
        let next = open(Path::new(&fresh))?;
        for number in (1..self.older).rev() {
            let _ = std::fs::rename(self.numbered(number), self.numbered(number + 1));
        }
        if self.older > 0 {
            // Somebody else may have moved it already.
            let _ = std::fs::rename(&self.path, self.numbered(1));
        }
        std::fs::rename(&fresh, &self.path)?;
        self.file = BufWriter::new(next);
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

    #[test]
    fn a_file_that_somebody_moved_is_begun_anew() {
        let folder = std::env::temp_dir().join(format!("polygate-moved-{}", std::process::id()));
        let own = Jsonl {
            path: folder.join("calls.jsonl"),
            most_bytes: 5,
            older: 0,
            ..Jsonl::default()
        };
        let mut file = Rotating::open(&own).expect("it opens");
        file.write(b"first\n").expect("written");
        std::fs::rename(&own.path, folder.join("elsewhere")).expect("moved");
        file.write(b"second\n").expect("written");
        file.flush().expect("written");
        assert_eq!(std::fs::read(&own.path).expect("it is there"), b"second\n");
        std::fs::remove_dir_all(folder).expect("it was there");
    }

    #[test]
    fn without_a_next_file_the_older_ones_stay() {
        let folder = std::env::temp_dir().join(format!("polygate-stuck-{}", std::process::id()));
        let own = Jsonl {
            path: folder.join("calls.jsonl"),
            most_bytes: 5,
            older: 2,
            ..Jsonl::default()
        };
        let mut file = Rotating::open(&own).expect("it opens");
        file.write(b"first\n").expect("written");
        file.write(b"second\n").expect("written");
        let next = folder.join("calls.jsonl.next");
        std::fs::create_dir(&next).expect("made");
        for _ in 0..5 {
            file.write(b"third\n").expect_err("no file can be opened");
        }
        assert_eq!(
            std::fs::read(file.numbered(1)).expect("it is there"),
            b"first\n"
        );
        std::fs::remove_dir(next).expect("it was there");
        file.write(b"third\n").expect("written again");
        assert_eq!(
            std::fs::read(file.numbered(2)).expect("it is there"),
            b"first\n"
        );
        std::fs::remove_dir_all(folder).expect("it was there");
    }

    #[test]
    fn what_is_no_file_is_never_moved() {
        let folder = std::env::temp_dir().join(format!("polygate-device-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("made");
        let own = Jsonl {
            path: folder.join("device"),
            most_bytes: 1,
            ..Jsonl::default()
        };
        std::os::unix::fs::symlink("/dev/null", &own.path).expect("linked");
        let mut file = Rotating::open(&own).expect("it opens");
        for _ in 0..3 {
            file.write(b"a line\n").expect("written");
        }
        assert!(own.path.is_symlink() && !file.numbered(1).exists());
        std::fs::remove_dir_all(folder).expect("it was there");
    }

    #[test]
    fn lines_are_in_the_file_after_a_second_however_many_come() {
        let folder = std::env::temp_dir().join(format!("polygate-flush-{}", std::process::id()));
        let own = Jsonl {
            path: folder.join("calls.jsonl"),
            ..Jsonl::default()
        };
        let start = Instant::now();
        let mut writer = Writer {
            calls: sync_channel(1).1,
            file: Rotating::open(&own).expect("it opens"),
            told: polygate_engine::observe::Metrics::new().told("jsonl"),
            unsure: 0,
            is_failing: false,
            flush_at: start + FLUSH,
        };
        let read = || std::fs::read_to_string(&own.path).expect("it is there");
        for round in 1..3 {
            writer.file.write(b"a line\n").expect("written");
            writer.flush_if_due(start + FLUSH * round - Duration::from_millis(1));
            assert_eq!(read(), "a line\n".repeat(round as usize - 1));
            writer.flush_if_due(start + FLUSH * round);
            assert_eq!(read(), "a line\n".repeat(round as usize));
        }
        std::fs::remove_dir_all(folder).expect("it was there");
    }

    #[test]
    fn a_line_is_told_of_once_it_is_in_the_file_and_lost_once() {
        let own = Jsonl {
            path: "/dev/full".into(),
            ..Jsonl::default()
        };
        let mut writer = Writer {
            calls: sync_channel(1).1,
            file: Rotating::open(&own).expect("it opens"),
            told: polygate_engine::observe::Metrics::new().told("jsonl"),
            unsure: 0,
            is_failing: false,
            flush_at: Instant::now(),
        };
        writer.unsure = 3;
        writer
            .file
            .write(b"three lines\n")
            .expect("it is in memory");
        writer.flush();
        assert_eq!((writer.unsure, writer.is_failing), (0, true));
        assert!(
            writer.file.file.buffer().is_empty(),
            "nothing is tried again"
        );
        writer.flush();
        assert!(writer.is_failing, "nothing was written since");
    }
}
