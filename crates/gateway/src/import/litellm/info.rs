//! `model_info`: what LiteLLM is told of a deployment's model.

use super::price::Price;
use crate::import::{At, Notes};

/// Reads it.
pub fn read(info: &At<'_>, row: &str, price: &mut Price, notes: &mut Notes) {
    for (key, at) in info.entries() {
        if at.node.is_null() || price.read(key, &at, notes) {
            continue;
        }
        match key {
            "id" | "base_model" => {}
            "mode" => mode(&at, notes),
            "max_tokens" | "max_input_tokens" | "max_output_tokens" => {
                notes.missing(&at, "what the catalogue says of the model counts");
            }
            key if key.starts_with("supports_") => {
                notes.missing(&at, "what the catalogue says of the model counts");
            }
            "access_groups" => notes.missing(
                &at,
                "keys name models themselves: allowed_models, with patterns",
            ),
            _ => notes.missing(&at, "Polygate keeps no such word of a model"),
        }
    }
    if let Some(base) = info.get("base_model") {
        base_model(&base, row, price, notes);
    }
}

/// What a model is for that is not asked for by chats or embeddings.
fn mode(at: &At<'_>, notes: &mut Notes) {
    const READ: [&str; 4] = ["chat", "completion", "responses", "embedding"];
    if !at.text().is_some_and(|mode| READ.contains(&mode)) {
        let message = "calls of this kind go through /v1/{model}/…, as they are";
        notes.changed(at, message);
    }
}

/// What a deployment is of whose name says nothing: its price, as the catalogue has it today.
fn base_model(at: &At<'_>, row: &str, price: &mut Price, notes: &mut Notes) {
    let said = at.text().unwrap_or_default();
    let bare = said.split_once('/').map_or(said, |(_, bare)| bare);
    if !price.is_empty() {
        notes.missing(at, "a price is said, which counts alone");
        return;
    }
    match Price::of(row, bare) {
        Some(listed) => {
            notes.changed(at, "its price of today is written out, as the target's");
            *price = listed;
        }
        None => notes.missing(at, "the catalogue has no price of it: set the target's"),
    }
}
