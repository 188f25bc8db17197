//! Values of the hub as proptest makes them: requests that a client might have meant, requests that nobody would, and answers.

use polygate_core::Usage;
use polygate_wire::canon::{
    Block, CachePoint, CallKind, Citation, Effort, Given, Grammar, Issuer, Media, MediaSource,
    Message, Opaque, OutputShape, Part, Reasoning, Role, Said, Stop, Thinking, TokenLogprob, Tool,
    ToolCall, ToolChoice, ToolInput, ToolResult,
};
use polygate_wire::{ChatRequest, ChatResponse, Format};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::value::RawValue;

/// A request that a client might have meant: turns alternate, calls are answered, names and numbers are such as formats allow.
pub fn request() -> impl Strategy<Value = ChatRequest> {
    let asked = (tools(), vec(exchange(), 1..4), members(), limits(), shape());
    asked.prop_map(|(tools, exchanges, members, limits, shape)| {
        let mut request = ChatRequest {
            messages: conversation(&exchanges, &tools),
            tool_choice: choice(members.choice, &tools).map(given),
            tools,
            ..members.request
        };
        (request.max_tokens, request.thinking) = limits;
        request.output = shape.map(given);
        request
    })
}

/// Anything that the types allow.
pub fn nonsense() -> impl Strategy<Value = ChatRequest> {
    let messages = vec((role(), vec(odd_part(), 0..4)), 0..5);
    let tools = vec((odd_text(), of(odd_text()), odd_input()), 0..3);
    let choice = of(prop_oneof![
        odd_text().prop_map(ToolChoice::Named),
        (vec(odd_text(), 0..3), any::<bool>())
            .prop_map(|(names, required)| ToolChoice::Allowed { names, required }),
        Just(ToolChoice::Required),
        Just(ToolChoice::None),
    ]);
    let numbers = (of(any::<u64>()), of(-1e9..1e9), of(any::<i64>()));
    let extra = vec(odd_text(), 0..3);
    let rest = (request(), messages, tools, choice, numbers, extra);
    rest.prop_map(|(tame, messages, tools, choice, numbers, extra)| {
        let tool = |(name, description, input)| Tool {
            name,
            description,
            input,
            strict: Some(given(true)),
            cache: None,
            at: AT.to_owned(),
        };
        let message = |(role, parts): (Role, Vec<Part>)| message(role, parts);
        let (count, number, seed) = numbers;
        let member = |text: String| given(raw(&serde_json::json!({ text: 1 }).to_string()));
        ChatRequest {
            messages: messages.into_iter().map(message).collect(),
            tools: tools.into_iter().map(tool).collect(),
            tool_choice: choice.map(given),
            max_tokens: count.map(given),
            top_k: count.map(given),
            logprobs: count.map(given),
            temperature: number.map(given),
            frequency_penalty: number.map(given),
            seed: seed.map(given),
            stop: Some(given(extra.clone())),
            extra: extra.into_iter().map(member).collect(),
            ..tame
        }
    })
}

/// An answer.
pub fn answer() -> impl Strategy<Value = ChatResponse> {
    let said = vec(said(), 0..6);
    (said, stop(), of(usage())).prop_map(|(mut said, mut stop, usage)| {
        number_calls(&mut said);
        let is_call = |said: &Said| matches!(said.block, Block::ToolCall { .. });
        if stop == Stop::ToolUse && !said.iter().any(is_call) {
            stop = Stop::End;
        }
        ChatResponse {
            id: Some("answer".to_owned()),
            model: Some("model".to_owned()),
            said,
            stop,
            usage,
        }
    })
}

const AT: &str = "/somewhere";

/// A value that stood somewhere.
pub fn given<T>(value: T) -> Given<T> {
    Given::new(value, AT)
}

/// JSON as it is.
pub fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).expect("JSON")
}

fn message(role: Role, parts: Vec<Part>) -> Message {
    Message {
        role,
        parts: parts.into_iter().map(given).collect(),
        at: AT.to_owned(),
    }
}

