//! What calls cost and how they are accounted for: `price_overrides`, `price_list` and `ledger`.

use std::num::NonZeroU32;
use std::time::Duration;

use http::Uri;
use polygate_core::Secret;
use polygate_engine::config::{Audit, Fsync, Ledger, PriceList, PriceOverride};
use polygate_engine::pattern::Pattern;
use polygate_providers::price::Source;

use crate::config::names::Reference;
use crate::config::pieces::{pattern, price, rates_of, set};
use crate::config::reader::{Item, Section};

/// The shortest time between two writes to the disk.
const SHORTEST: Duration = Duration::from_millis(1);

/// How often a price list is fetched.
const A_DAY: Duration = Duration::from_secs(86_400);

/// The words of `fsync`.
#[derive(Clone, Copy)]
enum When {
    Never,
    Interval,
    Always,
}

const WHEN: [(&str, When); 3] = [
    ("never", When::Never),
    ("interval", When::Interval),
    ("always", When::Always),
];

/// `price_overrides`.
pub fn price_overrides(top: &Section<'_>) -> Vec<PriceOverride> {
    let items = top.items("price_overrides");
    let overrides = items.iter().filter_map(|item| {
        let section = item.section()?;
        section.required("model");
        price_override(item, section, None, Source::Configuration)
    });
    overrides.collect()
}

/// One of them; where it names no model, it has that of its document.
pub fn price_override(
    item: &Item<'_>,
    section: Section<'_>,
    document: Option<&str>,
    source: Source,
) -> Option<PriceOverride> {
    let model = section.text("model");
    let model = model.as_deref().or(document);
    let model = model.and_then(|text| pattern(item, text, Pattern::mapping));
    let provider = section.text("provider");
    if let (Some(name), Some(said)) = (&provider, section.item("provider")) {
        said.names().borrow_mut().targets.push(Reference {
            name: name.clone(),
            by: "price_overrides".to_owned(),
            spot: said.spot.clone(),
        });
    }
    // In a document prices may stand alone.
    let price = match document.filter(|_| section.item("price").is_none()) {
        Some(_) => rates_of(&section),
        None => section.required("price").and_then(|_| price(&section)),
    };
    let date = section.text("date");
    section.finish();
    Some(PriceOverride {
        provider,
        model: model?,
        price: price?,
        date: date.unwrap_or_default(),
        source,
    })
}

/// `price_list`.
pub fn price_list(section: Section<'_>) -> Option<PriceList> {
    const ADDRESS: &str = "must be an address: https://host/path or http://host/path";
    let item = section.item("url");
    let url = item.as_ref().and_then(|item| {
        let text = item.text().filter(|text| !text.trim().is_empty())?;
        let url = Secret::new(text.trim());
        let uri: Option<Uri> = url.reveal().parse().ok();
        let is_address =
            |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
        if !uri.as_ref().is_some_and(is_address) {
            item.error(ADDRESS);
            return None;
        }
        Some(url)
    });
    let refresh = section.patience("refresh").unwrap_or(A_DAY);
    section.finish();
    Some(PriceList { url: url?, refresh })
}

/// `ledger`.
pub fn ledger(section: Section<'_>, ledger: &mut Ledger) {
    let when = section.word("fsync", &WHEN).unwrap_or(When::Interval);
    let interval = section.patience("fsync_interval");
    ledger.fsync = match (when, interval) {
        (When::Never, _) => Fsync::Never,
        (When::Always, _) => Fsync::Always,
        (When::Interval, Some(interval)) => Fsync::Interval(interval.max(SHORTEST)),
        (When::Interval, None) => Ledger::default().fsync,
    };
    let bytes = section.bytes("max_bytes");
    set(&mut ledger.max_bytes, bytes.map(|bytes| bytes as u64));
    retention(&section, &mut ledger.retention);
    section.finish();
}

/// `audit`.
pub fn audit(section: Section<'_>, audit: &mut Audit) {
    retention(&section, &mut audit.retention);
    if let Some(versions) = section.number::<u32>("config_versions") {
        audit.versions = NonZeroU32::new(versions);
    }
    section.finish();
}

/// `retention_days`; 0 is for ever.
fn retention(section: &Section<'_>, kept: &mut Option<Duration>) {
    if let Some(days) = section.number::<u32>("retention_days") {
        let days = Duration::from_secs(u64::from(days) * 86_400);
        *kept = Some(days).filter(|days| !days.is_zero());
    }
}
