//! What each format can carry of a request and of an answer: all else is taken out, or put the one way that the format has for it.
//! Whatever is left has to come back as it was, and nothing of it may be named as lost.

use polygate_wire::canon::{
    Block, CallKind, Effort, Issuer, Media, MediaSource, Message, OutputShape, Part, Reasoning,
    Role, Said, Stop, Thinking, Tool, ToolChoice, ToolInput, ToolResult,
};
use polygate_wire::quirks::ReasoningHistory;
use polygate_wire::{ChatRequest, ChatResponse, Format, Quirks};

use crate::canonical::{given, opaque, raw};

/// A format, and a model that takes what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carrier {
    /// The format.
    pub format: Format,
    /// The model: those that think take no sampling, and the other way round.
    pub model: &'static str,
    /// Whether it thinks.
    pub thinks: bool,
}

const fn carrier(format: Format, model: &'static str, thinks: bool) -> Carrier {
    Carrier {
        format,
        model,
        thinks,
    }
}

/// All formats that have both halves.
pub const CARRIERS: [Carrier; 8] = [
    carrier(Format::OpenaiChat, "gpt-4o", false),
    carrier(Format::OpenaiChat, "gpt-5", true),
    carrier(Format::OpenaiResponses, "gpt-4o", false),
    carrier(Format::OpenaiResponses, "gpt-5", true),
    carrier(Format::AnthropicMessages, "claude-opus-4-1", false),
    carrier(Format::AnthropicMessages, "claude-opus-5", true),
    carrier(Format::Gemini, "gemini-2.5-flash", false),
    carrier(Format::Gemini, "gemini-3-pro", true),
];

/// All that providers of OpenAI's format take beside what OpenAI does.
pub fn quirks() -> Quirks {
    Quirks {
        developer: true,
        cache_control: true,
        top_k: true,
        reasoning_history: Some(ReasoningHistory::ReasoningDetails),
        ..Quirks::default()
    }
}

/// The schema of a tool that takes nothing, where it has to have one.
const NOTHING: &str = r#"{"type":"object","properties":{}}"#;

impl Carrier {
    fn is_openais(self) -> bool {
        matches!(self.format, Format::OpenaiChat | Format::OpenaiResponses)
    }

    /// Whether it has marks for the prompt's cache.
    fn marks(self) -> bool {
        matches!(self.format, Format::OpenaiChat | Format::AnthropicMessages)
    }

    /// Whose seals and files it takes.
    fn issuer(self) -> Issuer {
        match self.format {
            Format::AnthropicMessages => Issuer::Anthropic,
            Format::Gemini => Issuer::Google,
            _ => Issuer::OpenAi,
        }
    }

    /// What it can carry of a request.
    pub fn request(self, mut request: ChatRequest) -> ChatRequest {
        request.source = Some(self.format);
        request.model = self.model.to_owned();
        request.messages = self.messages(request.messages);
        request.tools = request
            .tools
            .into_iter()
            .map(|tool| self.tool(tool))
            .collect();
        match self.format {
            Format::OpenaiChat => self.chat(&mut request),
            Format::OpenaiResponses => self.responses(&mut request),
            Format::AnthropicMessages => self.anthropic(&mut request),
            Format::Gemini => self.gemini(&mut request),
            Format::BedrockConverse => {}
        }
        if request.tools.is_empty() {
            request.tool_choice = None;
            request.parallel_tool_calls = None;
        }
        request
    }

    fn chat(self, request: &mut ChatRequest) {
        request.include_usage = request.stream;
        request.show_thinking = None;
        // Several calls in a turn are what all do unless told not to.
        let parallel = request.parallel_tool_calls.take();
        request.parallel_tool_calls = parallel.filter(|given| !given.value);
        drop_choice(request, |choice| {
            matches!(choice, ToolChoice::Allowed { .. })
        });
        if self.thinks {
            self.openais_thinking(request);
            (request.stop, request.presence_penalty) = (None, None);
            request.frequency_penalty = None;
        } else {
            request.thinking = None;
        }
        if let Some(OutputShape::JsonSchema { name, .. }) = shape(request) {
            name.get_or_insert("answer".to_owned());
        }
    }