/// Words with what is special in JSON and in events.
fn text() -> impl Strategy<Value = String> {
    let word = select(vec![
        "Rome",
        "é😀",
        "\"quoted\"",
        "a\\b",
        "data: x",
        "<b>",
        "{}",
        "null",
        "2",
        "日本語",
    ]);
    let between = select(vec![" ", "\n", "\n\n", "\t"]);
    (vec(word, 1..5), between).prop_map(|(words, between)| format!("Say {}", words.join(between)))
}

fn odd_text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just(" \n".to_owned()),
        Just("a".repeat(300)),
        ".{0,12}",
        text(),
    ]
}

// Requests

/// What stands beside conversation and tools.
#[derive(Clone, Debug)]
struct Members {
    request: ChatRequest,
    choice: Option<Choice>,
}

/// A choice of tools, before it is known which there are.
#[derive(Clone, Copy, Debug)]
enum Choice {
    Auto,
    None,
    Required,
    Named,
    Allowed(bool),
}

fn choice(wanted: Option<Choice>, tools: &[Tool]) -> Option<ToolChoice> {
    let first = tools.first()?.name.clone();
    Some(match wanted? {
        Choice::Auto => ToolChoice::Auto,
        Choice::None => ToolChoice::None,
        Choice::Required => ToolChoice::Required,
        Choice::Named => ToolChoice::Named(first),
        Choice::Allowed(required) => ToolChoice::Allowed {
            names: tools.iter().take(2).map(|tool| tool.name.clone()).collect(),
            required,
        },
    })
}

fn members() -> impl Strategy<Value = Members> {
    let choice = of(select(vec![
        Choice::Auto,
        Choice::None,
        Choice::Required,
        Choice::Named,
        Choice::Allowed(true),
        Choice::Allowed(false),
    ]));
    let sampling = (
        of(select(vec![0.0, 0.25, 1.0, 1.5, 2.0])),
        of(select(vec![0.5, 1.0])),
        of(1_u64..100),
        of(select(vec![-1.0, 0.0, 1.5])),
        of(select(vec![-1.0, 0.0, 1.5])),
    );
    let rest = (
        of(0_i64..1000),
        of(vec(text(), 1..4)),
        of(select(vec!["low", "medium", "high"])),
        of(0_u64..6),
        of(Just("user-1".to_owned())),
        of(any::<bool>()),
        of(any::<bool>()),
        any::<bool>(),
    );
    (choice, sampling, rest).prop_map(|(choice, sampling, rest)| {
        let (temperature, top_p, top_k, presence_penalty, frequency_penalty) = sampling;
        let (seed, stop, verbosity, logprobs, user, parallel, show_thinking, stream) = rest;
        let request = ChatRequest {
            source: Some(Format::OpenaiChat),
            model: "model".to_owned(),
            stream,
            include_usage: stream,
            temperature: temperature.map(given),
            top_p: top_p.map(given),
            top_k: top_k.map(given),
            presence_penalty: presence_penalty.map(given),
            frequency_penalty: frequency_penalty.map(given),
            seed: seed.map(given),
            stop: stop.map(given),
            verbosity: verbosity.map(|word| given(word.to_owned())),
            logprobs: logprobs.map(given),
            user: user.map(given),
            parallel_tool_calls: parallel.map(given),
            show_thinking: show_thinking.map(given),
            ..ChatRequest::default()
        };
        Members { request, choice }
    })
}

/// The limit, and how hard to think below it.
fn limits() -> impl Strategy<Value = (Option<Given<u64>>, Option<Given<Thinking>>)> {
    let effort = select(vec![
        Effort::Minimal,
        Effort::Low,
        Effort::Medium,
        Effort::High,
        Effort::XHigh,
        Effort::Max,
    ]);
    let thinking = prop_oneof![
        Just(Thinking::Off),
        Just(Thinking::Auto),
        effort.prop_map(Thinking::Effort),
        (1024_u64..8000).prop_map(Thinking::Budget),
    ];
    let limit = of(16_u64..60_000).prop_map(|limit| limit.map(given));
    (limit, of(thinking).prop_map(|wanted| wanted.map(given)))
}

