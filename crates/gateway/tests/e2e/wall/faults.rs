//! The faults: what the provider that is asked first does.

use polygate_mock_provider::{Behaviour, Fault};

use super::bodies;

/// Who is asked, and how.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The upstream's format.
    pub format: &'static str,
    pub stream: bool,
    /// It streams elements of one JSON array.
    pub is_array: bool,
}

/// A row of the wall.
pub struct Row {
    pub fault: String,
    pub then: Then,
    /// Only streams have it.
    pub is_of_streams: bool,
    /// It is over when the gateway's patience is.
    pub takes_patience: bool,
    /// How many calls may reach the provider when nobody else is there: an answer with an error status costs nothing, and is
    /// tried again; what may have been paid is not.
    pub calls: usize,
}

/// What happens.
pub enum Then {
    /// Nobody listens.
    Nobody,
    /// A provider does this; several providers, one after the other.
    Does(Box<dyn Fn(Asked) -> Vec<Behaviour>>),
}

/// Attempts at one provider that answers with error statuses.
const TRIES: usize = 4;

/// Faults before the first good event of a stream, and before the end of a whole answer.
pub fn before() -> Vec<Row> {
    let mut rows = connections();
    rows.extend(framings());
    rows.extend(answers());
    rows.extend(statuses());
    rows
}

fn connections() -> Vec<Row> {
    vec![
        Row {
            then: Then::Nobody,
            ..row("nobody listens", |_| vec![])
        },
        fault("closes the connection without an answer", Fault::Refuse),
        fault("resets the connection without an answer", Fault::Reset),
        endless(fault("never answers", Fault::Stall)),
        fault("resets the connection after the head", Fault::ResetAfter(0)),
        fault(
            "closes the connection after the head (streams), or in the middle of an answer of known length",
            Fault::CutAfter(0),
        ),
        endless(row("goes silent after the preamble", |asked| {
            vec![broken(Fault::StallAfter(preamble(asked)))]
        })),
        endless(fault("signs of life for ever, and no word", Fault::Pings)),
        Row {
            is_of_streams: true,
            ..fault("one line that never ends", Fault::Endless)
        },
    ]
}

fn framings() -> Vec<Row> {
    let raw = |bytes: &str| Fault::Raw(bytes.to_owned());
    vec![
        fault("speaks no HTTP", raw("220 mail.example ESMTP\r\n")),
        fault(
            "a head that breaks off",
            raw("HTTP/1.1 200 OK\r\ncontent-ty"),
        ),
        endless(row("a head that comes byte by byte, too slowly", |_| {
            let head = format!("HTTP/1.1 200 OK\r\nx-slow: {}\r\n\r\n", "x".repeat(500));
            vec![Behaviour {
                token_ms: 20,
                ..broken(Fault::Raw(head))
            }]
        })),
        row("a head of a megabyte", |_| {
            let more = "x".repeat(1 << 20);
            vec![broken(Fault::Raw(format!(
                "HTTP/1.1 200 OK\r\nx-large: {more}\r\n\r\n{{}}"
            )))]
        }),
        fault(
            "a length that is no number",
            raw("HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n{}"),
        ),
        fault(
            "two lengths that differ",
            raw("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}"),
        ),
        fault("a length far shorter than the body", Fault::Length(10)),
        row("a chunk that breaks off", |asked| {
            vec![broken(Fault::Raw(chunk(asked, "40")))]
        }),
        row("a chunk whose size is no number", |asked| {
            vec![broken(Fault::Raw(chunk(asked, "zz")))]
        }),
        row("compressed, though nobody asked for it", |_| {
            vec![Behaviour {
                headers: [("content-encoding".to_owned(), "gzip".to_owned())].into(),
                ..Behaviour::default()
            }]
        }),
    ]
}

/// The beginning of a chunked answer.
fn chunk(asked: Asked, size: &str) -> String {
    let (kind, body) = if asked.is_array {
        ("application/json", "[{\"id\":")
    } else if asked.stream {
        ("text/event-stream", "data: {\"id\":")
    } else {
        ("application/json", "{\"id\":")
    };
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n{size}\r\n{body}"
    )
}