    /// Efforts alone, and up to `xhigh`; no sampling beside them.
    fn openais_thinking(self, request: &mut ChatRequest) {
        (request.temperature, request.top_p) = (None, None);
        let wanted = request.thinking.take();
        request.thinking = wanted.filter(|given| match given.value {
            Thinking::Off => true,
            Thinking::Effort(effort) => effort <= Effort::XHigh,
            Thinking::Auto | Thinking::Budget(_) => false,
        });
    }

    fn responses(self, request: &mut ChatRequest) {
        request.include_usage = true;
        (request.top_k, request.seed, request.stop) = (None, None, None);
        (request.presence_penalty, request.frequency_penalty) = (None, None);
        let wants = request.show_thinking.take().filter(|given| given.value);
        if self.thinks {
            self.openais_thinking(request);
            let thinking = request.thinking.as_ref().map(|given| given.value);
            // Who thinks tells it, unless told not to.
            let tells = thinking.is_some_and(|thinking| thinking != Thinking::Off);
            request.show_thinking = wants.or(tells.then(|| given(true)));
        } else {
            request.thinking = None;
        }
        if let Some(OutputShape::JsonSchema { name, .. }) = shape(request) {
            name.get_or_insert("answer".to_owned());
        }
    }

    fn anthropic(self, request: &mut ChatRequest) {
        request.include_usage = true;
        (request.seed, request.logprobs, request.verbosity) = (None, None, None);
        (request.presence_penalty, request.frequency_penalty) = (None, None);
        // There is always a limit.
        let limit = request.max_tokens.get_or_insert(given(8192)).value;
        drop_choice(request, |choice| {
            matches!(choice, ToolChoice::Allowed { .. })
        });
        // Only that it is unwanted can be said, with a choice that lets tools be called.
        let refused = request.parallel_tool_calls.take();
        let calls = |choice: &ToolChoice| *choice != ToolChoice::None;
        let chooses = request
            .tool_choice
            .as_ref()
            .is_some_and(|given| calls(&given.value));
        request.parallel_tool_calls = refused.filter(|given| !given.value && chooses);
        let last = request.messages.last();
        let mut parts = last.into_iter().flat_map(|message| &message.parts);
        let is_amid_tools = parts.any(|part| matches!(part.value, Part::ToolResult(_)));
        let wanted = request.thinking.take();
        request.thinking = wanted.filter(|given| match given.value {
            Thinking::Budget(tokens) => !self.thinks && tokens < limit && !is_amid_tools,
            Thinking::Effort(effort) => self.thinks && effort >= Effort::Low,
            Thinking::Auto => self.thinks,
            Thinking::Off => false,
        });
        if self.thinks || request.thinking.is_some() {
            (request.temperature, request.top_p, request.top_k) = (None, None, None);
        }
        if request.thinking.is_some() && !self.thinks {
            // A budget allows no force.
            drop_choice(request, |choice| {
                matches!(choice, ToolChoice::Required | ToolChoice::Named(_))
            });
            request.parallel_tool_calls = request
                .parallel_tool_calls
                .take()
                .filter(|_| request.tool_choice.is_some());
        }
        if let Some(temperature) = &mut request.temperature {
            temperature.value = temperature.value.min(1.0);
        }
        let hides = request.show_thinking.take().filter(|given| !given.value);
        let shows = request.thinking.as_ref().map(|_| given(true));
        // Only those with an effort can be told not to show.
        request.show_thinking = shows.map(|shows| hides.filter(|_| self.thinks).unwrap_or(shows));
        // Whoever has a schema keeps to it: it has no name there.
        request.output = request.output.take().filter(|output| {
            matches!(&output.value, OutputShape::JsonSchema { schema, .. } if is_closed(schema.get()))
        });
        self.bare_schema(request, Some(true));
    }

