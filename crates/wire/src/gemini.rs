//! Gemini generateContent.

/// Gemini generateContent.
#[derive(Debug)]
pub struct Gemini;
