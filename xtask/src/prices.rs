//! Makes the built-in catalogue of models and prices of LiteLLM's price map.

use std::fs;
use std::path::Path;

use polygate_providers::price_map;
use serde_json::Value;

/// Reads the map and writes the catalogue.
pub fn make(root: &Path, file: &Path, date: &str, source: &str) -> Result<(), String> {
    let shown = file.display();
    let text = fs::read_to_string(file).map_err(|error| format!("{shown}: {error}"))?;
    let map: Value = serde_json::from_str(&text).map_err(|error| format!("{shown}: {error}"))?;
    let catalogue = price_map::catalogue(&map, date, source);
    let catalogue = catalogue.map_err(|error| format!("{shown}: {error}"))?;
    let table = root.join("crates/providers/data/catalogue.txt");
    fs::write(&table, catalogue).map_err(|error| format!("{}: {error}", table.display()))
}