    fn gemini(self, request: &mut ChatRequest) {
        // Model and stream are in the address.
        (request.model, request.stream) = (String::new(), false);
        request.include_usage = true;
        (request.user, request.verbosity, request.parallel_tool_calls) = (None, None, None);
        drop_choice(request, |choice| match choice {
            ToolChoice::Allowed { names, required } => !required || names.len() < 2,
            _ => false,
        });
        let wanted = request.thinking.take();
        request.thinking = wanted.filter(|given| match given.value {
            Thinking::Off => !self.thinks,
            Thinking::Auto | Thinking::Budget(_) => true,
            Thinking::Effort(_) => false,
        });
        let thinking = request.thinking.as_ref().map(|given| given.value);
        if thinking.is_some_and(|thinking| thinking != Thinking::Off) {
            request.show_thinking.get_or_insert(given(true));
        }
        let has_tools = !request.tools.is_empty();
        request.output = request.output.take().filter(|_| self.thinks || !has_tools);
        self.bare_schema(request, None);
    }

    fn bare_schema(self, request: &mut ChatRequest, is_strict: Option<bool>) {
        if let Some(OutputShape::JsonSchema {
            name,
            description,
            strict,
            ..
        }) = shape(request)
        {
            (*name, *description, *strict) = (None, None, is_strict);
        }
    }

    fn tool(self, mut tool: Tool) -> Tool {
        if let ToolInput::Freeform(_) = &tool.input
            && self.format != Format::OpenaiResponses
        {
            tool.input = ToolInput::Json(None);
        }
        let needs_schema = matches!(
            self.format,
            Format::OpenaiResponses | Format::AnthropicMessages
        );
        if let ToolInput::Json(schema) = &mut tool.input
            && needs_schema
        {
            schema.get_or_insert(raw(NOTHING));
        }
        tool.cache = tool.cache.filter(|_| self.marks());
        tool.strict = match self.format {
            Format::OpenaiResponses if tool.parameters().is_none() => None,
            Format::OpenaiResponses => tool.strict.or(Some(given(false))),
            Format::AnthropicMessages => tool.strict.clone().filter(|given| {
                given.value && tool.parameters().is_some_and(|raw| is_closed(raw.get()))
            }),
            Format::Gemini => None,
            _ => tool.strict,
        };
        tool
    }

    fn messages(self, messages: Vec<Message>) -> Vec<Message> {
        let mut all: Vec<Message> = Vec::new();
        for mut message in messages {
            let is_first = all.is_empty();
            if !self.instructs(&mut message, is_first) {
                continue;
            }
            message.parts = self
                .parts(
                    message.role,
                    message.parts.into_iter().map(|given| given.value).collect(),
                )
                .into_iter()
                .map(given)
                .collect();
            match all.last_mut().filter(|last| last.role == message.role) {
                Some(last) => last.parts.extend(message.parts),
                None if message.parts.is_empty() => {}
                None => all.push(message),
            }
        }
        if self.format == Format::OpenaiChat {
            all.iter_mut().for_each(one_text);
        }
        all
    }

    /// Instructions: of which role, and where.
    fn instructs(self, message: &mut Message, is_first: bool) -> bool {
        if !matches!(message.role, Role::System | Role::Developer) {
            return true;
        }
        if !self.is_openais() {
            message.role = Role::System;
        }
        let is_late_claude = self.format == Format::AnthropicMessages && self.thinks;
        self.is_openais() || is_late_claude || is_first
    }

    fn parts(self, role: Role, parts: Vec<Part>) -> Vec<Part> {
        let mut kept: Vec<Part> = Vec::new();
        let mut is_kept = false;
        for part in parts {
            if let Part::CachePoint(_) = &part {
                if is_kept && self.marks() {
                    kept.push(part);
                }
                continue;
            }
            let part = self.part(part);
            is_kept = part.is_some();
            kept.extend(part);
        }
        // Thinking belongs to what is said after it.
        let is_only_thought = kept.iter().all(|part| matches!(part, Part::Reasoning(_)));
        if role == Role::Assistant && is_only_thought {
            kept.clear();
        }
        kept
    }

