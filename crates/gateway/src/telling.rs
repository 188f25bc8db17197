//! Those who are told of calls beside metrics and log: started with the gateway, told the rest at its end.

use std::time::Duration;

use polygate_engine::config::Config;
use polygate_engine::observe::{Metrics, Pump};
use tokio::task::JoinHandle;

/// How long the end waits for them.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Their tasks.
pub struct Telling(Vec<JoinHandle<()>>);

impl Telling {
    /// Starts what the configuration names, and has it told.
    pub fn start(config: &Config, metrics: &Metrics, pump: &mut Pump) -> anyhow::Result<Self> {
        let exporters = polygate_telemetry::exporters(config, metrics);
        let exporters = exporters.map_err(anyhow::Error::msg)?.into_iter();
        let tasks = exporters.map(|exporter| {
            let (entrance, run) = exporter.start();
            pump.telling(entrance);
            tokio::spawn(run)
        });
        let mut tasks: Vec<_> = tasks.collect();
        if let Some(own) = &config.telemetry.jsonl {
            let log = polygate_telemetry::jsonl::start(own, metrics.told("jsonl"));
            let (entrance, end) = log.map_err(anyhow::Error::msg)?;
            pump.telling(entrance);
            tasks.push(tokio::spawn(async { drop(end.await) }));
        }
        Ok(Self(tasks))
    }

    /// They have been told all there was, and pass it on, for a moment at most. The pump is gone by now.
    pub async fn end(self) {
        let all = futures_util::future::join_all(self.0);
        if tokio::time::timeout(LAST_WORDS, all).await.is_err() {
            tracing::warn!("not all that happened in the last calls could be told");
        }
    }
}
