//! What is listed of models: a text whose lines are found once and read when somebody asks for them. `data/catalogue.txt` is built in;
//! others have its form.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use crate::price::{Long, Price, PriceLine, Rates, ServiceTier, Source};
use crate::table::Row;

/// A model of a provider. Nothing is known of what is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Who listed it.
    pub source: Source,
    /// Of when the list is.
    pub date: Arc<str>,
    /// The provider's row.
    pub row: String,
    /// The model as the provider calls it.
    pub model: String,
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

/// A list of models.
pub struct Catalogue {
    source: Source,
    date: Arc<str>,
    text: String,
    /// The lines' ends behind each name.
    rows: HashMap<String, HashMap<String, Range<usize>>>,
}

static BUILT_IN: LazyLock<Arc<Catalogue>> = LazyLock::new(|| {
    let text = include_str!("../data/catalogue.txt").to_owned();
    Arc::new(Catalogue::of(Source::Catalogue, text))
});

impl Catalogue {
    /// The one that is built in.
    pub fn built_in() -> Arc<Self> {
        BUILT_IN.clone()
    }

    /// One that came from elsewhere; or what is wrong with it. Rows that nobody knows here are passed over.
    pub fn fetched(text: String) -> Result<Self, String> {
        let catalogue = Self::of(Source::Fetched, text);
        if catalogue.date.is_empty() {
            return Err("it has no line '# Date: …'".to_owned());
        }
        for (row, models) in &catalogue.rows {
            for (model, line) in models {
                if catalogue.read(row, model, line).is_none() {
                    return Err(format!("'{model}' of '{row}' cannot be read"));
                }
            }
        }
        Ok(catalogue)
    }

    /// What is listed of a model at a provider of this row.
    pub fn listing(&self, row: &Row, model: &str) -> Option<Listing> {
        let listed = |row: &str| {
            let (row, models) = self.rows.get_key_value(row)?;
            let bare = FRONTS.iter().find_map(|front| model.strip_prefix(front));
            let (model, line) = models
                .get_key_value(model)
                .or_else(|| bare.and_then(|bare| models.get_key_value(bare)))?;
            self.read(row, model, line)
        };
        // The same vendor's other address.
        let others = [row.dialect.as_deref(), row.vendor.as_deref()];
        listed(&row.name).or_else(|| others.into_iter().flatten().find_map(listed))
    }

    /// Who made it.
    pub fn source(&self) -> Source {
        self.source
    }

    /// When it was made of its source.
    pub fn date(&self) -> &str {
        &self.date
    }

    /// It as text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// All that is listed.
    pub fn listings(&self) -> impl Iterator<Item = Listing> {
        let rows = self.rows.iter();
        rows.flat_map(|(row, models)| {
            let models = models.iter();
            models.filter_map(|(model, line)| self.read(row, model, line))
        })
    }

    /// What is listed under these very names.
    pub fn exactly(&self, row: &str, model: &str) -> Option<Listing> {
        self.read(row, model, self.rows.get(row)?.get(model)?)
    }

    fn of(source: Source, text: String) -> Self {
        let mut date = "";
        let mut rows: HashMap<String, HashMap<String, Range<usize>>> = HashMap::new();
        let mut row = String::new();
        let mut at = 0;
        for whole in text.split_inclusive('\n') {
            let line = whole.trim_end();
            if let Some(said) = line.strip_prefix("# Date: ") {
                date = said;
            } else if let Some(name) = line.strip_prefix('[') {
                row = name.trim_end_matches(']').to_owned();
            } else if let Some((model, _)) = line.split_once(' ')
                && model != "#"
                && !row.is_empty()
            {
                let rest = at + model.len() + 1..at + line.len();
                let models = rows.entry(row.clone()).or_default();
                models.insert(model.to_owned(), rest);
            }
            at += whole.len();
        }
        Self {
            source,
            date: date.into(),
            rows,
            text,
        }
    }

    fn read(&self, row: &str, model: &str, line: &Range<usize>) -> Option<Listing> {
        let mut listing = Listing {
            source: self.source,
            date: self.date.clone(),
            row: row.to_owned(),
            model: model.to_owned(),
            context: None,
            output_cap: None,
            capabilities: Capabilities::default(),
            price: None,
            tiers: Vec::new(),
        };
        listing.read(self.text.get(line.clone())?)?;
        Some(listing)
    }
}

impl std::fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Catalogue({:?} of {})", self.source, self.date)
    }
}

impl Listing {
    /// The price of a call that was served so, as the ledger keeps it.
    pub fn line(&self, tier: ServiceTier) -> Option<PriceLine> {
        let special = self.tiers.iter().find(|(one, _)| *one == tier);
        let usual = self.price.map(|price| (ServiceTier::Standard, price));
        let (tier, price) = special.copied().or(usual)?;
        Some(PriceLine {
            source: self.source,
            date: Cow::Owned(self.date.to_string()),
            provider: self.row.clone(),
            model: self.model.clone(),
            tier,
            price,
        })
    }

    /// Groups between semicolons: what the model is, then prices, each group's own kind first. `None`: not a line of ours.
    fn read(&mut self, line: &str) -> Option<()> {
        let mut groups = line.split(';');
        for word in groups.next()?.split_ascii_whitespace() {
            match word.split_once('=')? {
                ("context", count) => self.context = Some(count.parse().ok()?),
                ("cap", count) => self.output_cap = Some(count.parse().ok()?),
                ("can", words) => self.capabilities = capabilities(words)?,
                _ => return None,
            }
        }
        groups.try_for_each(|group| self.group(group))
    }

    fn group(&mut self, group: &str) -> Option<()> {
        let (tier, above, rates) = prices(group)?;
        let usual = self.price.unwrap_or_default();
        let own = match tier {
            ServiceTier::Standard => self.price.as_mut(),
            _ => self
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
                    self.price = Some(price);
                } else {
                    self.tiers.push((tier, price));
                }
            }
            (Some(above), Some(price)) => {
                let rates = rates.or(&price.rates);
                price.long = Some(Long { above, rates });
            }
            _ => return None,
        }
        Some(())
    }
}

impl Capabilities {
    /// Whether it is one of them.
    pub fn has(self, one: Capability) -> bool {
        self.0 & (1 << one as u8) != 0
    }
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