    fn part(self, part: Part) -> Option<Part> {
        Some(match part {
            Part::Image(media) => Part::Image(self.image(media)?),
            Part::File(media) => Part::File(self.file(media)?),
            Part::Audio(media) => Part::Audio(self.audio(media)?),
            Part::Reasoning(reasoning) => Part::Reasoning(self.reasoning(reasoning)?),
            Part::Refusal(_) if !self.is_openais() => return None,
            Part::ToolCall(mut call) => {
                if self.format != Format::OpenaiResponses {
                    call.kind = CallKind::Function;
                }
                call.opaque = call.opaque.filter(|_| self.format == Format::Gemini);
                if self.format == Format::Gemini && self.thinks {
                    // Calls without one are marked as such.
                    call.opaque.get_or_insert(opaque(Issuer::Google, false));
                }
                Part::ToolCall(call)
            }
            Part::ToolResult(result) => Part::ToolResult(self.result(result)),
            other => other,
        })
    }

    /// What its maker wants back goes to its maker; thinking without that to those who ask for it.
    fn reasoning(self, mut reasoning: Reasoning) -> Option<Reasoning> {
        let issuer = reasoning.opaque.as_ref().map(|opaque| opaque.issuer);
        if self.format == Format::OpenaiChat {
            if issuer == Some(Issuer::OpenAi) {
                // Encrypted, it stands alone.
                reasoning.text.clear();
            }
            return Some(reasoning);
        }
        (issuer == Some(self.issuer())).then_some(reasoning)
    }

    fn result(self, mut result: ToolResult) -> ToolResult {
        if self.format != Format::OpenaiResponses {
            result.kind = CallKind::Function;
        }
        let parts = result
            .content
            .into_iter()
            .filter_map(|given| self.part(given.value));
        let mut parts: Vec<Part> = parts.collect();
        let is_text = |part: &Part| matches!(part, Part::Text(_));
        let text = parts.iter().find(|part| is_text(part)).cloned();
        let text = text.unwrap_or(Part::Text("Done".to_owned()));
        match self.format {
            Format::OpenaiChat => parts = vec![text],
            // One text, and behind it what else is shown.
            Format::Gemini => {
                let shows = |part: &Part| match part {
                    Part::Image(media) | Part::File(media) | Part::Audio(media) => {
                        self.thinks && matches!(media.source, MediaSource::Base64(_))
                    }
                    _ => false,
                };
                parts.retain(shows);
                parts.insert(0, text);
            }
            Format::OpenaiResponses if parts.is_empty() => parts = vec![text],
            _ => {}
        }
        result.content = parts.into_iter().map(given).collect();
        let says_failure = [Format::AnthropicMessages, Format::Gemini];
        result.error = result.error.filter(|_| says_failure.contains(&self.format));
        result
    }

    fn image(self, mut media: Media) -> Option<Media> {
        self.source(&mut media)?;
        match self.format {
            Format::OpenaiChat if is_stored(&media) => return None,
            Format::OpenaiChat => {}
            Format::OpenaiResponses => {
                media.detail.get_or_insert(given("auto".to_owned()));
            }
            _ => media.detail = None,
        }
        if self.format == Format::Gemini && media.mime.is_none() {
            return None;
        }
        Some(media)
    }

    fn file(self, mut media: Media) -> Option<Media> {
        self.source(&mut media)?;
        let is_pdf = media.mime.as_deref() == Some("application/pdf");
        let is_inline = matches!(media.source, MediaSource::Base64(_));
        match (self.format, &media.source) {
            (Format::OpenaiChat, MediaSource::Url(_)) => return None,
            (Format::OpenaiChat | Format::AnthropicMessages, MediaSource::Base64(_)) if !is_pdf => {
                return None;
            }
            (Format::AnthropicMessages, MediaSource::Url(url)) if !url.ends_with(".pdf") => {
                return None;
            }
            _ => {}
        }
        match self.format {
            // What comes inline has a name, all else has none.
            Format::OpenaiChat | Format::OpenaiResponses => {
                let named = media.name.or(Some(given("file.pdf".to_owned())));
                media.name = named.filter(|_| is_inline);
            }
            Format::AnthropicMessages if is_stored(&media) && media.name.is_none() => {
                media.mime = Some("application/pdf".to_owned());
            }
            Format::Gemini => media.name = None,
            _ => {}
        }
        Some(media)
    }

