//! What models cost where the catalogue is wrong or silent.

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
