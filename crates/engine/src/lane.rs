//! The two lanes. Native: the client's bytes pass, only what we own is edited. Translated: through the hub, losses named.
//!
//! What we own on the native lane, all of it: `model` (Google's nested requests name it once more), and
//! `stream_options.include_usage` of a chat stream (whose extra frame is taken out again), and thoughts in a Responses call that
//! the gateway itself made an item of when another model answered. Nothing else is touched in either direction, but by the operator's
//! own rules ([`crate::shape`]), which come last in both lanes.

mod continuation;
mod losses;
mod output;
mod stream;
mod text;
mod translation;

use bytes::Bytes;
use polygate_core::{Failure, Kind, Usage};
use polygate_providers::{Operation, Provider};
use polygate_wire::canon::Losses;
use polygate_wire::raw::{Edit, quote};
use polygate_wire::{
    Bridge, ChatRequest, Egress, Format, Frame, Ingress, Loss, RawObject, ReplyHead, Target,
    counting, dialect, egress, ingress, openai_responses,
};

pub use losses::dropped;
pub use output::Output;
pub use stream::{Meter, StreamLane};

use crate::call::{Call, Endpoint};
use crate::kept::Kept;
use crate::nested;

/// A lane, chosen for one attempt.
pub enum Lane {
    /// Client and upstream speak the same format.
    Native(Native),
    /// They do not.
    Translated(Box<Translated>),
    /// They do not, and all that is asked is how many tokens a request is.
    Counting(Counting),
}

/// Same format in and out.
pub struct Native {
    /// The format.
    pub format: Format,
    /// We asked for a usage frame that the client did not want.
    pub drop_usage_frame: bool,
    /// A turn of a chat; not a count, an embedding or whatever else the format has.
    pub is_chat: bool,
}

/// Through the hub.
pub struct Translated {
    /// The client's half.
    pub ingress: &'static dyn Ingress,
    /// The upstream's half.
    pub egress: &'static dyn Egress,
    /// The upstream's format.
    pub upstream: Format,
    /// How the request was bent for it.
    pub bridge: Bridge,
    /// What the answer says of itself.
    pub head: ReplyHead,
    /// How much of the client's answer this is.
    pub share: Share,
}

/// How much of a client's answer an upstream's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// All of it.
    Whole,
    /// All of it, or its beginning: another may go on with it.
    First,
    /// What another began.
    Further,
}

/// A count through the hub.
pub struct Counting {
    /// The client's format.
    pub client: Format,
    /// The upstream's format.
    pub upstream: Format,
}

/// A body made for one upstream.
pub struct Prepared {
    /// The lane.
    pub lane: Lane,
    /// The body.
    pub body: Bytes,
    /// Members that are sent in other words than the client's; of a translated request all are.
    pub altered: Vec<&'static str>,
    /// What translation could not carry.
    pub losses: Vec<Loss>,
}

/// Members that we own on the native lane.
const OWNED: [&str; 6] = [
    "model",
    "stream_options",
    "input",
    "requests",
    "generateContentRequest",
    "generate_content_request",
];

impl Lane {
    /// The format of the upstream's answer.
    pub fn upstream_format(&self) -> Format {
        match self {
            Lane::Native(native) => native.format,
            Lane::Translated(translated) => translated.upstream,
            Lane::Counting(counting) => counting.upstream,
        }
    }

    /// What to ask of the upstream.
    pub fn operation<'a>(&self, call: &'a Call) -> Operation<'a> {
        match self {
            Lane::Native(_) => call
                .inbound
                .endpoint
                .native_operation(call.stream, &call.inbound.method),
            Lane::Translated(translated) => Operation::Chat {
                format: translated.upstream,
                stream: call.stream,
            },
            Lane::Counting(counting) => Operation::Count {
                format: counting.upstream,
            },
        }
    }
}

/// What a body is made from and for.
pub struct Making<'a> {
    /// The call.
    pub call: &'a Call,
    /// Its body.
    pub object: &'a RawObject,
    /// Whom it is for.
    pub provider: &'a dyn Provider,
    /// The model's name there.
    pub model: &'a str,
    /// Seconds since 1970.
    pub created: u64,
    /// What translation would lose is refused.
    pub strict: bool,
    /// Where answers are kept for later calls.
    pub kept: &'a Kept,
}

/// Picks the lane and makes the body: native where the upstream speaks the client's format, else translated.
pub fn prepare(making: &Making<'_>) -> Result<Prepared, Failure> {
    let prepared = made(making);
    let Some(continued) = &making.call.continued else {
        return prepared;
    };
    let mut prepared = prepared.map_err(|failure| continued.failure(failure))?;
    let mut losses = Losses::default();
    for Loss(pointer) in &prepared.losses {
        losses.at(continued.pointer(pointer));
    }
    prepared.losses = losses.into_vec();
    Ok(prepared)
}