    fn audio(self, mut media: Media) -> Option<Media> {
        self.source(&mut media)?;
        media.name = None;
        match self.format {
            Format::OpenaiChat => matches!(media.source, MediaSource::Base64(_)).then_some(media),
            Format::Gemini => media.mime.is_some().then_some(media),
            _ => None,
        }
    }

    /// Files stay with who keeps them. Google names the types of what it fetches.
    fn source(self, media: &mut Media) -> Option<()> {
        if let MediaSource::FileId { id, keeper } = &mut media.source {
            if *keeper != self.issuer() {
                return None;
            }
            if self.format == Format::Gemini {
                *id = "gs://bucket/file".to_owned();
            }
        }
        if let (Format::Gemini, MediaSource::Url(url)) = (self.format, &media.source) {
            let endings = [
                (".png", "image/png"),
                (".jpg", "image/jpeg"),
                (".pdf", "application/pdf"),
                (".csv", "text/csv"),
                (".mp3", "audio/mpeg"),
                (".wav", "audio/wav"),
            ];
            let found = endings.iter().find(|(ending, _)| url.ends_with(ending));
            media.mime = found.map(|(_, mime)| (*mime).to_owned());
        }
        Some(())
    }
}

/// What answers are called and made of.
pub const UNIQUE: &str = "unique";

impl Carrier {
    /// What it can carry of an answer.
    pub fn answer(self, mut answer: ChatResponse) -> ChatResponse {
        answer.id = Some(
            match self.format {
                Format::OpenaiChat => "chatcmpl-answer",
                // The gateway's own.
                Format::OpenaiResponses => "resp_unique",
                Format::AnthropicMessages => "msg_answer",
                _ => "answer",
            }
            .to_owned(),
        );
        answer.said = self.said(answer.said);
        let has = |which: fn(&Block) -> bool| answer.said.iter().any(|said| which(&said.block));
        let calls = has(|block| matches!(block, Block::ToolCall { .. }));
        let refuses = has(|block| matches!(block, Block::Refusal));
        answer.stop = match (self.format, answer.stop) {
            (Format::AnthropicMessages, Stop::ContentFilter) => Stop::Refusal,
            (Format::AnthropicMessages, stop) => stop,
            (_, Stop::Length) => Stop::Length,
            (_, Stop::ContentFilter) => Stop::ContentFilter,
            (Format::OpenaiChat, Stop::Refusal) if !refuses => Stop::ContentFilter,
            (Format::Gemini, Stop::Refusal) => Stop::ContentFilter,
            // What was said tells the rest.
            _ if calls => Stop::ToolUse,
            _ if refuses => Stop::Refusal,
            _ => Stop::End,
        };
        let mut usage = answer.usage.unwrap_or_default();
        if !matches!(self.format, Format::OpenaiChat | Format::Gemini) {
            (usage.input_audio, usage.output_audio) = (0, 0);
        }
        if self.format == Format::Gemini {
            usage.cache_write = 0;
        }
        if self.format != Format::AnthropicMessages {
            usage.cache_write_1h = 0;
        }
        answer.usage = Some(usage);
        answer
    }

