//! How often and how much: `rate_limit`, and `limits` of whatever has them.

use polygate_engine::config::{Allowance, RateLimit};
use polygate_engine::quota::{MOST, Measure, Period};

use crate::config::reader::{Item, Section};
use crate::config::yaml::Kind;

/// Burst of a rate limit that names none, as published.
const BURST: u32 = 10;

/// What may be limited, by key.
const LIMITS: [(&str, Measure, Period); 9] = [
    ("requests_per_minute", Measure::Requests, Period::Minute),
    ("requests_per_day", Measure::Requests, Period::Day),
    ("requests_total", Measure::Requests, Period::Total),
    ("tokens_per_minute", Measure::Tokens, Period::Minute),
    ("tokens_per_day", Measure::Tokens, Period::Day),
    ("tokens_total", Measure::Tokens, Period::Total),
    ("usd_per_day", Measure::Money, Period::Day),
    ("usd_per_month", Measure::Money, Period::Month),
    ("usd_total", Measure::Money, Period::Total),
];

/// `limits`.
pub fn limits(section: &Section<'_>) -> Vec<Allowance> {
    let Some(section) = section.section("limits") else {
        return Vec::new();
    };
    let allowances = LIMITS.into_iter().filter_map(|(key, measure, period)| {
        let most = match measure {
            Measure::Money => money(&section.item(key)?)?,
            Measure::Requests | Measure::Tokens => section.number(key)?,
        };
        Some(Allowance {
            measure,
            period,
            most,
        })
    });
    let allowances = allowances.collect();
    section.finish();
    allowances
}

/// `rate_limit`: requests per second; a number alone is their burst too, as llm-proxy has it.
pub fn rate_limit(item: &Item<'_>) -> Option<RateLimit> {
    if matches!(item.node.kind, Kind::Scalar { .. }) {
        let expected = "a whole number, or requests_per_second and burst_size";
        let number = item.parsed(expected, |text| text.parse().ok());
        return number.map(|number| RateLimit {
            requests_per_second: number,
            burst_size: number,
        });
    }
    let section = item.section()?;
    section.required("requests_per_second");
    let requests_per_second = section.number("requests_per_second");
    let burst_size = section.number("burst_size").unwrap_or(BURST);
    section.finish();
    Some(RateLimit {
        requests_per_second: requests_per_second?,
        burst_size,
    })
}

/// Dollars, as millionths of one.
fn money(item: &Item<'_>) -> Option<u64> {
    item.parsed("an amount of USD from 0 to 1000000", |text| {
        let dollars: f64 = text.parse().ok()?;
        let most = 1e6;
        let is_amount = (0.0..=most).contains(&dollars);
        is_amount.then(|| ((dollars * most).round() as u64).min(MOST))
    })
}
