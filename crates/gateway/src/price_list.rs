//! A newer list of models and prices, fetched from where the operator says: checked, kept beside the ledger, and in force without a restart.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Limited};
use polygate_core::Secret;
use polygate_engine::config::PriceList;
use polygate_engine::transport::{Transport, UpstreamBody};
use polygate_engine::{Config, Engine};
use polygate_providers::{Catalogue, price_map};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::reload::InForce;

/// No list is longer.
const LONGEST: usize = 32 << 20;

/// How long fetching it may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How soon it is tried again after it could not be had.
const SOON: Duration = Duration::from_secs(300);

/// The last good list, in the data directory; its first line says where it came from.
const FILE: &str = "prices.txt";
const FROM: &str = "# From: ";

/// With fewer than half of the models that are listed now, or with the prices of more than a tenth of them changed tenfold, a list is
/// taken for a broken one.
const FEWEST: f64 = 0.5;
const MOST_CHANGED: f64 = 0.1;
const TENFOLD: u64 = 10;

/// The list that is in force, and who fetches newer ones.
pub struct Prices {
    file: PathBuf,
    told: watch::Sender<Arc<Catalogue>>,
}

impl Prices {
    /// With the last good list of the address that is configured, else with the one that is built in.
    pub fn new(data_dir: &Path, configured: Option<&PriceList>) -> Self {
        let file = data_dir.join(FILE);
        let kept = configured.and_then(|list| kept(&file, list));
        let list = kept.unwrap_or_else(Catalogue::built_in);
        Self {
            file,
            told: watch::Sender::new(list),
        }
    }

    /// The list, and what changes of it.
    pub fn listed(&self) -> watch::Receiver<Arc<Catalogue>> {
        self.told.subscribe()
    }

