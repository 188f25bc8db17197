//! Embeddings and lists of models.

use serde_json::{Value, json};

use super::member;

const SIZE: usize = 8;

/// OpenAI's embeddings: deterministic vectors, as numbers or as base64 of little-endian floats.
pub(crate) fn embeddings(body: &Value) -> Value {
    let inputs: Vec<String> = match member(body, "input") {
        Value::Array(all) => all.iter().map(Value::to_string).collect(),
        one => vec![one.to_string()],
    };
    let size = member(body, "dimensions")
        .as_u64()
        .map_or(SIZE, |size| usize::try_from(size.min(4096)).unwrap_or(SIZE));
    let as_base64 = member(body, "encoding_format") == "base64";
    let one = |(index, text): (usize, &String)| {
        let vector = vector(text, size);
        let embedding = if as_base64 {
            json!(base64(&vector))
        } else {
            json!(vector)
        };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    };
    let tokens: usize = inputs.iter().map(|text| text.len() / 4 + 1).sum();
    json!({
        "object": "list",
        "data": inputs.iter().enumerate().map(one).collect::<Vec<_>>(),
        "model": member(body, "model"),
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })
}

/// Gemini's embeddings, one or a batch.
pub(crate) fn gemini_embeddings(body: &Value) -> Value {
    match member(body, "requests").as_array() {
        Some(requests) => {
            json!({"embeddings": requests.iter().map(|request| json!({"values": vector(&request.to_string(), SIZE)})).collect::<Vec<_>>()})
        }
        None => json!({"embedding": {"values": vector(&body.to_string(), SIZE)}}),
    }
}

fn vector(text: &str, size: usize) -> Vec<f32> {
    let mut state = text.bytes().fold(0x9e37_79b9_u32, |state, byte| {
        state.rotate_left(5) ^ u32::from(byte).wrapping_mul(0x85eb_ca6b)
    });
    (0..size)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

fn base64(vector: &[f32]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = vector
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    let sign = |bits: u32| char::from(ALPHABET[(bits & 63) as usize]);
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().enumerate().fold(0_u32, |bits, (at, byte)| {
            bits | u32::from(*byte) << (16 - 8 * at)
        });
        for at in 0..4 {
            out.push(if at <= chunk.len() {
                sign(bits >> (18 - 6 * at))
            } else {
                '='
            });
        }
    }
    out
}

/// Lists of models, each client in its own shape.
pub(crate) fn models(names: &[String], path: &str, is_anthropic: bool) -> Value {
    let gemini = path.contains("/v1beta/");
    if gemini {
        let one = |name: &String| json!({"name": format!("models/{name}"), "displayName": name, "supportedGenerationMethods": ["generateContent"]});
        return json!({"models": names.iter().map(one).collect::<Vec<_>>()});
    }
    if is_anthropic {
        let one = |name: &String| json!({"type": "model", "id": name, "display_name": name, "created_at": "2025-01-01T00:00:00Z"});
        return json!({"data": names.iter().map(one).collect::<Vec<_>>(), "has_more": false, "first_id": names.first(), "last_id": names.last()});
    }
    let one = |name: &String| json!({"id": name, "object": "model", "created": 1_750_000_000, "owned_by": "mock"});
    json!({"object": "list", "data": names.iter().map(one).collect::<Vec<_>>()})
}