/// Schemas, from those that all can promise to keep to, to what no one can.
const SCHEMAS: [&str; 4] = [
    r#"{"type":"object","properties":{"city":{"type":"string","description":"Where"}},"required":["city"],"additionalProperties":false}"#,
    r##"{"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}, "of": {"type": "array", "items": {"$ref": "#/$defs/x"}}}, "$defs": {"x": {"enum": ["a", "b"]}}}"##,
    r#"{"type":"object","properties":{}}"#,
    r#"{"type":"object","additionalProperties":{"type":"string"}}"#,
];

fn schema() -> impl Strategy<Value = Box<RawValue>> {
    select(SCHEMAS.to_vec()).prop_map(raw)
}

fn shape() -> impl Strategy<Value = Option<OutputShape>> {
    let schema = (
        of(Just("report".to_owned())),
        of(text()),
        schema(),
        of(any::<bool>()),
    );
    let schema = schema.prop_map(
        |(name, description, schema, strict)| OutputShape::JsonSchema {
            name,
            description: description.map(given),
            schema,
            strict,
        },
    );
    of(prop_oneof![Just(OutputShape::JsonObject), schema])
}

fn point() -> impl Strategy<Value = CachePoint> {
    of(select(vec!["5m", "1h"])).prop_map(|ttl| CachePoint {
        ttl: ttl.map(str::to_owned),
    })
}

fn tools() -> impl Strategy<Value = Vec<Tool>> {
    let grammar = text().prop_map(|definition| Grammar {
        syntax: "lark".to_owned(),
        definition,
    });
    let input = prop_oneof![
        4 => of(schema()).prop_map(ToolInput::Json),
        1 => of(grammar).prop_map(|grammar| ToolInput::Freeform(grammar.map(given))),
    ];
    let tool = (of(text()), input, of(any::<bool>()), of(point()));
    vec(tool, 0..3).prop_map(|tools| {
        let each = tools.into_iter().enumerate();
        each.map(|(index, (description, input, strict, cache))| {
            let is_freeform = matches!(input, ToolInput::Freeform(_));
            Tool {
                name: format!("tool_{index}"),
                description,
                input,
                strict: strict.filter(|_| !is_freeform).map(given),
                cache: cache.map(given),
                at: AT.to_owned(),
            }
        })
        .collect()
    })
}

/// A question, its answer, and what tools answered to that.
#[derive(Clone, Debug)]
struct Exchange {
    instructions: Option<(Role, Vec<Part>)>,
    asked: Vec<Part>,
    answered: Vec<Part>,
    calls: Vec<Exchanged>,
}

/// A call and its result.
#[derive(Clone, Debug)]
struct Exchanged {
    tool: usize,
    arguments: &'static str,
    opaque: Option<Opaque>,
    content: Vec<Part>,
    failed: bool,
}

fn exchange() -> impl Strategy<Value = Exchange> {
    let role = select(vec![Role::System, Role::Developer]);
    let instructions = of((role, marked(text().prop_map(Part::Text))));
    // Text is what everyone takes.
    let asked = (text(), vec(marked(shown()), 0..3));
    let asked = asked.prop_map(|(text, parts)| [vec![Part::Text(text)], parts.concat()].concat());
    let words = text().prop_map(Part::Text);
    let refusal = text().prop_map(Part::Refusal);
    let answered = (of(thought()), of(words), of(refusal));
    let answered = answered
        .prop_map(|(thought, text, refusal)| [thought, text, refusal].into_iter().flatten());
    let answered = answered.prop_map(Iterator::collect);
    let calls = vec(exchanged(), 0..3);
    (instructions, asked, answered, calls).prop_map(|(instructions, asked, answered, calls)| {
        Exchange {
            instructions,
            asked,
            answered,
            calls,
        }
    })
}

