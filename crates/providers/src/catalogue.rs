//! What is listed of models: `data/catalogue.txt`, whose lines are found once and read when somebody asks for them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use crate::price::{Long, Price, PriceLine, Rates, ServiceTier, Source};
use crate::table::Row;

/// A model of a provider. Nothing is known of what is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The provider's row.
    pub row: &'static str,
    /// The model as the provider calls it.
    pub model: &'static str,
    /// Tokens that a prompt may have.
    pub context: Option<u64>,
    /// Tokens that an answer may have.
    pub output_cap: Option<u64>,
    /// What it can do.
    pub capabilities: Capabilities,
    /// What it costs as usual.
    pub price: Option<Price>,
    /// What it costs served otherwise.
    pub tiers: Vec<(ServiceTier, Price)>,
}

/// Something that not every model can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Call tools.
    Tools,
    /// See pictures.
    Vision,
    /// Reason before it answers.
    Reasoning,
    /// Answer by a schema.
    StructuredOutput,
    /// Hear.
    AudioInput,
    /// Speak.
    AudioOutput,
    /// Read PDF files.
    Pdf,
}

/// What a model can do, as far as it is listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u8);

/// What names may have in front that says nothing of the model: Google's collection, and Bedrock's places.
const FRONTS: [&str; 8] = [
    "models/", "us.", "eu.", "apac.", "global.", "us-gov.", "jp.", "au.",
];

/// The words of the file.
const CAPABILITIES: [(&str, Capability); 7] = [
    ("tools", Capability::Tools),
    ("vision", Capability::Vision),
    ("reasoning", Capability::Reasoning),
    ("structured", Capability::StructuredOutput),
    ("audio_in", Capability::AudioInput),
    ("audio_out", Capability::AudioOutput),
    ("pdf", Capability::Pdf),
];

/// What is listed of a model at a provider of this row.
pub fn listing(row: &Row, model: &str) -> Option<Listing> {
    let listed = |row: &str| {
        let (row, models) = LINES.rows.get_key_value(row)?;
        let bare = FRONTS.iter().find_map(|front| model.strip_prefix(front));
        let (model, line) = models
            .get_key_value(model)
            .or_else(|| bare.and_then(|bare| models.get_key_value(bare)))?;
        read(row, model, line)
    };
    // The same vendor's other address.
    listed(&row.name).or_else(|| row.dialect.as_deref().and_then(listed))
}

/// What a model costs at a provider of this row; `None` where nobody listed it.
pub fn price_of(row: &Row, model: &str) -> Option<Price> {
    listing(row, model)?.price
}

/// When the catalogue was made of its source.
pub fn date() -> &'static str {
    LINES.date
}

impl Listing {
    /// The price of a call that was served so, as the ledger keeps it.
    pub fn line(&self, tier: ServiceTier) -> Option<PriceLine> {
        let special = self.tiers.iter().find(|(one, _)| *one == tier);
        let usual = self.price.map(|price| (ServiceTier::Standard, price));
        let (tier, price) = special.copied().or(usual)?;
        Some(PriceLine {
            source: Source::Catalogue,
            date: Cow::Borrowed(date()),
            provider: self.row.to_owned(),
            model: self.model.to_owned(),
            tier,
            price,
        })
    }
}

impl Capabilities {
    /// Whether it is one of them.
    pub fn has(self, one: Capability) -> bool {
        self.0 & (1 << one as u8) != 0
    }
}

/// The file's lines, by row and model.
struct Lines {
    date: &'static str,
    rows: HashMap<&'static str, HashMap<&'static str, &'static str>>,
}

static LINES: LazyLock<Lines> = LazyLock::new(|| found(include_str!("../data/catalogue.txt")));

