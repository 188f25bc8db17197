//! A conversation as strict upstreams want it: instructions apart, roles alternating, every call answered in the turn after it.
//!
//! OpenAI's clients may put system messages anywhere, repeat a role, and answer calls one message each; Anthropic and Gemini
//! refuse all three. What has to be bent for that is named as a loss.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};

use polygate_core::{Failure, Kind};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::canon::{
    CachePoint, Given, Losses, Media, Message, Part, Reasoning, Role, ToolCall, ToolResult,
};

/// The conversation, borrowed from the request.
#[derive(Debug, Default)]
pub(crate) struct Conversation<'a> {
    /// Instructions of operator and application, in order: texts and cache points. Empty where they stay in their places.
    pub system: Vec<Piece<'a>>,
    /// Turns, roles alternating but for instructions that stay in their places. Never empty turns.
    pub turns: Vec<Turn<'a>>,
}

/// What one side says before the other does.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    /// [`Role::User`] or [`Role::Assistant`]; instructions in their places have their own.
    pub role: Role,
    /// Its pieces; answers of tools come first.
    pub pieces: Vec<Piece<'a>>,
}

/// A piece of a turn and where it stood.
#[derive(Debug)]
pub(crate) struct Piece<'a> {
    /// What it is.
    pub what: What<'a>,
    /// JSON pointer into the client's request.
    pub at: &'a str,
}