fn exchanged() -> impl Strategy<Value = Exchanged> {
    let arguments = select(vec![
        "{}",
        r#"{"city":"Zürich"}"#,
        r#"{"n": [1, 2.50], "of": {"a": null}}"#,
    ]);
    let opaque = of(Just(opaque(Issuer::Google, false)));
    let content = prop_oneof![
        3 => text().prop_map(|text| vec![Part::Text(text)]),
        1 => Just(vec![]),
        1 => vec(shown(), 1..3),
    ];
    let call = (0..4_usize, arguments, opaque, content, any::<bool>());
    call.prop_map(|(tool, arguments, opaque, content, failed)| Exchanged {
        tool,
        arguments,
        opaque,
        content,
        failed,
    })
}

/// A part, and perhaps a mark for the cache behind it.
fn marked(part: impl Strategy<Value = Part>) -> impl Strategy<Value = Vec<Part>> {
    (part, of(point())).prop_map(|(part, point)| {
        let point = point.map(Part::CachePoint);
        [part].into_iter().chain(point).collect()
    })
}

fn shown() -> impl Strategy<Value = Part> {
    prop_oneof![
        4 => text().prop_map(Part::Text),
        1 => media(PICTURES.to_vec()).prop_map(Part::Image),
        1 => media(DOCUMENTS.to_vec()).prop_map(Part::File),
        1 => media(SOUNDS.to_vec()).prop_map(Part::Audio),
    ]
}

type Sample = (&'static str, &'static str, &'static str);

/// Types, names and first bytes.
const PICTURES: [Sample; 2] = [
    ("image/png", "a.png", "iVBORw0KGgo="),
    ("image/jpeg", "a.jpg", "/9j/4AAQSkY="),
];
const DOCUMENTS: [Sample; 2] = [
    ("application/pdf", "a.pdf", "JVBERi0xLjQK"),
    ("text/csv", "a.csv", "YSxiCjEsMgo="),
];
const SOUNDS: [Sample; 2] = [
    ("audio/mpeg", "a.mp3", "SUQzBAAAAAAA"),
    ("audio/wav", "a.wav", "UklGRiQAAABXQVZFZm10IA=="),
];

fn media(samples: Vec<Sample>) -> impl Strategy<Value = Media> {
    let keeper = select(vec![Issuer::OpenAi, Issuer::Anthropic, Issuer::Google]);
    let detail = of(select(vec!["low", "high", "auto"]));
    let source = (0..4_u8, keeper);
    (select(samples), source, any::<bool>(), detail).prop_map(
        |((mime, name, data), (source, keeper), is_named, detail)| {
            let is_picture = mime.starts_with("image/");
            let source = match source {
                0 | 1 => MediaSource::Base64(data.to_owned()),
                2 => MediaSource::Url(format!("https://example.com/{name}")),
                _ => MediaSource::FileId {
                    id: "file-1".to_owned(),
                    keeper,
                },
            };
            Media {
                mime: matches!(source, MediaSource::Base64(_)).then(|| mime.to_owned()),
                source,
                name: (is_named && !is_picture).then(|| given(name.to_owned())),
                detail: detail
                    .filter(|_| is_picture)
                    .map(|word| given(word.to_owned())),
            }
        },
    )
}

/// State that somebody wants back.
pub fn opaque(issuer: Issuer, is_redacted: bool) -> Opaque {
    Opaque {
        issuer,
        data: "c2lnbmF0dXJl".to_owned(),
        id: (issuer == Issuer::OpenAi).then(|| "rs_1".to_owned()),
        is_redacted,
    }
}

fn thought() -> impl Strategy<Value = Part> {
    let sealed = select(vec![
        None,
        Some((Issuer::Anthropic, false)),
        Some((Issuer::Anthropic, true)),
        Some((Issuer::OpenAi, false)),
        Some((Issuer::Google, false)),
    ]);
    (text(), sealed).prop_map(|(text, sealed)| {
        let opaque = sealed.map(|(issuer, is_redacted)| opaque(issuer, is_redacted));
        let is_hidden = opaque.as_ref().is_some_and(|opaque| opaque.is_redacted);
        Part::Reasoning(Reasoning {
            text: if is_hidden { String::new() } else { text },
            opaque,
        })
    })
}

fn conversation(exchanges: &[Exchange], tools: &[Tool]) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut count = 0;
    for exchange in exchanges {
        let instructions = exchange.instructions.clone();
        messages.extend(instructions.map(|(role, parts)| message(role, parts)));
        messages.push(message(Role::User, exchange.asked.clone()));
        let (mut said, mut results) = (exchange.answered.clone(), Vec::new());
        for exchanged in &exchange.calls {
            let call = call(exchanged, count, tools);
            count += 1;
            results.push(Part::ToolResult(result(exchanged, &call)));
            said.push(Part::ToolCall(call));
        }
        messages.extend((!said.is_empty()).then(|| message(Role::Assistant, said)));
        messages.extend((!results.is_empty()).then(|| message(Role::User, results)));
    }
    // The user has the last word.
    messages.push(message(Role::User, vec![Part::Text("Go on".to_owned())]));
    messages
}

