//! Turns of the hub → Converse's messages.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use polygate_core::Failure;
use serde::Serialize;

use super::model::{Facts, Marks};
use crate::canon::{
    CachePoint as Wanted, Issuer, Losses, Media, MediaSource, Reasoning, Role, ToolResult,
};
use crate::media::{encode, is_text, mime};
use crate::turns::{
    GO_ON, NO_RESULT, Object, Piece, Turn, What, arguments, contents, nothing_left,
};

#[derive(Debug, Serialize)]
pub(crate) struct Message<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

/// A block of content.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Block<'a> {
    Text(&'a str),
    Image(Shown<'a>),
    Video(Shown<'a>),
    Audio(Shown<'a>),
    Document(Document<'a>),
    ReasoningContent(Thought<'a>),
    #[serde(rename_all = "camelCase")]
    ToolUse {
        tool_use_id: String,
        name: &'a str,
        input: Object<'a>,
    },
    #[serde(rename_all = "camelCase")]
    ToolResult {
        tool_use_id: String,
        content: Vec<Block<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<&'static str>,
    },
    CachePoint(CachePoint),
}

/// A picture, a film or sound.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'a> {
    format: &'static str,
    source: Source<'a>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Document<'a> {
    format: &'static str,
    name: String,
    source: Source<'a>,
}

/// Where the bytes are.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Source<'a> {
    Bytes(Cow<'a, str>),
    S3Location { uri: &'a str },
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Thought<'a> {
    ReasoningText { text: &'a str, signature: &'a str },
    RedactedContent(&'a str),
}

/// A mark for the prompt cache.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "default")]
pub(crate) struct CachePoint {
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'static str>,
}

/// Types of pictures, films and sound, and Converse's names for them.
const PICTURES: [(&str, &str); 4] = [
    ("image/png", "png"),
    ("image/jpeg", "jpeg"),
    ("image/gif", "gif"),
    ("image/webp", "webp"),
];

const FILMS: [(&str, &str); 8] = [
    ("video/mp4", "mp4"),
    ("video/quicktime", "mov"),
    ("video/webm", "webm"),
    ("video/mpeg", "mpeg"),
    ("video/x-matroska", "mkv"),
    ("video/x-flv", "flv"),
    ("video/x-ms-wmv", "wmv"),
    ("video/3gpp", "three_gp"),
];

const SOUNDS: [(&str, &str); 15] = [
    ("audio/mpeg", "mp3"),
    ("audio/mp3", "mp3"),
    ("audio/wav", "wav"),
    ("audio/x-wav", "wav"),
    ("audio/wave", "wav"),
    ("audio/ogg", "ogg"),
    ("audio/opus", "opus"),
    ("audio/flac", "flac"),
    ("audio/x-flac", "flac"),
    ("audio/aac", "aac"),
    ("audio/mp4", "mp4"),
    ("audio/m4a", "m4a"),
    ("audio/x-m4a", "m4a"),
    ("audio/webm", "webm"),
    ("audio/pcm", "pcm"),
];

/// Types of documents that are more than text.
const DOCUMENTS: [(&str, &str); 9] = [
    ("application/pdf", "pdf"),
    ("text/csv", "csv"),
    ("text/html", "html"),
    ("text/markdown", "md"),
    ("application/msword", "doc"),
    (
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "docx",
    ),
    ("application/vnd.ms-excel", "xls"),
    (
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "xlsx",
    ),
    ("text/plain", "txt"),
];

/// Endings of documents' names that Converse takes for formats, where no type is known.
const ENDINGS: [&str; 9] = [
    "pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md",
];

/// Stands beside documents where nothing else does: they are not taken without a text.
const BESIDE_DOCUMENTS: &str = "See the attached document.";

/// Opens a conversation that the model began: it is the user's to begin.
const OPENING: &str = "(The conversation begins.)";

/// Stands for a result without content.
const NO_CONTENT: &str = "The tool gave no output.";

/// The longest name of a document, and the longest id of a call.
const LONGEST_NAME: usize = 200;
const LONGEST_ID: usize = 64;

/// Writes blocks for a model; names what is lost.
pub(crate) struct Writer<'f, 'l> {
    facts: &'f Facts,
    losses: &'l mut Losses,
    /// Names of documents so far: none may come twice.
    names: HashSet<String>,
}

/// Whether a mark is taken at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a turn or in the instructions.
    Prompt,
    /// Behind a tool.
    Tools,
}

impl<'f, 'l> Writer<'f, 'l> {
    pub(crate) fn new(facts: &'f Facts, losses: &'l mut Losses) -> Self {
        Self {
            facts,
            losses,
            names: HashSet::new(),
        }
    }

    /// All messages. Nothing that a user said may vanish whole.
    pub(crate) fn messages<'a>(&mut self, turns: &[Turn<'a>]) -> Result<Vec<Message<'a>>, Failure> {
        let mut messages: Vec<Message<'a>> = Vec::with_capacity(turns.len());
        for turn in turns {
            let is_user = turn.role == Role::User;
            let mut content = self.blocks(&turn.pieces, turn.role)?;
            if content.is_empty() {
                if is_user {
                    return Err(nothing_left(turn));
                }
                continue;
            }
            let role = if is_user { "user" } else { "assistant" };
            match messages.last_mut().filter(|last| last.role == role) {
                // The turn between them was left out.
                Some(last) => last.content.append(&mut content),
                None => messages.push(Message { role, content }),
            }
        }
        if messages.first().is_some_and(|first| first.role != "user") {
            let content = vec![Block::Text(OPENING)];
            let role = "user";
            messages.insert(0, Message { role, content });
        }
        messages.iter_mut().for_each(introduce_documents);
        trim_prefill(&mut messages);
        Ok(messages)
    }

    /// Instructions: texts and marks.
    pub(crate) fn system<'a>(&mut self, pieces: &[Piece<'a>]) -> Result<Vec<Block<'a>>, Failure> {
        self.blocks(pieces, Role::System)
    }

    fn blocks<'a>(&mut self, pieces: &[Piece<'a>], role: Role) -> Result<Vec<Block<'a>>, Failure> {
        let mut blocks: Vec<Block<'a>> = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let block = match &piece.what {
                What::CachePoint(point) if blocks.last().is_some_and(Block::takes_marks) => {
                    self.mark(point, piece.at, Place::Prompt)
                }
                What::CachePoint(_) => {
                    self.losses.at(piece.at);
                    None
                }
                _ => {
                    let block = self.block(piece, role)?;
                    if block.is_none() {
                        self.losses.at(piece.at);
                    }
                    block
                }
            };
            blocks.extend(block);
        }
        Ok(blocks)
    }

    /// A mark, where the model takes it there.
    pub(crate) fn mark<'a>(&mut self, point: &Wanted, at: &str, place: Place) -> Option<Block<'a>> {
        let is_taken = match self.facts.marks {
            Marks::Everywhere { .. } => true,
            Marks::Prompt => place == Place::Prompt,
            Marks::Nowhere => false,
        };
        if !is_taken {
            self.losses.at(at);
            return None;
        }
        let takes_hours = self.facts.marks == Marks::Everywhere { hours: true };
        let ttl = match point.ttl.as_deref() {
            // Five minutes are what there is without a word.
            None | Some("5m") => None,
            Some("1h") if takes_hours => Some("1h"),
            Some(_) => {
                self.losses.at(format!("{at}/ttl"));
                None
            }
        };
        Some(Block::CachePoint(CachePoint { ttl }))
    }

    /// A piece as a block; `None` where Converse has no such block.
    fn block<'a>(&mut self, piece: &Piece<'a>, role: Role) -> Result<Option<Block<'a>>, Failure> {
        let is_user = role == Role::User;
        Ok(match &piece.what {
            What::Text(text) | What::Refusal(text) => Some(Block::Text(text)),
            What::Image(media) if is_user => self.image(media),
            What::File(media) if is_user => self.file(media),
            What::Audio(media) if is_user => self.sound(media),
            What::Image(_) | What::File(_) | What::Audio(_) => None,
            What::Reasoning(reasoning) => self.thinking(reasoning),
            What::Call(call, id) => {
                self.losses.seal(call, piece.at);
                Some(Block::ToolUse {
                    tool_use_id: short(id),
                    name: &call.name,
                    input: arguments(call, piece.at, self.losses),
                })
            }
            What::Answer(_, id, result) => Some(self.tool_result(id, *result)),
            What::Result(_) | What::CachePoint(_) => None,
        })
    }

    /// Thinking goes back to Claude with the signature that Claude put on it, or not at all.
    fn thinking<'a>(&self, reasoning: &'a Reasoning) -> Option<Block<'a>> {
        let opaque = reasoning.opaque.as_ref();
        let opaque = opaque.filter(|opaque| opaque.issuer == Issuer::Anthropic)?;
        self.facts.claude?;
        Some(Block::ReasoningContent(if opaque.is_redacted {
            Thought::RedactedContent(&opaque.data)
        } else {
            Thought::ReasoningText {
                text: &reasoning.text,
                signature: &opaque.data,
            }
        }))
    }

    fn tool_result<'a>(&mut self, id: &str, result: Option<&'a ToolResult>) -> Block<'a> {
        let mut content = result.map_or_else(Vec::new, |result| self.results(result));
        if content.is_empty() {
            let missing = result.map_or(NO_RESULT, |_| NO_CONTENT);
            content.push(Block::Text(missing));
        }
        let is_error = result.is_none_or(ToolResult::is_error);
        let status = (is_error && self.facts.status).then_some("error");
        if let Some(error) = result.and_then(|result| result.error.as_ref())
            && is_error
            && status.is_none()
        {
            self.losses.at(error.at.clone());
        }
        Block::ToolResult {
            tool_use_id: short(id),
            content,
            status,
        }
    }

    /// What a tool answered: texts, pictures, films and documents.
    fn results<'a>(&mut self, result: &'a ToolResult) -> Vec<Block<'a>> {
        let mut blocks = Vec::new();
        for piece in contents(result) {
            let block = match piece.what {
                What::Text(text) | What::Refusal(text) => Some(Block::Text(text)),
                What::Image(media) => self.image(media),
                What::File(media) => {
                    let file = self.file(media);
                    file.filter(|block| !matches!(block, Block::Audio(_)))
                }
                _ => None,
            };
            if block.is_none() {
                self.losses.at(piece.at);
            }
            blocks.extend(block);
        }
        blocks
    }

    fn image<'a>(&mut self, media: &'a Media) -> Option<Block<'a>> {
        let image = shown(media, &PICTURES)?;
        self.losses.detail(media);
        self.losses.unless_absent(&media.name);
        Some(Block::Image(image))
    }

    /// Claude neither hears nor watches films.
    fn sound<'a>(&mut self, media: &'a Media) -> Option<Block<'a>> {
        let sound = shown(media, &SOUNDS).filter(|_| self.facts.claude.is_none())?;
        self.losses.unless_absent(&media.name);
        Some(Block::Audio(sound))
    }

    /// Documents under a name of their own; pictures, films and sound that came as files as what they are, which have none.
    fn file<'a>(&mut self, media: &'a Media) -> Option<Block<'a>> {
        if format_of(media, &PICTURES).is_some() {
            return self.image(media);
        }
        if format_of(media, &FILMS).is_some() {
            let film = shown(media, &FILMS).filter(|_| self.facts.claude.is_none())?;
            self.losses.unless_absent(&media.name);
            return Some(Block::Video(film));
        }
        if format_of(media, &SOUNDS).is_some() {
            return self.sound(media);
        }
        let format = document_format(media)?;
        let source = source(media)?;
        let name = self.name(media.name.as_deref().unwrap_or_default());
        Some(Block::Document(Document {
            format,
            name,
            source,
        }))
    }

    /// A name that Converse takes and no other document has.
    fn name(&mut self, wanted: &str) -> String {
        let base = document_name(wanted);
        let mut name = base.clone();
        let mut number = 2;
        while !self.names.insert(name.clone()) {
            name = format!("{base} {number}");
            number += 1;
        }
        name
    }
}