/// What a piece is.
#[derive(Debug)]
pub(crate) enum What<'a> {
    /// Text that is more than blanks.
    Text(&'a str),
    /// What the model said instead of an answer.
    Refusal(&'a str),
    /// A picture.
    Image(&'a Media),
    /// A document.
    File(&'a Media),
    /// Sound.
    Audio(&'a Media),
    /// The model's thinking.
    Reasoning(&'a Reasoning),
    /// A call, under an id that no other call of the conversation has.
    Call(&'a ToolCall, String),
    /// The answer to a call, `None` where the client gave none, under the call's id.
    Answer(&'a ToolCall, String, Option<&'a ToolResult>),
    /// A result before it has found its call.
    Result(&'a ToolResult),
    /// The prompt up to here is worth caching.
    CachePoint(&'a CachePoint),
}

/// Where instructions go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instructions {
    /// Out of the conversation, wherever they stood in it.
    Apart,
    /// Those before the first turn out of the conversation, later ones where they are.
    Leading,
    /// They stay where they are, but never between calls and their answers.
    InPlace,
}

/// Shapes the messages; fails where nothing is left to send.
pub(crate) fn conversation<'a>(
    messages: &'a [Message],
    instructions: Instructions,
    losses: &mut Losses,
) -> Result<Conversation<'a>, Failure> {
    let mut shaped = Conversation::default();
    for message in messages {
        let is_system = matches!(message.role, Role::System | Role::Developer);
        let is_late = !shaped.turns.is_empty();
        match instructions {
            _ if !is_system => shaped.say(message, losses),
            Instructions::Apart => {
                let pieces = texts(message, losses);
                if is_late && !pieces.is_empty() {
                    // Said, but not from here on.
                    losses.at(format!("{}/role", message.at));
                }
                shaped.system.extend(pieces);
            }
            Instructions::Leading if !is_late => shaped.system.extend(texts(message, losses)),
            Instructions::Leading | Instructions::InPlace => {
                let pieces = texts(message, losses);
                shaped.push(message.role, pieces);
            }
        }
    }
    if !shaped
        .turns
        .iter()
        .any(|turn| matches!(turn.role, Role::User | Role::Assistant))
    {
        shaped.instructions_alone(messages, instructions, losses)?;
    }
    shaped.close_up();
    Settling::default().run(&mut shaped.turns, losses);
    Ok(shaped)
}

impl<'a> Conversation<'a> {
    fn say(&mut self, message: &'a Message, losses: &mut Losses) {
        let pieces: Vec<Piece<'a>> = message.parts.iter().filter_map(piece).collect();
        let says_something = pieces
            .iter()
            .any(|piece| !matches!(piece.what, What::CachePoint(_)));
        if !says_something {
            let first = message.parts.first().map(|part| &part.at);
            losses.at(first.unwrap_or(&message.at));
            return;
        }
        self.push(message.role, pieces);
    }

    fn push(&mut self, role: Role, pieces: Vec<Piece<'a>>) {
        if pieces.is_empty() {
            return;
        }
        match self.turns.last_mut().filter(|turn| turn.role == role) {
            Some(turn) => turn.pieces.extend(pieces),
            None => self.turns.push(Turn { role, pieces }),
        }
    }

    /// Instructions that stand between calls and their answers move behind the answers.
    fn close_up(&mut self) {
        let calls = |turn: &Turn<'_>| {
            turn.pieces
                .iter()
                .any(|piece| matches!(piece.what, What::Call(..)))
        };
        let answers = |turn: &Turn<'_>| {
            turn.pieces
                .iter()
                .any(|piece| matches!(piece.what, What::Result(_)))
        };
        for at in 1..self.turns.len() {
            let (Some(before), Some(here)) = (self.turns.get(at - 1), self.turns.get(at)) else {
                continue;
            };
            let is_system = matches!(here.role, Role::System | Role::Developer);
            let is_between = before.role == Role::Assistant
                && calls(before)
                && self.turns.get(at + 1).is_some_and(answers);
            if is_system && is_between {
                self.turns.swap(at, at + 1);
            }
        }
    }

    /// Instructions and nothing else: the model still has to be asked something.
    fn instructions_alone(
        &mut self,
        messages: &'a [Message],
        instructions: Instructions,
        losses: &mut Losses,
    ) -> Result<(), Failure> {
        let first = messages
            .first()
            .filter(|_| !self.system.is_empty() || !self.turns.is_empty());
        let Some(first) = first else {
            let message = "no message has any content";
            return Err(Failure::new(Kind::InvalidRequest, message).param("messages"));
        };
        if instructions != Instructions::InPlace {
            losses.at(format!("{}/role", first.at));
            let pieces = std::mem::take(&mut self.system);
            self.turns.push(Turn {
                role: Role::User,
                pieces,
            });
        }
        Ok(())
    }
}

fn is_blank(part: &Part) -> bool {
    matches!(part, Part::Text(text) | Part::Refusal(text) if text.trim().is_empty())
}

fn texts<'a>(message: &'a Message, losses: &mut Losses) -> Vec<Piece<'a>> {
    let mut pieces = Vec::new();
    for part in &message.parts {
        match piece(part) {
            Some(piece) if matches!(piece.what, What::Text(_) | What::CachePoint(_)) => {
                pieces.push(piece)
            }
            Some(piece) => losses.at(piece.at),
            None => {}
        }
    }
    pieces
}

/// A part as a piece; `None` where it is blank.
fn piece(part: &Given<Part>) -> Option<Piece<'_>> {
    if is_blank(&part.value) {
        return None;
    }
    let what = match &part.value {
        Part::Text(text) => What::Text(text),
        Part::Refusal(text) => What::Refusal(text),
        Part::Image(media) => What::Image(media),
        Part::File(media) => What::File(media),
        Part::Audio(media) => What::Audio(media),
        Part::Reasoning(reasoning) => What::Reasoning(reasoning),
        Part::ToolCall(call) => What::Call(call, String::new()),
        Part::ToolResult(result) => What::Result(result),
        Part::CachePoint(point) => What::CachePoint(point),
    };
    Some(Piece { what, at: &part.at })
}

/// Joins results to their calls, turn by turn.
#[derive(Default)]
struct Settling<'a> {
    /// Calls of the turn before, with their ids.
    open: Vec<(&'a ToolCall, String, &'a str)>,
    /// Every id given so far.
    ids: HashSet<String>,
    /// What stands behind an id that is wanted once more.
    numbers: HashMap<String, u32>,
}