fn call(exchanged: &Exchanged, number: usize, tools: &[Tool]) -> ToolCall {
    let tool = tools.get(exchanged.tool);
    let is_freeform = tool.is_some_and(|tool| matches!(tool.input, ToolInput::Freeform(_)));
    ToolCall {
        id: format!("call_{number}"),
        name: tool.map_or("gone".to_owned(), |tool| tool.name.clone()),
        arguments: exchanged.arguments.to_owned(),
        kind: if is_freeform {
            CallKind::Custom
        } else {
            CallKind::Function
        },
        opaque: exchanged.opaque.clone().filter(|_| !is_freeform),
    }
}

fn result(exchanged: &Exchanged, call: &ToolCall) -> ToolResult {
    ToolResult {
        call_id: call.id.clone(),
        name: Some(call.name.clone()),
        content: exchanged.content.iter().cloned().map(given).collect(),
        error: exchanged.failed.then(|| given(true)),
        kind: call.kind,
    }
}

// Nonsense

fn role() -> impl Strategy<Value = Role> {
    select(vec![
        Role::System,
        Role::Developer,
        Role::User,
        Role::Assistant,
    ])
}

fn odd_input() -> impl Strategy<Value = ToolInput> {
    let json = select(vec![
        "{}",
        "null",
        "true",
        "[1]",
        r#"{"type":7}"#,
        SCHEMAS[1],
    ]);
    prop_oneof![
        json.prop_map(|json| ToolInput::Json(Some(raw(json)))),
        Just(ToolInput::Json(None)),
        Just(ToolInput::Freeform(None)),
    ]
}

fn odd_media() -> impl Strategy<Value = Media> {
    let source = prop_oneof![
        odd_text().prop_map(MediaSource::Base64),
        odd_text().prop_map(MediaSource::Text),
        odd_text().prop_map(MediaSource::Url),
        odd_text().prop_map(|id| MediaSource::FileId {
            id,
            keeper: Issuer::Google,
        }),
    ];
    let rest = (of(odd_text()), of(odd_text()), of(odd_text()));
    (source, rest).prop_map(|(source, (mime, name, detail))| Media {
        source,
        mime,
        name: name.map(given),
        detail: detail.map(given),
    })
}

fn odd_part() -> impl Strategy<Value = Part> {
    let call = (odd_text(), odd_text(), odd_text(), any::<bool>());
    let call = call.prop_map(|(id, name, arguments, is_custom)| ToolCall {
        id,
        name,
        arguments,
        kind: if is_custom {
            CallKind::Custom
        } else {
            CallKind::Function
        },
        opaque: Some(opaque(Issuer::OpenAi, true)),
    });
    let flat = prop_oneof![
        odd_text().prop_map(Part::Text),
        odd_text().prop_map(Part::Refusal),
        odd_media().prop_map(Part::Image),
        odd_media().prop_map(Part::File),
        odd_media().prop_map(Part::Audio),
        call.prop_map(Part::ToolCall),
        of(odd_text()).prop_map(|ttl| Part::CachePoint(CachePoint { ttl })),
        thought(),
    ];
    let result = (odd_text(), of(odd_text()), vec(flat.clone(), 0..3));
    let result = result.prop_map(|(call_id, name, content)| {
        Part::ToolResult(ToolResult {
            call_id,
            name,
            content: content.into_iter().map(given).collect(),
            error: Some(given(false)),
            kind: CallKind::Custom,
        })
    });
    prop_oneof![4 => flat, 1 => result]
}

