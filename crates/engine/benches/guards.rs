//! What guards cost a kilobyte of text, by what they look for: `cargo bench -p polygate-engine --bench guards`.
//!
//! Twice: a whole request of one long text, and a stream of events of a few signs each, as models make them. Guards take turns, and
//! the least of their rounds counts, since everything else on the machine only adds.

#![expect(clippy::expect_used, clippy::print_stdout, reason = "a benchmark")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use polygate_engine::condition::Condition;
use polygate_engine::config::{self, Config};
use polygate_engine::guard::body::{self, Side};
use polygate_engine::guard::detect::{DETECTORS, Detector};
use polygate_engine::guard::placeholder::{Maker, Restoring};
use polygate_engine::guard::stream::Stream;
use polygate_engine::guard::{Action, Doings, Guards, Watch};
use polygate_engine::lane::Output;
use polygate_wire::Format;
use serde_json::json;

const ROUNDS: usize = 15;
const TEXT: usize = 64 * 1024;
const EVENT: usize = 5;

/// Prose with a little of what is looked for, and much that begins like it.
const PROSE: &str = "The committee met at 10:30 and agreed, as item 4711 of the agenda says, that a Ticket may be closed by whoever opened it. \
    Questions go to ann@example.com; the invoice of 1,284.50 EUR was paid on 2026-04-14 (reference 2026-0414-77). \
    Nothing else was decided, because the Aurora of that night kept everybody outside until the meeting was over.\n";

fn watch(detectors: Vec<&'static Detector>, patterns: Vec<String>, words: Vec<String>) -> Watch {
    let looks = config::Looks {
        action: Action::Redact,
        detectors,
        patterns,
        words,
        case_sensitive: false,
    };
    let guard = config::Guard {
        name: "bench".to_owned(),
        when: Condition::default(),
        requests: true,
        answers: true,
        by: config::By::Looks(looks),
    };
    let mut config = Config::default();
    config.guards.list.push(guard);
    let guards = Guards::compile(&config).expect("good guards");
    Watch::new(guards.all(), Restoring::default())
}

fn watches() -> Vec<(String, Watch)> {
    let patterns = |count: usize| {
        let pattern = |at: usize| format!("(?i)ticket-{at}[0-9]{{4,}}|case {at}:[a-z]+");
        (0..count).map(pattern).collect()
    };
    let words = |count: usize| {
        (0..count)
            .map(|at| format!("Project {at} Aurora"))
            .collect()
    };
    let mut all = vec![("nothing".to_owned(), Watch::new(&[], Restoring::default()))];
    for detector in &DETECTORS {
        let watch = watch(vec![detector], Vec::new(), Vec::new());
        all.push((detector.name.to_owned(), watch));
    }
    let every = DETECTORS.iter().collect();
    all.push((
        "all detectors".to_owned(),
        watch(every, Vec::new(), Vec::new()),
    ));
    for count in [10, 100] {
        let with = watch(Vec::new(), patterns(count), Vec::new());
        all.push((format!("{count} patterns"), with));
        let with = watch(Vec::new(), Vec::new(), words(count));
        all.push((format!("{count} words"), with));
    }
    all
}

fn whole(request: &[u8], watch: &Watch) -> Duration {
    let mut doings = Doings::new(Side::Request, Maker::default());
    let begun = Instant::now();
    let out = body::body(
        request,
        Format::OpenaiChat,
        Side::Request,
        watch,
        &mut doings,
    );
    black_box(out.expect("it is JSON"));
    begun.elapsed()
}

fn stream(events: &[Bytes], watch: &Watch) -> Duration {
    let doings = Doings::new(Side::Answer, Maker::default());
    let mut stream = Stream::new(Format::OpenaiChat, false, watch.clone(), doings);
    let mut out = Output::default();
    let begun = Instant::now();
    for event in events {
        stream.block(event.clone(), &mut out).expect("let through");
        while let Some(piece) = out.pop() {
            black_box(piece);
        }
    }
    stream.finish(&mut out).expect("let through");
    begun.elapsed()
}

fn main() {
    let text: Arc<str> = PROSE.repeat(TEXT / PROSE.len()).into();
    let request = json!({"model": "m", "messages": [{"role": "user", "content": &*text}]});
    let request = request.to_string().into_bytes();
    let event = |piece: &[u8]| {
        let piece = String::from_utf8_lossy(piece);
        let event = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_760_000_000, "model": "m", "choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": null}]});
        Bytes::from(format!("data: {event}\n\n"))
    };
    let events: Vec<Bytes> = text.as_bytes().chunks(EVENT).map(event).collect();
    let watches = watches();
    let mut least = vec![(Duration::MAX, Duration::MAX); watches.len()];
    for _ in 0..ROUNDS {
        for ((_, watch), least) in watches.iter().zip(&mut least) {
            least.0 = least.0.min(whole(&request, watch));
            least.1 = least.1.min(stream(&events, watch));
        }
    }
    println!(
        "{:<16} {:>18} {:>20}",
        "", "whole, µs per KB", "stream, ns an event"
    );
    let kilobytes = text.len() as f64 / 1024.0;
    for ((name, _), (whole, stream)) in watches.iter().zip(least) {
        let whole = whole.as_secs_f64() * 1e6 / kilobytes;
        let stream = stream.as_secs_f64() * 1e9 / events.len() as f64;
        println!("{name:<16} {whole:>18.2} {stream:>20.0}");
    }
}