impl<'a> Settling<'a> {
    fn run(mut self, turns: &mut Vec<Turn<'a>>, losses: &mut Losses) {
        for turn in turns.iter_mut() {
            match turn.role {
                Role::Assistant => self.calls(turn),
                Role::User => self.answers(turn, losses),
                Role::System | Role::Developer => {}
            }
        }
        if !self.open.is_empty() {
            let mut last = Turn {
                role: Role::User,
                pieces: vec![],
            };
            self.answers(&mut last, losses);
            turns.push(last);
        }
    }

    fn calls(&mut self, turn: &mut Turn<'a>) {
        for piece in &mut turn.pieces {
            if let What::Call(call, id) = &mut piece.what {
                *id = self.unique(&call.id);
                self.open.push((call, id.clone(), piece.at));
            }
        }
    }

    /// Clients name calls after their functions or repeat ids of other vendors' making: upstreams want letters, and each id once.
    fn unique(&mut self, wanted: &str) -> String {
        let base = clean(wanted);
        let mut id = base.clone().into_owned();
        while !self.ids.insert(id.clone()) {
            let number = self.numbers.entry(base.clone().into_owned()).or_insert(2);
            id = format!("{base}_{number}");
            *number += 1;
        }
        id
    }

    /// Answers first, in the order of their calls; then whatever else the user said.
    fn answers(&mut self, turn: &mut Turn<'a>, losses: &mut Losses) {
        let (results, others) = results(std::mem::take(&mut turn.pieces));
        let mut waiting = Waiting::new(results);
        for (call, id, at) in std::mem::take(&mut self.open) {
            let found = waiting.answer(call);
            if found.is_none() {
                losses.at(at);
            }
            let (result, at, mark) = match found {
                Some(Found { result, at, mark }) => (Some(result), at, mark),
                None => (None, at, None),
            };
            let what = What::Answer(call, id, result);
            turn.pieces.push(Piece { what, at });
            turn.pieces.extend(mark);
        }
        for orphan in waiting.results.into_iter().flatten() {
            // It answers no call: its content stays in the conversation, as the user's own words.
            losses.at(orphan.at);
            turn.pieces.extend(contents(orphan.result));
            turn.pieces.extend(orphan.mark);
        }
        turn.pieces.extend(others);
    }
}

/// Results of one turn that wait for their calls.
#[derive(Default)]
struct Waiting<'a> {
    results: Vec<Option<Found<'a>>>,
    by_id: HashMap<&'a str, VecDeque<usize>>,
    /// Of those without an id.
    by_name: HashMap<&'a str, VecDeque<usize>>,
}

impl<'a> Waiting<'a> {
    fn new(results: Vec<Found<'a>>) -> Self {
        let mut waiting = Self::default();
        for (place, found) in results.into_iter().enumerate() {
            let line = match (&*found.result.call_id, &found.result.name) {
                ("", Some(name)) => waiting.by_name.entry(name),
                (id, _) => waiting.by_id.entry(id),
            };
            line.or_default().push_back(place);
            waiting.results.push(Some(found));
        }
        waiting
    }

    /// The first result that answers this call.
    fn answer(&mut self, call: &ToolCall) -> Option<Found<'a>> {
        let by_id = self.by_id.get_mut(&*call.id);
        let by_name = self.by_name.get_mut(&*call.name);
        let lines = [by_id, by_name].into_iter().flatten();
        let first = lines
            .filter(|line| !line.is_empty())
            .min_by_key(|line| line.front().copied())?;
        self.results.get_mut(first.pop_front()?)?.take()
    }
}

/// A result in a turn, and the mark for the cache behind it.
struct Found<'a> {
    result: &'a ToolResult,
    at: &'a str,
    mark: Option<Piece<'a>>,
}