impl Block<'_> {
    fn takes_marks(&self) -> bool {
        !matches!(self, Block::ReasoningContent(_) | Block::CachePoint(_))
    }

    fn is_call_or_result(&self) -> bool {
        matches!(self, Block::ToolUse { .. } | Block::ToolResult { .. })
    }
}

/// Whether the conversation has calls: tools must be declared then.
pub(crate) fn has_calls(messages: &[Message<'_>]) -> bool {
    let mut blocks = messages.iter().flat_map(|message| &message.content);
    blocks.any(Block::is_call_or_result)
}

/// Names of the tools that the conversation calls, each once.
pub(crate) fn called<'a>(messages: &[Message<'a>]) -> Vec<&'a str> {
    let (mut names, mut known) = (Vec::new(), HashSet::new());
    for block in messages.iter().flat_map(|message| &message.content) {
        if let Block::ToolUse { name, .. } = block
            && known.insert(*name)
        {
            names.push(*name);
        }
    }
    names
}

/// A document is not taken without a text beside it.
fn introduce_documents(message: &mut Message<'_>) {
    let has = |fits: fn(&Block<'_>) -> bool| message.content.iter().any(fits);
    if has(|block| matches!(block, Block::Document(_)))
        && !has(|block| matches!(block, Block::Text(_)))
    {
        message.content.push(Block::Text(BESIDE_DOCUMENTS));
    }
}

/// Where the model does not go on with a last message of its own, it is asked to.
pub(crate) fn ask_to_go_on(messages: &mut Vec<Message<'_>>) {
    if messages.last().is_some_and(|last| last.role == "assistant") {
        messages.push(Message {
            role: "user",
            content: vec![Block::Text(GO_ON)],
        });
    }
}

/// A last message of the assistant's may not end in blanks.
fn trim_prefill(messages: &mut [Message<'_>]) {
    let last = messages.last_mut().filter(|last| last.role == "assistant");
    if let Some(Block::Text(text)) = last.and_then(|last| last.content.last_mut()) {
        *text = text.trim_end();
    }
}

/// An id that is too long is cut, and keeps what tells it from others.
fn short(id: &str) -> String {
    if id.len() <= LONGEST_ID {
        return id.to_owned();
    }
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    // What a hash makes of it, and what joins them.
    let front: String = id.chars().take(LONGEST_ID - 17).collect();
    format!("{front}_{:016x}", hasher.finish())
}

fn format_of(media: &Media, formats: &[(&str, &'static str)]) -> Option<&'static str> {
    let mime = mime(media)?;
    let row = formats.iter().find(|(known, _)| *known == mime)?;
    Some(row.1)
}

fn shown<'a>(media: &'a Media, formats: &[(&str, &'static str)]) -> Option<Shown<'a>> {
    Some(Shown {
        format: format_of(media, formats)?,
        source: source(media)?,
    })
}

/// The bytes, or where Bedrock finds them: it asks nobody but S3.
fn source(media: &Media) -> Option<Source<'_>> {
    match &media.source {
        MediaSource::Base64(data) => Some(Source::Bytes(Cow::Borrowed(data))),
        MediaSource::Text(text) if text.trim().is_empty() => None,
        MediaSource::Text(text) => Some(Source::Bytes(Cow::Owned(encode(text.as_bytes())))),
        MediaSource::Url(uri) if uri.starts_with("s3://") => Some(Source::S3Location { uri }),
        MediaSource::Url(_) | MediaSource::FileId { .. } => None,
    }
}

fn document_format(media: &Media) -> Option<&'static str> {
    let name = match &media.source {
        MediaSource::Url(url) => Some(url.as_str()),
        _ => media.name.as_deref(),
    };
    let ending = name
        .and_then(|name| name.rsplit_once('.'))
        .and_then(|(_, ending)| {
            let mut known = ENDINGS.iter();
            known.find(|known| known.eq_ignore_ascii_case(ending))
        });
    let known = format_of(media, &DOCUMENTS);
    let readable = || mime(media).is_some_and(|mime| is_text(&mime));
    known
        .or(ending.copied())
        .or_else(|| readable().then_some("txt"))
}

/// Letters, digits, hyphens, brackets and single blanks, without the ending, which is the format's to say.
fn document_name(wanted: &str) -> String {
    let stem = match wanted.rsplit_once('.') {
        Some((stem, ending)) if !stem.is_empty() && ending.len() <= 5 => stem,
        _ => wanted,
    };
    let fit = |c: char| match c {
        '-' | '(' | ')' | '[' | ']' => c,
        c if c.is_ascii_alphanumeric() => c,
        _ => ' ',
    };
    let fitting: String = stem.chars().map(fit).collect();
    let words: Vec<&str> = fitting.split_whitespace().collect();
    // Room for a number behind it.
    let name: String = words.join(" ").chars().take(LONGEST_NAME - 10).collect();
    match name.trim_end() {
        "" => "document".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests;
