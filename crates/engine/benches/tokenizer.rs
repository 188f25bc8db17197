//! How long the tokenizer takes for a mebibyte of each kind of text, which is all of a call that it reads:
//! `cargo bench -p polygate-engine --bench tokenizer`. No kind should take many times as long as the others.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::time::Instant;

use bytes::Bytes;
use polygate_engine::Endpoint;
use polygate_engine::count::Question;
use serde_json::json;

/// Of these repeated, those without a border between words are the hardest.
const PIECES: [&str; 11] = [
    "The quick brown fox jumps over the lazy dog.\n",
    "a",
    " ",
    "\n",
    "aA",
    "é",
    "语",
    "0",
    "!?",
    "\u{200d}👩",
    "ab ",
];

const MEBIBYTE: usize = 1 << 20;

fn main() {
    let question = Question::of(&Endpoint::Embeddings).unwrap();
    for piece in PIECES {
        let text = piece.repeat(MEBIBYTE / piece.len());
        let body = Bytes::from(json!({ "input": text }).to_string());
        let began = Instant::now();
        let tokens = question.count(&body, "gpt-4o").unwrap();
        let took = began.elapsed();
        println!("{piece:?}: {tokens} tokens in {} ms", took.as_millis());
    }
}