/// A turn's results, apart from its other pieces.
fn results(pieces: Vec<Piece<'_>>) -> (Vec<Found<'_>>, Vec<Piece<'_>>) {
    let (mut results, mut others) = (Vec::<Found<'_>>::new(), Vec::new());
    let mut is_behind = false;
    for piece in pieces {
        let was_behind = std::mem::take(&mut is_behind);
        match (piece.what, results.last_mut()) {
            (What::Result(result), _) => {
                let (at, mark) = (piece.at, None);
                results.push(Found { result, at, mark });
                is_behind = true;
            }
            (what @ What::CachePoint(_), Some(last)) if was_behind => {
                let at = piece.at;
                last.mark = Some(Piece { what, at });
            }
            (what, _) => others.push(Piece { what, at: piece.at }),
        }
    }
    (results, others)
}

/// What a tool answered, piece by piece.
pub(crate) fn contents(result: &ToolResult) -> Vec<Piece<'_>> {
    let pieces = result.content.iter().filter_map(piece);
    let fits = |what: &What<'_>| {
        !matches!(
            what,
            What::Reasoning(_) | What::Call(..) | What::Result(_) | What::Answer(..)
        )
    };
    pieces.filter(|piece| fits(&piece.what)).collect()
}

/// The texts of what a tool answered, as one.
pub(crate) fn text_of(result: &ToolResult) -> Cow<'_, str> {
    let texts: Vec<&str> = contents(result)
        .into_iter()
        .filter_map(|piece| match piece.what {
            What::Text(text) | What::Refusal(text) => Some(text),
            _ => None,
        })
        .collect();
    match texts.as_slice() {
        [one] => Cow::Borrowed(one),
        _ => Cow::Owned(texts.join("\n")),
    }
}

/// What asks a model to go on that takes no message of its own as the last one.
pub(crate) const GO_ON: &str = "Continue.";

/// What stands for the answer that a client never gave.
pub(crate) const NO_RESULT: &str = "No result was given for this call.";

fn clean(id: &str) -> Cow<'_, str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if id.is_empty() {
        return Cow::Borrowed("call");
    }
    if id.bytes().all(fits) {
        return Cow::Borrowed(id);
    }
    let fit = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '_'
        }
    };
    Cow::Owned(id.chars().map(fit).collect())
}

/// A JSON object, bytes as they came, or one that stands for what is none.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Object<'a> {
    /// The client's or the model's own text.
    Raw(&'a RawValue),
    /// `{}`
    Empty {},
    /// What the model wrote is no JSON, since it was cut off or it went wrong: told the way Anthropic recommends.
    Invalid {
        /// What it wrote.
        #[serde(rename = "INVALID_JSON")]
        text: &'a str,
    },
}

impl<'a> Object<'a> {
    /// JSON text that is an object.
    pub(crate) fn of(text: &'a str) -> Option<Self> {
        let text = text.trim();
        let raw = text.starts_with('{').then(|| serde_json::from_str(text));
        raw?.ok().map(Object::Raw)
    }
}

/// A call's arguments as the object that upstreams want: nothing is an empty one, and what cannot be read goes inside one, as a loss.
pub(crate) fn arguments<'a>(call: &'a ToolCall, at: &str, losses: &mut Losses) -> Object<'a> {
    // An empty list is what an empty object is to R and PHP.
    if matches!(call.arguments.trim(), "" | "null" | "[]") {
        return Object::Empty {};
    }
    Object::of(&call.arguments).unwrap_or_else(|| {
        losses.at(at);
        Object::Invalid {
            text: &call.arguments,
        }
    })
}

/// A turn of which nothing can be sent: to drop it would be to answer another question.
pub(crate) fn nothing_left(turn: &Turn<'_>) -> Failure {
    let at = turn.pieces.first().map_or("/messages", |piece| piece.at);
    let message = "nothing of a turn of the conversation can be sent to this provider";
    Failure::new(Kind::Untranslatable, message).param(at)
}