// Answers

fn said() -> impl Strategy<Value = Said> {
    let words = (text(), vec(citation(), 0..2), vec(token(), 0..2));
    let words = words.prop_map(|(text, citations, logprobs)| Said {
        citations,
        logprobs,
        ..Said::new(Block::Text, text)
    });
    let thought = thought().prop_map(|part| {
        let Part::Reasoning(Reasoning { text, opaque }) = part else {
            unreachable!("thoughts are reasoning");
        };
        Said {
            opaque,
            ..Said::new(Block::Reasoning, text)
        }
    });
    let arguments = select(vec!["{}", r#"{"city":"Zürich"}"#, "{\"n\": [1,\n 2.50]}"]);
    let sealed = of(Just(opaque(Issuer::Google, false)));
    let call = (arguments, any::<bool>(), sealed);
    let call = call.prop_map(|(arguments, is_custom, opaque)| {
        let block = Block::ToolCall {
            id: String::new(),
            name: "tool".to_owned(),
            kind: if is_custom {
                CallKind::Custom
            } else {
                CallKind::Function
            },
        };
        Said {
            opaque: opaque.filter(|_| !is_custom),
            ..Said::new(block, arguments)
        }
    });
    let picture = select(PICTURES.to_vec()).prop_map(|(mime, _, data)| {
        let media = Media {
            source: MediaSource::Base64(data.to_owned()),
            mime: Some(mime.to_owned()),
            ..Media::default()
        };
        Said::new(Block::Media(media), "")
    });
    prop_oneof![
        4 => words,
        2 => thought,
        1 => text().prop_map(|text| Said::new(Block::Refusal, text)),
        3 => call,
        1 => picture,
    ]
}

fn number_calls(said: &mut [Said]) {
    for (number, said) in said.iter_mut().enumerate() {
        if let Block::ToolCall { id, .. } = &mut said.block {
            *id = format!("call_{number}");
        }
    }
}

fn citation() -> impl Strategy<Value = Citation> {
    let span = of(select(vec![(0, 2), (1, 3)]));
    (of(text()), of(text()), span).prop_map(|(title, cited, span)| Citation {
        url: "https://example.com/a".to_owned(),
        title,
        cited,
        span,
    })
}

fn token() -> impl Strategy<Value = TokenLogprob> {
    let other = TokenLogprob {
        token: "b".to_owned(),
        logprob: -2.5,
        bytes: Some(b"b".to_vec()),
        top: vec![],
    };
    (text(), vec(Just(other), 0..2)).prop_map(|(token, top)| TokenLogprob {
        bytes: Some(token.clone().into_bytes()),
        token,
        logprob: -0.5,
        top,
    })
}

fn stop() -> impl Strategy<Value = Stop> {
    select(vec![
        Stop::End,
        Stop::Length,
        Stop::ToolUse,
        Stop::StopSequence(None),
        Stop::StopSequence(Some("STOP".to_owned())),
        Stop::ContentFilter,
        Stop::Refusal,
        Stop::Pause,
    ])
}

fn usage() -> impl Strategy<Value = Usage> {
    let tiers = (0..50_u64, 0..50_u64, 0..50_u64, 0..50_u64);
    let more = (0..50_u64, 0..50_u64, 0..50_u64, 0..50_u64);
    (tiers, more).prop_map(
        |((input, read, write, hour), (output, reasoning, heard, said))| Usage {
            served: None,
            input: input + read + write + hour + heard,
            output: output + reasoning + said,
            cache_read: read,
            cache_write: write + hour,
            cache_write_1h: hour,
            reasoning,
            input_audio: heard,
            output_audio: said,
        },
    )
}