fn made(making: &Making<'_>) -> Result<Prepared, Failure> {
    let Making {
        call,
        object,
        provider,
        model,
        ..
    } = *making;
    let format = call.inbound.endpoint.format();
    if provider.formats().contains(&format) && call.inbound.endpoint.is_native_at(provider) {
        if let Some(prepared) = making.continuable(format) {
            return prepared;
        }
        let prepared = native(call, object, provider, model, format)?;
        return making.unless_too_lossy(prepared);
    }
    if call.inbound.endpoint.counts() {
        return making.counting(format);
    }
    let upstream = provider.formats().first().copied();
    match call.inbound.endpoint.ingress().zip(upstream) {
        Some((ingress, upstream)) => making.translated(ingress, upstream),
        None => Err(unspoken(call, format)),
    }
}

fn unspoken(call: &Call, format: Format) -> Failure {
    let message = format!(
        "the provider of model '{}' does not speak {}, and {} cannot be translated for it",
        call.model,
        format.name(),
        call.inbound.endpoint.label()
    );
    Failure::new(Kind::Untranslatable, message)
}

fn native(
    call: &Call,
    object: &RawObject,
    provider: &dyn Provider,
    model: &str,
    format: Format,
) -> Result<Prepared, Failure> {
    let mut edits = Vec::with_capacity(2);
    let (quoted, nested);
    if format == Format::Gemini {
        nested = nested::renamed(object, model)?;
        edits.extend(nested.iter().map(|(name, text)| Edit::Set(name, text)));
        quoted = quote(&format!("models/{model}"));
        if object.get("model").is_some_and(|named| named != quoted) {
            edits.push(Edit::Set("model", &quoted));
        }
    } else if object.string("model").ok().flatten().as_deref() != Some(model) {
        quoted = quote(model);
        edits.push(Edit::Set("model", &quoted));
    }
    let asked = usage_option(call, object, provider)?;
    if let Some(options) = &asked {
        edits.push(Edit::Set("stream_options", options));
    }
    let (input, losses) = readable_input(object, format);
    if let Some(input) = &input {
        edits.push(Edit::Set("input", input));
    }
    let lane = Lane::Native(Native {
        format,
        drop_usage_frame: asked.is_some(),
        is_chat: call.inbound.endpoint.ingress().is_some(),
    });
    let is_edited = |name: &&str| edits.iter().any(|edit| edit.name() == *name);
    Ok(Prepared {
        lane,
        body: object.edit(&edits),
        altered: OWNED.into_iter().filter(is_edited).collect(),
        losses,
    })
}

/// The input of a Responses call without the thoughts that other models had on the way here: OpenAI looks them up by their ids and
/// refuses what it does not find.
fn readable_input(object: &RawObject, format: Format) -> (Option<String>, Vec<Loss>) {
    let input = object
        .get("input")
        .filter(|_| format == Format::OpenaiResponses);
    match input.and_then(openai_responses::without_strange_thoughts) {
        Some((input, losses)) => (Some(input), losses),
        None => (None, Vec::new()),
    }
}

/// `stream_options` with `include_usage`, where a chat stream is wanted without it and the provider knows the option.
fn usage_option(
    call: &Call,
    object: &RawObject,
    provider: &dyn Provider,
) -> Result<Option<String>, Failure> {
    let is_chat = matches!(
        call.inbound.endpoint,
        Endpoint::Chat | Endpoint::Completions
    );
    if !call.stream || !is_chat || !provider.takes_stream_options() {
        return Ok(None);
    }
    let Some(options) = object.get("stream_options").filter(|text| *text != "null") else {
        return Ok(Some("{\"include_usage\":true}".to_owned()));
    };
    let options = RawObject::parse(Bytes::copy_from_slice(options.as_bytes())).map_err(|_| {
        Failure::new(Kind::InvalidRequest, "'stream_options' must be an object")
            .param("stream_options")
    })?;
    if options.get("include_usage") == Some("true") {
        return Ok(None);
    }
    let edited = options.edit(&[Edit::Set("include_usage", "true")]);
    Ok(Some(String::from_utf8_lossy(&edited).into_owned()))
}