    /// Fetches lists for ever, from wherever the configuration in force says.
    pub async fn run(self, engine: Arc<Engine>, mut in_force: watch::Receiver<InForce>) {
        let mut list: Option<PriceList> = None;
        let mut due = Instant::now();
        loop {
            let snapshot = engine.snapshot();
            let config = &snapshot.config;
            if config.price_list != list {
                let url = |list: &Option<PriceList>| list.as_ref().map(|list| list.url.clone());
                let is_another = list.is_some() && url(&config.price_list) != url(&list);
                list.clone_from(&config.price_list);
                due = Instant::now();
                if is_another {
                    self.told.send_replace(Catalogue::built_in());
                }
            }
            if let Some(list) = list.as_ref().filter(|_| Instant::now() >= due) {
                let wait = match self.fetch(list, config).await {
                    Ok(()) => list.refresh,
                    Err(error) => {
                        let from = shown(&list.url);
                        tracing::warn!(%from, "the price list is not taken, the one in force stays: {error:#}");
                        SOON.min(list.refresh)
                    }
                };
                due = Instant::now() + wait;
            }
            drop(snapshot);
            let is_due = async {
                match &list {
                    Some(_) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = in_force.changed() => if changed.is_err() { return },
                () = is_due => {}
            }
        }
    }

    async fn fetch(&self, list: &PriceList, config: &Config) -> anyhow::Result<()> {
        let transport = Transport::beside_calls(config).map_err(anyhow::Error::msg)?;
        let fetched = tokio::time::timeout(PATIENCE, body(&transport, list)).await;
        let fetched = fetched.context("it did not come in time")??;
        let (now, file, mark) = (self.told.borrow().clone(), self.file.clone(), mark(list));
        let read = tokio::task::spawn_blocking(move || {
            let read = read(&fetched)?;
            compare(&now, &read)?;
            let text = format!("{mark}\n{}", read.text());
            if let Err(error) = keep(&file, &text) {
                tracing::warn!(%error, path = %file.display(), "the price list cannot be kept: a restart fetches it again");
            }
            Ok::<_, anyhow::Error>(read)
        });
        let read = Arc::new(read.await.context("reading it failed")??);
        let is_new = self.told.borrow().text() != read.text();
        if is_new {
            let (from, date) = (shown(&list.url), read.date());
            tracing::info!(%from, date, models = read.listings().count(), "a price list is in force");
            self.told.send_replace(read);
        }
        Ok(())
    }
}

async fn body(transport: &Transport, list: &PriceList) -> anyhow::Result<Bytes> {
    let uri: Uri = list.url.reveal().parse().context("it is no address")?;
    let mut request = Request::new(UpstreamBody::from(Bytes::new()));
    *request.uri_mut() = uri;
    let sent = transport.send(request).await;
    let (head, body) = sent
        .map_err(|failure| anyhow::anyhow!("it cannot be reached: {}", failure.message))?
        .into_parts();
    ensure!(head.status.is_success(), "the answer is {}", head.status);
    let body = Limited::new(body, LONGEST).collect().await;
    let body =
        body.map_err(|_| anyhow::anyhow!("it broke off, or is longer than {LONGEST} bytes"))?;
    Ok(body.to_bytes())
}

/// A catalogue of our own form, or LiteLLM's map of prices.
fn read(fetched: &[u8]) -> anyhow::Result<Catalogue> {
    let text = std::str::from_utf8(fetched).context("it is no text")?;
    let text = if text.trim_start().starts_with('{') {
        let map = serde_json::from_str(text).context("it is no JSON")?;
        let today = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let today = today.get(..10).unwrap_or_default();
        price_map::catalogue(&map, today, "fetched").map_err(anyhow::Error::msg)?
    } else {
        text.to_owned()
    };
    Catalogue::fetched(text).map_err(anyhow::Error::msg)
}

/// Whether a list may follow another: what is broken is refused, so that no call is charged by it.
fn compare(now: &Catalogue, next: &Catalogue) -> anyhow::Result<()> {
    let (mut known, mut shared, mut changed) = (0_u32, 0_u32, 0_u32);
    for listing in now.listings() {
        let Some(price) = listing.price else {
            continue;
        };
        known += 1;
        let other = next.exactly(&listing.row, &listing.model);
        let Some(other) = other.and_then(|other| other.price) else {
            continue;
        };
        shared += 1;
        let (one, other) = (price.rates.input.max(1), other.rates.input.max(1));
        changed += u32::from(one / other >= TENFOLD || other / one >= TENFOLD);
    }
    let part = |some: u32, of: u32| f64::from(some) / f64::from(of.max(1));
    if part(shared, known) < FEWEST {
        bail!("it has {shared} of the {known} models with a price that are listed now");
    }
    if part(changed, shared) > MOST_CHANGED {
        bail!("it has tenfold, or a tenth, of the price of {changed} of {shared} models");
    }
    Ok(())
}

/// The last good list of this address.
fn kept(file: &Path, list: &PriceList) -> Option<Arc<Catalogue>> {
    let text = std::fs::read_to_string(file).ok()?;
    let (first, rest) = text.split_once('\n')?;
    if first != mark(list) {
        return None;
    }
    match Catalogue::fetched(rest.to_owned()) {
        Ok(list) => Some(Arc::new(list)),
        Err(error) => {
            tracing::warn!(path = %file.display(), "the price list that was kept cannot be read: {error}");
            None
        }
    }
}

/// Whole or not at all.
fn keep(file: &Path, text: &str) -> std::io::Result<()> {
    let beside = file.with_extension("new");
    std::fs::write(&beside, text)?;
    std::fs::rename(&beside, file)
}

/// Says of which address a kept list is, without saying the address.
fn mark(list: &PriceList) -> String {
    let mut hasher = DefaultHasher::new();
    list.url.reveal().hash(&mut hasher);
    format!("{FROM}{:016x}", hasher.finish())
}

/// An address without what may be secret in it.
fn shown(url: &Secret) -> String {
    let uri: Option<Uri> = url.reveal().parse().ok();
    let shown = uri.and_then(|uri| {
        Some(format!(
            "{}://{}{}",
            uri.scheme_str()?,
            uri.host()?,
            uri.path()
        ))
    });
    shown.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(lines: &str) -> Catalogue {
        Catalogue::fetched(format!("# Date: 2026-11\n[openai]\n{lines}")).expect("a list")
    }

    #[test]
    fn both_forms_are_read_and_junk_is_not() {
        let map = br#"{"gpt-x": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2e-06, "output_cost_per_token": 4e-06}}"#;
        let made = read(map).expect("a list");
        let price = made.exactly("openai", "gpt-x").and_then(|one| one.price);
        assert_eq!(price.map(|price| price.rates.output), Some(4_000_000));
        assert!(made.date().starts_with("20"));
        read(Catalogue::built_in().text().as_bytes()).expect("our own");
        for junk in [
            "",
            "[1]",
            "{",
            "<html>",
            "# Date: 2026-11\n[openai]\nm in=x\n",
        ] {
            let read = read(junk.as_bytes());
            assert!(read.is_err(), "{junk}");
        }
    }

    #[test]
    fn a_broken_list_does_not_follow_a_good_one() {
        let now = list("a ; in=1 out=2\nb ; in=2 out=2\nc ; in=3 out=2\nd context=9\n");
        let may = |lines: &str| compare(&now, &list(lines)).map_err(|error| error.to_string());
        assert_eq!(
            may("a ; in=1 out=2\nb ; in=1 out=2\ne ; in=9 out=9\n"),
            Ok(())
        );
        let shrunk = may("a ; in=1 out=2\nd context=9\n").expect_err("few");
        assert!(shrunk.contains("1 of the 3 models"), "{shrunk}");
        let thousandfold = may("a ; in=1000 out=2\nb ; in=2000 out=2\nc ; in=3 out=2\n");
        let thousandfold = thousandfold.expect_err("wrong units");
        assert!(thousandfold.contains("2 of 3 models"), "{thousandfold}");
        assert!(compare(&Catalogue::built_in(), &Catalogue::built_in()).is_ok());
    }
}