    fn said(self, said: Vec<Said>) -> Vec<Said> {
        let mut said: Vec<Said> = said
            .into_iter()
            .filter_map(|said| self.block(said))
            .collect();
        match self.format {
            Format::OpenaiChat => {
                // One of each, in this order, but for pictures and calls.
                said.sort_by_key(|said| rank(&said.block));
                said.dedup_by_key(|said| match rank(&said.block) {
                    rank @ 0..3 => rank,
                    _ => usize::MAX,
                });
            }
            Format::Gemini => {
                said.dedup_by_key(|said| rank(&said.block).min(3));
            }
            Format::OpenaiResponses => {
                for (index, said) in said.iter_mut().enumerate() {
                    if let Some(opaque) = &mut said.opaque {
                        opaque.id = Some(format!("rs_{UNIQUE}_{index}"));
                    }
                }
            }
            _ => {}
        }
        self.beside(&mut said);
        said
    }

    /// What stands beside texts.
    fn beside(self, said: &mut [Said]) {
        let is_text = |said: &&Said| said.block == Block::Text;
        let texts = said.iter().filter(is_text).count();
        let ends_with_text = said.last().as_ref().is_some_and(is_text);
        for said in said.iter_mut().filter(|said| said.block == Block::Text) {
            let letters = said.text.chars().count() as u64;
            // Google tells it of the whole answer.
            if self.format == Format::Gemini && (texts > 1 || !ends_with_text) {
                (said.citations, said.logprobs) = (vec![], vec![]);
            }
            for citation in &mut said.citations {
                if self.format == Format::AnthropicMessages {
                    // Anthropic tells what is cited, and of the whole block.
                    citation.cited = citation.cited.take().filter(|text| !text.is_empty());
                    citation.span = Some((0, letters));
                } else {
                    citation.cited = None;
                }
                if self.format != Format::AnthropicMessages && self.format != Format::Gemini {
                    citation.title.get_or_insert_default();
                }
            }
            if self.format == Format::AnthropicMessages {
                said.logprobs.clear();
            }
        }
    }

    fn block(self, mut said: Said) -> Option<Said> {
        let issuer = said.opaque.as_ref().map(|opaque| opaque.issuer);
        let passes_all = self.format == Format::OpenaiChat;
        said.opaque = said
            .opaque
            .filter(|_| passes_all || issuer == Some(self.issuer()));
        match &said.block {
            Block::Refusal if !self.is_openais() => return None,
            Block::ToolCall { kind, .. } if *kind == CallKind::Custom && !self.is_openais() => {
                return None;
            }
            Block::ToolCall { .. } if passes_all || self.format == Format::Gemini => {}
            Block::ToolCall { .. } => said.opaque = None,
            Block::Reasoning if said.text.is_empty() && said.opaque.is_none() => return None,
            Block::Media(_) if self.format == Format::AnthropicMessages => return None,
            _ => {}
        }
        Some(said)
    }
}

fn rank(block: &Block) -> usize {
    match block {
        Block::Reasoning => 0,
        Block::Text => 1,
        Block::Refusal => 2,
        Block::Media(_) => 3,
        Block::ToolCall { .. } => 4,
    }
}

fn is_stored(media: &Media) -> bool {
    matches!(media.source, MediaSource::FileId { .. })
}

fn is_closed(schema: &str) -> bool {
    schema.contains(r#""additionalProperties":false"#)
}

fn shape(request: &mut ChatRequest) -> Option<&mut OutputShape> {
    request.output.as_mut().map(|given| &mut given.value)
}

fn drop_choice(request: &mut ChatRequest, which: impl Fn(&ToolChoice) -> bool) {
    let choice = request.tool_choice.take();
    request.tool_choice = choice.filter(|given| !which(&given.value));
}

/// Texts alone are one text.
fn one_text(message: &mut Message) {
    let is_other = |part: &Part| {
        matches!(
            part,
            Part::Image(_) | Part::File(_) | Part::Audio(_) | Part::CachePoint(_)
        )
    };
    if message.parts.iter().any(|given| is_other(&given.value)) {
        return;
    }
    let mut texts = 0;
    message.parts.retain(|given| {
        let is_text = matches!(given.value, Part::Text(_));
        texts += usize::from(is_text);
        !is_text || texts < 2
    });
}