impl Making<'_> {
    /// The client's request in the upstream's format.
    fn written(&self, request: &mut ChatRequest, upstream: Format) -> Result<Written, Failure> {
        let (bridge, mut losses) = Bridge::build(request, upstream, self.model);
        let (body, lost) = egress(upstream).encode_request(request, &self.target())?;
        losses.extend(lost);
        self.check_losses(&losses)?;
        Ok(Written {
            body,
            bridge,
            losses,
        })
    }

    fn unless_too_lossy(&self, prepared: Prepared) -> Result<Prepared, Failure> {
        self.check_losses(&prepared.losses)?;
        Ok(prepared)
    }

    fn check_losses(&self, losses: &[Loss]) -> Result<(), Failure> {
        if self.strict && !losses.is_empty() {
            return Err(too_lossy(self.model, losses));
        }
        Ok(())
    }

    /// The upstream is asked in its own words; what its count leaves out is named.
    fn counting(&self, client: Format) -> Result<Prepared, Failure> {
        let upstream = self.provider.counts().ok_or_else(nobody_counts)?;
        let asked = counting::asked(self.object)?;
        let ingress = ingress(client).ok_or_else(nobody_counts)?;
        let mut request = ingress.decode_request(&asked)?;
        let Written { body, losses, .. } = self.written(&mut request, upstream)?;
        let chat = RawObject::parse(body)?;
        let body = counting::question(upstream, &chat, self.model).ok_or_else(nobody_counts)?;
        Ok(Prepared {
            lane: Lane::Counting(Counting { client, upstream }),
            body,
            altered: Vec::new(),
            losses,
        })
    }

    /// The translated lane in place of the native one, where the answer may have to be gone on with, or is: none other can do that.
    /// A call that would lose anything on it stays what it is.
    fn continuable(&self, format: Format) -> Option<Result<Prepared, Failure>> {
        let call = self.call;
        let ingress = call.inbound.endpoint.ingress()?;
        if call.said.is_some() {
            return Some(self.translated(ingress, format));
        }
        if !call.continues {
            return None;
        }
        let prepared = self.translated(ingress, format).ok()?;
        let is_first =
            matches!(&prepared.lane, Lane::Translated(lane) if lane.share == Share::First);
        (is_first && prepared.losses.is_empty()).then_some(Ok(prepared))
    }

    /// Makes the request that for the rest of the answer, where one has begun.
    fn share(&self, request: &mut ChatRequest, upstream: Format) -> Share {
        let Some(said) = &self.call.said else {
            let may = self.call.continues && request.may_be_continued();
            return if may { Share::First } else { Share::Whole };
        };
        let target = self.target();
        // Reading the tokenizer for a better estimate would hold up others' calls.
        request.continue_from(said, said.len() as u64 / 4, upstream, &target);
        Share::Further
    }

    fn target(&self) -> Target<'_> {
        Target {
            model: self.model,
            quirks: self.provider.quirks(),
        }
    }

    fn translated(
        &self,
        ingress: &'static dyn Ingress,
        upstream: Format,
    ) -> Result<Prepared, Failure> {
        let call = self.call;
        let mut request = ingress.decode_request(self.object)?;
        request.stream = call.stream;
        let share = self.share(&mut request, upstream);
        let Written {
            body,
            bridge,
            losses,
        } = self.written(&mut request, upstream)?;
        let keep = self.kept.keeper(call);
        let head = ReplyHead {
            request_id: call.inbound.request_id.to_string(),
            model: call.model.clone(),
            created: self.created,
            include_usage: request.include_usage,
            is_array: matches!(call.inbound.endpoint, Endpoint::Generate { sse: false, .. }),
            echo: call.echo(request.echo),
            namespaces: request.namespaces,
            search: request.search,
            unique: format!("{:032x}", rand::random::<u128>()),
            keep,
        };
        Ok(Prepared {
            lane: Lane::Translated(Box::new(Translated {
                ingress,
                egress: egress(upstream),
                upstream,
                bridge,
                head,
                share,
            })),
            body,
            altered: Vec::new(),
            losses,
        })
    }
}

/// A request as an upstream gets it.
struct Written {
    body: Bytes,
    bridge: Bridge,
    losses: Vec<Loss>,
}

fn nobody_counts() -> Failure {
    Failure::new(Kind::Untranslatable, "the provider does not count tokens")
}

fn too_lossy(model: &str, losses: &[Loss]) -> Failure {
    let names = dropped(losses).unwrap_or_default();
    let message =
        format!("strict: '{model}' cannot be sent all of the request; it would lose {names}");
    let mut failure = Failure::new(Kind::Untranslatable, message);
    failure.param = losses.first().map(|loss| loss.0.clone());
    failure
}

/// A whole answer in the client's format, with the usage it reports.
pub fn whole_answer(lane: &Lane, body: Bytes) -> Result<(Bytes, Option<Usage>), Failure> {
    match lane {
        Lane::Native(native) => {
            let dialect = dialect(native.format);
            let usage = if native.is_chat {
                dialect.check_chat(&body)?
            } else {
                dialect.check_answer(&body)?
            };
            Ok((body, usage))
        }
        Lane::Translated(translated) => {
            dialect(translated.upstream).check_chat(&body)?;
            let response = translated.egress.decode_response(&body)?;
            let response = translated.bridge.put_right(response);
            let body = translated
                .ingress
                .encode_response(&response, &translated.head);
            Ok((body, response.usage))
        }
        Lane::Counting(counting) => {
            let tokens = counting::count(&body)?;
            Ok((counting::answer(counting.client, tokens), None))
        }
    }
}

/// Whether a whole answer is nothing but that the provider did not let the prompt through.
pub fn is_blocked(lane: &Lane, body: &[u8]) -> bool {
    let frame = Frame {
        event: None,
        data: body.into(),
    };
    dialect(lane.upstream_format()).sniff(&frame).is_blocked
}