fn answers() -> Vec<Row> {
    let says = |fault: &str, body: fn(Asked) -> (&'static str, String)| {
        row(fault, move |asked| {
            let (kind, body) = body(asked);
            vec![Behaviour {
                body: Some(body),
                content_type: Some(kind.to_owned()),
                ..Behaviour::default()
            }]
        })
    };
    vec![
        row(
            "ends after the preamble (streams), or in the middle of the JSON",
            |asked| vec![broken(Fault::EndAfter(preamble(asked)))],
        ),
        Row {
            is_of_streams: true,
            ..row("ends in the middle of the first event", |_| {
                vec![broken(Fault::HalfAfter(0))]
            })
        },
        tried("status 200 with an error of its format", |_| {
            vec![broken(Fault::ErrorAfter(0))]
        }),
        tried("status 200 with an error after the preamble", |asked| {
            vec![broken(Fault::ErrorAfter(preamble(asked)))]
        }),
        Row {
            calls: TRIES,
            ..says(
                "status 200 with an error as one JSON object, whether a stream was asked for or not",
                |asked| ("application/json", bodies::error(asked.format)),
            )
        },
        says(
            "status 200 with an answer that has nothing in it: no choice, no candidate, no content",
            bodies::hollow,
        ),
        says("status 200 with JSON that is no answer: a list", |_| {
            ("application/json", "[1, 2]".to_owned())
        }),
        says("status 200 with JSON that is no answer: null", |_| {
            ("application/json", "null".to_owned())
        }),
        fault("status 200 with bytes of no meaning", Fault::Junk),
        fault("status 200 with a web page", Fault::Html),
        fault("status 200 with nothing", Fault::Empty),
        tried("a redirect", |_| {
            let to = "http://127.0.0.1:1/stolen".to_owned();
            vec![broken(Fault::Redirect(to))]
        }),
    ]
}

fn statuses() -> Vec<Row> {
    let mut rows: Vec<Row> = [401, 402, 403, 404, 408, 429, 500, 502, 503, 504, 529]
        .into_iter()
        .map(|code| tried(&format!("status {code}"), move |_| vec![status(code)]))
        .collect();
    rows.extend([
        tried("status 429 with Retry-After", |_| {
            vec![Behaviour {
                headers: [("retry-after".to_owned(), "7".to_owned())].into(),
                ..status(429)
            }]
        }),
        tried("status 500 with a web page", |_| vec![web_page(500)]),
        tried("status 503 with a web page", |_| vec![web_page(503)]),
        Row {
            calls: TRIES,
            ..row(
                "three providers, one after the other: 500, 429, 503",
                |_| vec![status(500), status(429), status(503)],
            )
        },
        Row {
            calls: TRIES,
            ..row(
                "three providers, one after the other: 503, 401, an end without an answer",
                |_| vec![status(503), status(401), broken(Fault::Refuse)],
            )
        },
    ]);
    rows
}

/// Faults after the first words of a stream.
pub fn after() -> Vec<Row> {
    let after = |name: &str, what: fn(u32) -> Fault| {
        let what = Behaviour {
            tokens: Some(30),
            ..broken(what(8))
        };
        Row {
            is_of_streams: true,
            ..row(name, move |_| vec![what.clone()])
        }
    };
    vec![
        after("resets the connection", Fault::ResetAfter),
        after("closes the connection", Fault::CutAfter),
        after("ends without the end of its format", Fault::EndAfter),
        after("ends in the middle of an event", Fault::HalfAfter),
        endless(after("goes silent", Fault::StallAfter)),
        after("an error event", Fault::ErrorAfter),
        after("bytes of no meaning", Fault::JunkAfter),
    ]
}

/// Requests that a provider does not take: nobody else will.
pub fn refused() -> Vec<Row> {
    [400, 413, 422]
        .into_iter()
        .map(|code| row(&format!("status {code}"), move |_| vec![status(code)]))
        .collect()
}

/// Whole answers in odd shapes.
pub fn odd() -> Vec<Row> {
    vec![
        fault(
            "the first event (streams), or the answer, in pieces of sixteen bytes",
            Fault::Pieces(16),
        ),
        fault("an interim head (103) before the answer", Fault::EarlyHints),
        fault(
            "HTTP/1.0, ended by closing the connection",
            Fault::CloseDelimited,
        ),
        row("slow, but each event in time", |_| {
            vec![Behaviour {
                latency_ms: 100,
                token_ms: 60,
                ..Behaviour::default()
            }]
        }),
    ]
}

fn row(fault: &str, then: impl Fn(Asked) -> Vec<Behaviour> + 'static) -> Row {
    Row {
        fault: fault.to_owned(),
        then: Then::Does(Box::new(then)),
        is_of_streams: false,
        takes_patience: false,
        calls: 1,
    }
}

/// A fault that would last for ever.
fn endless(row: Row) -> Row {
    Row {
        takes_patience: true,
        ..row
    }
}

/// A fault that costs nothing, so that the same provider is tried again.
fn tried(fault: &str, then: impl Fn(Asked) -> Vec<Behaviour> + 'static) -> Row {
    Row {
        calls: TRIES,
        ..row(fault, then)
    }
}

fn fault(name: &str, fault: Fault) -> Row {
    row(name, move |_| vec![broken(fault.clone())])
}

fn broken(fault: Fault) -> Behaviour {
    Behaviour {
        fault: Some(fault),
        ..Behaviour::default()
    }
}

fn status(status: u16) -> Behaviour {
    Behaviour {
        status: Some(status),
        ..Behaviour::default()
    }
}

fn web_page(code: u16) -> Behaviour {
    Behaviour {
        body: Some("<!doctype html><html><body>Something went wrong</body></html>".to_owned()),
        content_type: Some("text/html".to_owned()),
        ..status(code)
    }
}

/// How many events of a stream are no answer yet.
fn preamble(asked: Asked) -> u32 {
    u32::from(asked.format != "gemini")
}
