//! From a row and an operator's settings to a provider: the only place that knows which code serves which row.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use polygate_wire::Format;

use crate::azure::Azure;
use crate::base::Base;
use crate::bedrock::Bedrock;
use crate::compat::Compat;
use crate::forward::Forward;
use crate::heads::Heads;
use crate::table::{Code, Row};
use crate::{Provider, row_at, row_named};

/// What an operator says of a provider.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// A row's name or alias; empty = found by the address or the provider's name.
    pub kind: String,
    /// The provider's own name.
    pub name: String,
    /// Address where it is not the row's own.
    pub api_base: Option<String>,
    /// Only these formats of the row.
    pub only: Option<Format>,
    /// Headers for every request, replacing what stands there.
    pub headers: BTreeMap<String, String>,
    /// The same where the provider speaks Anthropic's format before others, and unless a client's forwarded one is there.
    pub claude_defaults: BTreeMap<String, String>,
    /// Which headers of clients reach it; as the row says unless set.
    pub forward: Option<Forward>,
    /// Azure's `api-version`.
    pub api_version: Option<String>,
    /// AWS's region.
    pub region: Option<String>,
}

/// The row that settings mean: the type's; else the one that is at the address; else, without an address, the one called `name`;
/// else OpenAI-compatible.
pub fn row_of(settings: &Settings) -> Result<&'static Row, String> {
    let compatible = || {
        row_named("openai-compatible")
            .ok_or_else(|| "the table has no openai-compatible row".to_owned())
    };
    let is_said = !settings.kind.is_empty();
    if is_said {
        let row = row_named(&settings.kind)
            .ok_or_else(|| format!("no provider type '{}'", settings.kind))?;
        // A generic type with a known vendor's address is that vendor, where it speaks what the type says.
        if row.name != "openai-compatible" {
            return Ok(row);
        }
    }
    match &settings.api_base {
        Some(address) => {
            let base = Base::parse(address, "")?;
            let known = row_at(base.host(), base.path());
            let known = known.filter(|row| !is_said || row.formats.contains(&Format::OpenaiChat));
            known.map_or_else(compatible, Ok)
        }
        None => row_named(&settings.name).map_or_else(compatible, Ok),
    }
}

/// Builds the provider that settings describe.
pub fn build(settings: &Settings) -> Result<Arc<dyn Provider>, String> {
    let row = row_of(settings)?;
    let address = settings.api_base.as_deref().or(row.base.as_deref());
    let address = address.ok_or_else(|| format!("type '{}' needs an api_base", row.name))?;
    let region = settings.region.as_deref().or(row.region.as_deref());
    let region = region.unwrap_or_default();
    let address = address.replace("{region}", region);
    let address = address.as_str();
    let formats = row
        .formats
        .iter()
        .copied()
        .filter(|format| settings.only.is_none_or(|only| only == *format))
        .collect::<Vec<_>>();
    if formats.is_empty() {
        return Err(format!(
            "type '{}' does not speak the format that wire_api asks for",
            row.name
        ));
    }
    let heads = Heads::new(row, &formats, settings)?;
    Ok(match row.code {
        Code::Compat => {
            let base = Base::parse(address, &row.version)?;
            Arc::new(Compat::new(base, formats, heads))
        }
        Code::Azure => {
            let api_version = settings.api_version.as_deref();
            Arc::new(Azure::new(address, api_version, formats, heads)?)
        }
        Code::Bedrock => Arc::new(Bedrock::new(address, region, formats, heads)?),
    })
}

/// Headers by name; an error says which cannot be one. Their values are never shown.
pub fn header_map(pairs: &BTreeMap<String, String>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let key: HeaderName = name
            .parse()
            .map_err(|_| format!("'{name}' is no header name"))?;
        let mut value: HeaderValue = value
            .parse()
            .map_err(|_| format!("the value of header '{name}' is not allowed"))?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}
