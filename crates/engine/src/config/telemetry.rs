//! Who is told of calls beside metrics and log. Heeded at the start only.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, Uri};
use polygate_core::Secret;

/// Of prompts and answers so many bytes at most, where they are told.
const CONTENT: usize = 256 * 1024;

/// Who is told.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// A collector of OpenTelemetry's.
    pub otlp: Option<Otlp>,
    /// Langfuse.
    pub langfuse: Option<Langfuse>,
    /// A file of its own.
    pub jsonl: Option<Jsonl>,
    /// Of each prompt and each answer so many bytes at most.
    pub content_limit: usize,
}

/// A collector of OpenTelemetry's, spoken to in OTLP over HTTP.
#[derive(Clone, Debug)]
pub struct Otlp {
    /// Where spans go; `None`: nowhere.
    pub traces: Option<Uri>,
    /// Where measurements go; `None`: nowhere.
    pub metrics: Option<Uri>,
    /// What is sent with them: credentials, as a rule.
    pub headers: Vec<(HeaderName, Secret)>,
    /// How they are written.
    pub encoding: Encoding,
    /// So many of all traces that begin here.
    pub sample: f64,
    /// How often measurements are sent.
    pub every: Duration,
    /// How long the collector may take.
    pub timeout: Duration,
    /// Prompts and answers are told too.
    pub content: bool,
    /// What this service is called.
    pub service: String,
    /// What else is said of it.
    pub attributes: Vec<(String, String)>,
}

/// How OTLP is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// `application/x-protobuf`.
    #[default]
    Protobuf,
    /// `application/json`.
    Json,
}

/// Langfuse, spoken to in OTLP as well.
#[derive(Clone, Debug)]
pub struct Langfuse {
    /// Its address, without a path.
    pub host: Uri,
    /// The project's public key.
    pub public_key: String,
    /// The project's secret key.
    pub secret_key: Secret,
    /// So many of all calls.
    pub sample: f64,
    /// How often it is told.
    pub flush: Duration,
    /// How long it may take.
    pub timeout: Duration,
    /// Prompts and answers are told too: what it is for, as a rule.
    pub content: bool,
    /// The environment that it files them under.
    pub environment: Option<String>,
    /// The release that it files them under.
    pub release: Option<String>,
}

/// The request log: a line of JSON a call.
#[derive(Clone, Debug)]
pub struct Jsonl {
    /// The file.
    pub path: PathBuf,
    /// So many calls wait to be written.
    pub queue: usize,
    /// Prompts and answers are written too.
    pub content: bool,
    /// With so many bytes the file makes room for the next.
    pub most_bytes: u64,
    /// So many older ones are kept.
    pub older: u32,
}

impl Default for Jsonl {
    fn default() -> Self {
        Self {
            path: PathBuf::from("./logs/requests.jsonl"),
            queue: 1000,
            content: false,
            most_bytes: 100 << 20,
            older: 5,
        }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            otlp: None,
            langfuse: None,
            jsonl: None,
            content_limit: CONTENT,
        }
    }
}

impl Default for Otlp {
    fn default() -> Self {
        Self {
            traces: None,
            metrics: None,
            headers: Vec::new(),
            encoding: Encoding::Protobuf,
            sample: 1.0,
            every: Duration::from_secs(60),
            timeout: Duration::from_secs(10),
            content: false,
            service: "polygate".to_owned(),
            attributes: Vec::new(),
        }
    }
}

impl Langfuse {
    /// A project's keys, and every default.
    pub fn new(public_key: String, secret_key: Secret) -> Self {
        Self {
            host: Uri::from_static("https://cloud.langfuse.com"),
            public_key,
            secret_key,
            sample: 1.0,
            flush: Duration::from_secs(5),
            timeout: Duration::from_secs(10),
            content: true,
            environment: None,
            release: None,
        }
    }
}

impl Telemetry {
    /// So many of all traces that begin here are told to a collector; `None`: calls have no traces.
    pub fn sample(&self) -> Option<f64> {
        let otlp = self.otlp.as_ref().filter(|otlp| otlp.traces.is_some());
        let sample = otlp.map(|otlp| otlp.sample);
        sample.or(self.langfuse.as_ref().map(|_| 0.0))
    }

    /// Of each prompt and answer so many bytes are kept; `None`: nobody is told of them.
    pub fn content(&self) -> Option<usize> {
        let of_otlp = |otlp: &Otlp| otlp.content && otlp.traces.is_some();
        let is_told = self.otlp.as_ref().is_some_and(of_otlp)
            || self.langfuse.as_ref().is_some_and(|one| one.content)
            || self.jsonl.as_ref().is_some_and(|one| one.content);
        is_told.then_some(self.content_limit)
    }
}