fn found(text: &'static str) -> Lines {
    let (mut date, mut rows) = ("", HashMap::new());
    let mut models: &mut HashMap<_, _> = rows.entry("").or_default();
    for line in text.lines() {
        if let Some(said) = line.strip_prefix("# Date: ") {
            date = said;
        } else if let Some(row) = line.strip_prefix('[') {
            models = rows.entry(row.trim_end_matches(']')).or_default();
        } else if let Some((model, rest)) = line.split_once(' ').filter(|(name, _)| *name != "#") {
            models.insert(model, rest);
        }
    }
    rows.remove("");
    Lines { date, rows }
}

/// Groups between semicolons: what the model is, then prices, each group's own kind first. `None`: not a line of ours.
fn read(row: &'static str, model: &'static str, line: &str) -> Option<Listing> {
    let mut groups = line.split(';');
    let mut listing = Listing {
        row,
        model,
        ..Listing::default()
    };
    for word in groups.next()?.split_ascii_whitespace() {
        match word.split_once('=')? {
            ("context", count) => listing.context = Some(count.parse().ok()?),
            ("cap", count) => listing.output_cap = Some(count.parse().ok()?),
            ("can", words) => listing.capabilities = capabilities(words)?,
            _ => return None,
        }
    }
    for group in groups {
        let (tier, above, rates) = prices(group)?;
        let usual = listing.price.unwrap_or_default();
        let own = match tier {
            ServiceTier::Standard => listing.price.as_mut(),
            _ => listing
                .tiers
                .iter_mut()
                .find_map(|(one, price)| (*one == tier).then_some(price)),
        };
        match (above, own) {
            (None, None) => {
                let rates = rates.or(&usual.rates);
                // Where only usual calls have a price for long prompts, others have that one, unless it would be a discount.
                let long = usual.long.filter(|long| long.rates.input >= rates.input);
                let price = Price { rates, long };
                if tier == ServiceTier::Standard {
                    listing.price = Some(price);
                } else {
                    listing.tiers.push((tier, price));
                }
            }
            (Some(above), Some(price)) => {
                let rates = rates.or(&price.rates);
                price.long = Some(Long { above, rates });
            }
            _ => return None,
        }
    }
    Some(listing)
}

fn capabilities(words: &str) -> Option<Capabilities> {
    words.split(',').try_fold(Capabilities(0), |all, word| {
        let (_, one) = CAPABILITIES.iter().find(|(name, _)| *name == word)?;
        Some(Capabilities(all.0 | 1 << *one as u8))
    })
}

fn prices(group: &str) -> Option<(ServiceTier, Option<u64>, Rates)> {
    let (mut tier, mut above, mut rates) = (ServiceTier::Standard, None, Rates::default());
    for word in group.split_ascii_whitespace() {
        let Some((name, figure)) = word.split_once('=') else {
            tier = *ServiceTier::ALL.iter().find(|one| one.as_str() == word)?;
            continue;
        };
        match name {
            "above" => above = Some(figure.parse().ok()?),
            "in" => rates.input = decimal(figure)?,
            "out" => rates.output = decimal(figure)?,
            "read" => rates.cache_read = Some(decimal(figure)?),
            "write" => rates.cache_write = Some(decimal(figure)?),
            "write_1h" => rates.cache_write_1h = Some(decimal(figure)?),
            "audio_in" => rates.input_audio = Some(decimal(figure)?),
            "audio_out" => rates.output_audio = Some(decimal(figure)?),
            "reasoning" => rates.reasoning = Some(decimal(figure)?),
            _ => return None,
        }
    }
    Some((tier, above, rates))
}

/// Dollars with six places at most, in millionths.
fn decimal(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let places = u32::try_from(part.len()).ok()?;
    let scale = 10_u64.pow(6_u32.checked_sub(places)?);
    let part = if part.is_empty() {
        0
    } else {
        part.parse().ok()?
    };
    let whole: u64 = whole.parse().ok()?;
    whole.checked_mul(1_000_000)?.checked_add(scale * part)
}

#[cfg(test)]
mod tests;
