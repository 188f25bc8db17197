//! What models cost where the catalogue is wrong or silent.

use std::time::Duration;

use polygate_core::Secret;
use polygate_providers::Price;
use polygate_providers::price::Source;

use crate::pattern::Pattern;

/// What models cost where the catalogue is wrong or silent.
#[derive(Clone, Debug)]
pub struct PriceOverride {
    /// At this provider; `None`: at all of them.
    pub provider: Option<String>,
    /// The models, as the provider calls them.
    pub model: Pattern,
    /// What they cost, however a call is served.
    pub price: Price,
    /// Of when that is, for people.
    pub date: String,
    /// Who says so.
    pub source: Source,
}

/// Where a list of models and prices is fetched, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceList {
    /// Its address. There may be a password in it.
    pub url: Secret,
    /// How often.
    pub refresh: Duration,
}
