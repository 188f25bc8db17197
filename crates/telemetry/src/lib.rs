//! Tells others of calls that are over: in OTLP an OpenTelemetry collector and Langfuse, in lines of JSON a file. Nobody waits for them;
//! what they do not take is counted and lost.

mod attributes;
mod export;
pub mod jsonl;
mod langfuse;
mod message;
mod meter;
mod post;
mod span;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use polygate_engine::config::Config;
use polygate_engine::observe::Metrics;
use polygate_engine::transport::Transport;

pub use export::{Entrance, Exporter};

use export::{Book, Pace};
use langfuse::Langfuse;
use meter::Meter;
use post::Post;
use span::Spans;
use waiting::Door;

/// So many finished calls wait to be told of, as far as their bytes fit.
const QUEUE: usize = 4096;

/// How long spans wait for others.
const LINGER: Duration = Duration::from_secs(1);

/// What tells a collector and Langfuse, as far as the configuration names them.
pub fn exporters(config: &Config, metrics: &Metrics) -> Result<Vec<Exporter>, String> {
    let telemetry = &config.telemetry;
    let mut exporters = Vec::new();
    if telemetry.otlp.is_none() && telemetry.langfuse.is_none() {
        return Ok(exporters);
    }
    let transport = Arc::new(Transport::beside_calls(config)?);
    let post = |uri: &http::Uri| Post::new(transport.clone(), uri.clone());
    if let Some(otlp) = &telemetry.otlp {
        let resource = attributes::resource(otlp);
        if let Some(uri) = &otlp.traces {
            let post = post(uri).of(otlp);
            let book: Box<dyn Book> = Box::new(Spans::new(resource.clone()));
            let pace = Pace::of(QUEUE, LINGER);
            let door = Door::new(metrics.told("otlp_traces"), otlp.content);
            exporters.push(Exporter::new(door, book, post, pace));
        }
        if let Some(uri) = &otlp.metrics {
            let post = post(uri).of(otlp);
            let book: Box<dyn Book> = Box::new(Meter::new(resource));
            let pace = Pace::of(QUEUE, otlp.every);
            let door = Door::new(metrics.told("otlp_metrics"), false);
            exporters.push(Exporter::new(door, book, post, pace));
        }
    }
    if let Some(own) = &telemetry.langfuse {
        let post = Post::new(transport.clone(), langfuse::address(&own.host)?).of_langfuse(own);
        let book: Box<dyn Book> = Box::new(Langfuse::new(own));
        let pace = Pace::of(QUEUE, own.flush);
        let door = Door::new(metrics.told("langfuse"), own.content);
        exporters.push(Exporter::new(door, book, post, pace));
    }
    Ok(exporters)
}
