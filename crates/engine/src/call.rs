//! One call as the engine sees it: what is asked, of which model, by whom.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{HeaderMap, Method};
use polygate_core::clock::duration;
use polygate_core::{Failure, Kind};
use polygate_providers::price::ServiceTier;
use polygate_providers::{Operation, Provider};
use polygate_wire::openai_completions::OpenaiCompletions;
use polygate_wire::{Format, Ingress, RawObject, ingress};
use serde_json::value::RawValue;

use crate::admit::Caller;
use crate::config::Deadlines;
use crate::further::{self, Further};
use crate::guard::Guarded;
use crate::kept::Continued;
use crate::nested;
use crate::pulse::Awaited;
use crate::snapshot::Snapshot;
use crate::transport::UpstreamBody;
use crate::unread::{self, Mentioned};

/// How many endpoints there are.
pub const ENDPOINTS: usize = 11;

/// The endpoints that reach a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completions,
    /// `/v1/embeddings`.
    Embeddings,
    /// `/v1/responses`.
    Responses,
    /// `/v1/responses/input_tokens`.
    ResponsesCount,
    /// `/v1/messages`.
    Messages,
    /// `/v1/messages/count_tokens`.
    CountTokens,
    /// `…/models/{model}:generateContent`, streaming or not.
    Generate {
        /// `streamGenerateContent`.
        stream: bool,
        /// `alt=sse`, without which Google streams a JSON array.
        sse: bool,
    },
    /// Another method of a Gemini model.
    GeminiMethod(String),
    /// `/v1/{model}/{*tail}`.
    Proxy(Tail),
}

/// What a proxied call asks of the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Path below the upstream's base.
    pub path: String,
    /// Query as it came.
    pub query: Option<String>,
}

impl Endpoint {
    /// What metrics and logs call the endpoints.
    pub const LABELS: [&'static str; ENDPOINTS] = [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/responses/input_tokens",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1beta/models:generateContent",
        "/v1beta/models:countTokens",
        "/v1beta/models:method",
        "/v1/{model}/{tail}",
    ];

    /// What metrics and logs call it.
    pub fn label(&self) -> &'static str {
        let [
            chat,
            completions,
            embeddings,
            responses,
            responses_count,
            messages,
            count,
            generate,
            gemini_count,
            method,
            proxy,
        ] = Self::LABELS;
        match self {
            Endpoint::Chat => chat,
            Endpoint::Completions => completions,
            Endpoint::Embeddings => embeddings,
            Endpoint::Responses => responses,
            Endpoint::ResponsesCount => responses_count,
            Endpoint::Messages => messages,
            Endpoint::CountTokens => count,
            Endpoint::Generate { .. } => generate,
            Endpoint::GeminiMethod(_) if self.counts() => gemini_count,
            Endpoint::GeminiMethod(_) => method,
            Endpoint::Proxy(_) => proxy,
        }
    }

    /// The format that its callers speak: of requests, answers and errors.
    pub fn format(&self) -> Format {
        match self {
            Endpoint::Chat | Endpoint::Completions | Endpoint::Embeddings | Endpoint::Proxy(_) => {
                Format::OpenaiChat
            }
            Endpoint::Responses | Endpoint::ResponsesCount => Format::OpenaiResponses,
            Endpoint::Messages | Endpoint::CountTokens => Format::AnthropicMessages,
            Endpoint::Generate { .. } | Endpoint::GeminiMethod(_) => Format::Gemini,
        }
    }

    /// Whether anybody can tell how many tokens its calls are: what else Google has is paid by other measures.
    pub fn is_counted(&self) -> bool {
        match self {
            Endpoint::GeminiMethod(method) => {
                ["countTokens", "embedContent", "batchEmbedContents"].contains(&&**method)
            }
            Endpoint::Proxy(_) => false,
            _ => true,
        }
    }

    /// The client's half of the translation, for those that are turns of a chat; everything else goes to upstreams of its own
    /// format only.
    pub fn ingress(&self) -> Option<&'static dyn Ingress> {
        match self {
            Endpoint::Chat
            | Endpoint::Responses
            | Endpoint::Messages
            | Endpoint::Generate { .. } => ingress(self.format()),
            Endpoint::Completions => Some(&OpenaiCompletions),
            _ => None,
        }
    }

    /// Whether its streams are elements of one JSON array.
    pub fn is_array(&self) -> bool {
        let Endpoint::Generate { stream, sse } = self else {
            return false;
        };
        *stream && !sse
    }

    /// Whether its callers send a conversation, to which turns may be added.
    pub fn is_of_messages(&self) -> bool {
        *self != Endpoint::Completions && self.ingress().is_some()
    }

    /// Whether a provider that speaks the format has this of it: chat alone is what many have.
    pub fn is_native_at(&self, provider: &dyn Provider) -> bool {
        *self != Endpoint::Completions || provider.has_completions()
    }

    /// The call counts tokens and asks for no answer.
    pub fn counts(&self) -> bool {
        match self {
            Endpoint::ResponsesCount | Endpoint::CountTokens => true,
            Endpoint::GeminiMethod(method) => method == "countTokens",
            _ => false,
        }
    }

    /// Whether it counts tokens and the provider has no word for that question, so that the gateway answers it.
    pub fn is_estimated_at(&self, provider: &dyn Provider) -> bool {
        let is_native = provider.formats().contains(&self.format());
        self.counts() && !is_native && provider.counts().is_none()
    }

    /// What is asked of an upstream of the same format.
    pub fn native_operation<'a>(&'a self, stream: bool, method: &'a Method) -> Operation<'a> {
        match self {
            // As the client asked, so the upstream is asked: a JSON array passes as one.
            Endpoint::Generate {
                stream: true,
                sse: false,
            } => Operation::GeminiMethod {
                method: "streamGenerateContent",
            },
            Endpoint::Chat
            | Endpoint::Responses
            | Endpoint::Messages
            | Endpoint::Generate { .. } => Operation::Chat {
                format: self.format(),
                stream,
            },
            Endpoint::Completions => Operation::Completions,
            Endpoint::Embeddings => Operation::Embeddings,
            Endpoint::ResponsesCount | Endpoint::CountTokens => Operation::Count {
                format: self.format(),
            },
            Endpoint::GeminiMethod(method) => Operation::GeminiMethod { method },
            Endpoint::Proxy(tail) => Operation::Proxy {
                method,
                tail: &tail.path,
                query: tail.query.as_deref(),
            },
        }
    }
}

/// A request as it came in.
#[derive(Debug)]
pub struct Inbound {
    /// What is asked.
    pub endpoint: Endpoint,
    /// HTTP method.
    pub method: Method,
    /// The model, where the path names it.
    pub model_in_path: Option<String>,
    /// Headers of the client.
    pub headers: HeaderMap,
    /// The body.
    pub body: InboundBody,
    /// `x-request-id`.
    pub request_id: Arc<str>,
    /// Who calls.
    pub caller: Caller,
}

/// A request's body.
#[derive(Debug)]
pub enum InboundBody {
    /// All of it: may be sent more than once.
    Whole(Bytes),
    /// Passes through once: a long upload of the generic proxy, and why it is refused on its way, once it is.
    Passing(UpstreamBody, Arc<OnceLock<Failure>>),
}

/// A call that is understood: its model is known and its body is a JSON object, where it must be one.
#[derive(Debug)]
pub struct Call {
    /// As it came in, without the body.
    pub inbound: Inbound,
    /// The body as an object; `None` for the generic proxy.
    pub object: Option<RawObject>,
    /// The model as the client means it: `PROVIDER_SUFFIX` stripped.
    pub model: String,
    /// The client wants a stream.
    pub stream: bool,
    /// What translation would lose is refused: the client or its key says so.
    pub strict: bool,
    /// Times of its own: those that its headers ask for, then those of its model.
    pub deadlines: Deadlines,
    /// What this call goes on from, where the gateway kept it: the body has the conversation in it.
    pub continued: Option<Continued>,
    /// Models that may be tried after this one, as the request says.
    pub further: Vec<Further>,
    /// Models that it names where nobody reads them, as far as a guard asks for models.
    pub mentioned: Mentioned,
    /// Where its stream breaks, another may go on with the answer.
    pub continues: bool,
    /// What the client has of the answer: what is asked for is the rest.
    pub said: Option<String>,
    /// Tokens that the operator's own words add to its prompt, at most.
    pub added_input: u64,
    /// Tokens that the operator's rules may let its answer have, whatever the request says.
    pub most_output: u64,
    /// Nobody gets its answer: nothing of it is kept.
    pub is_shadow: bool,
    /// Guards look at its answer, or have looked at what it asks.
    pub guarded: Option<Arc<Guarded>>,
}

/// Members that decide who may do what: never twice, never in another spelling.
const DECISIVE: [&str; 4] = ["model", "stream", "models", "fallbacks"];

impl Call {
    /// Understands a request. The body is handed back: the proxy's may be sent only once.
    pub fn read(snapshot: &Snapshot, mut inbound: Inbound) -> Result<(Self, InboundBody), Failure> {
        let body = std::mem::replace(&mut inbound.body, InboundBody::Whole(Bytes::new()));
        let body = match (&inbound.endpoint, body) {
            (Endpoint::Proxy(_), InboundBody::Whole(bytes)) => {
                InboundBody::Whole(unread::plain(bytes)?)
            }
            (_, body) => body,
        };
        let object = match (&inbound.endpoint, &body) {
            (Endpoint::Proxy(_), _) | (_, InboundBody::Passing(..)) => None,
            (_, InboundBody::Whole(body)) => Some(RawObject::parse(body.clone())?),
        };
        let named = match (&inbound.model_in_path, &object) {
            (Some(model), _) => Cow::Borrowed(model.as_str()),
            (None, Some(object)) => model_member(object)?,
            (None, None) => return Err(missing_model()),
        };
        let model = snapshot.strip(&named).to_owned();
        let stream = match (&inbound.endpoint, &object) {
            (Endpoint::Generate { stream, .. }, _) => *stream,
            (endpoint, _) if endpoint.counts() => false,
            (_, Some(object)) => object.boolean("stream")?.unwrap_or(false),
            (_, None) => false,
        };
        if let Some(object) = &object {
            object.refuse_duplicates(&DECISIVE)?;
            if inbound.endpoint.format() == Format::Gemini {
                nested::check(object)?;
            }
        }
        let further = match &object {
            Some(object) => further::read(snapshot, object, &inbound.caller)?,
            None => Vec::new(),
        };
        let mentioned = match (&inbound.endpoint, &object) {
            _ if !snapshot.guards.ask_for_models() => Mentioned::default(),
            (Endpoint::Proxy(tail), _) => Mentioned::by(tail, &inbound.headers, &body),
            (_, Some(object)) => further::mentioned(object),
            (_, None) => Mentioned::default(),
        };
        let strict = is_strict(&inbound);
        let deadlines = deadlines(&inbound.headers)?;
        Ok((
            Self {
                inbound,
                object,
                model,
                stream,
                strict,
                deadlines,
                continued: None,
                further,
                mentioned: mentioned.stripped(snapshot),
                continues: false,
                said: None,
                added_input: 0,
                most_output: 0,
                is_shadow: false,
                guarded: None,
            },
            body,
        ))
    }

    /// The same call once more: where something of it is to be another.
    pub(crate) fn again(&self) -> Self {
        let inbound = &self.inbound;
        Self {
            inbound: Inbound {
                endpoint: inbound.endpoint.clone(),
                method: inbound.method.clone(),
                model_in_path: inbound.model_in_path.clone(),
                headers: inbound.headers.clone(),
                body: InboundBody::Whole(Bytes::new()),
                request_id: inbound.request_id.clone(),
                caller: inbound.caller.clone(),
            },
            object: self.object.clone(),
            model: self.model.clone(),
            stream: self.stream,
            strict: self.strict,
            deadlines: self.deadlines,
            continued: self.continued.clone(),
            further: self.further.clone(),
            mentioned: self.mentioned.clone(),
            continues: self.continues,
            said: self.said.clone(),
            added_input: self.added_input,
            most_output: self.most_output,
            is_shadow: self.is_shadow,
            guarded: self.guarded.clone(),
        }
    }

    /// All models that the request names, its own first: any of them may answer.
    pub fn named(&self) -> impl Iterator<Item = &str> {
        let further = self.further.iter().flat_map(Further::names);
        let mentioned = self.mentioned.names.iter().map(String::as_str);
        let own = std::iter::once(&*self.model);
        own.chain(further).chain(mentioned)
    }

    /// The body as its client means it: with what guards take out of it.
    pub fn meant(&self) -> Option<&RawObject> {
        let guarded = self.guarded.as_ref();
        let unguarded = guarded.and_then(|guarded| guarded.unguarded.as_ref());
        unguarded.or(self.object.as_ref())
    }

    /// How providers are asked to serve it, where that has a price of its own.
    pub fn tier(&self) -> ServiceTier {
        let said = self
            .object
            .as_ref()
            .and_then(|object| object.get("service_tier"));
        let word = said.map(|text| text.trim().trim_matches('"'));
        word.and_then(ServiceTier::named).unwrap_or_default()
    }

    /// What it waits for before anything of its answer is sent; `None` where nothing is read of it, or no model answers.
    pub fn awaited(&self) -> Option<Awaited> {
        match (&self.object, self.stream) {
            (None, _) => None,
            (Some(_), _) if self.inbound.endpoint.counts() => None,
            (Some(_), true) => Some(Awaited::FirstEvent),
            (Some(_), false) => Some(Awaited::Answer),
        }
    }

    /// What the answer repeats of the request, and the answer that it goes on from.
    pub fn echo(&self, mut echo: Vec<(String, Box<RawValue>)>) -> Vec<(String, Box<RawValue>)> {
        if let Some(continued) = &self.continued
            && let Ok(id) = serde_json::value::to_raw_value(&continued.id)
        {
            echo.push(("previous_response_id".to_owned(), id));
        }
        echo
    }
}

/// Headers for the time of all of the call, and for the beginning of a stream: seconds, or with a unit. The first one present decides.
const TOTAL: [&str; 2] = ["x-polygate-timeout", "x-litellm-timeout"];
const FIRST_EVENT: [&str; 2] = ["x-polygate-first-event-timeout", "x-litellm-stream-timeout"];

fn deadlines(headers: &HeaderMap) -> Result<Deadlines, Failure> {
    let time = |names: [&str; 2]| {
        let mut present = names
            .iter()
            .filter_map(|name| Some((name, headers.get(*name)?)));
        let Some((name, value)) = present.next() else {
            return Ok(None);
        };
        let text = value.to_str().unwrap_or_default();
        let time = duration(text.trim()).filter(|time| !time.is_zero());
        let message =
            || format!("'{name}' must be a number of seconds, or a time such as 500ms or 30s");
        time.map(Some)
            .ok_or_else(|| Failure::new(Kind::InvalidRequest, message()))
    };
    Ok(Deadlines {
        total: time(TOTAL)?,
        first_event: time(FIRST_EVENT)?,
        ..Deadlines::default()
    })
}

fn is_strict(inbound: &Inbound) -> bool {
    let key = inbound.caller.key.as_ref();
    let header = inbound.headers.get("x-polygate-strict");
    key.is_some_and(|key| key.strict)
        || header.is_some_and(|value| matches!(value.as_bytes(), b"true" | b"1"))
}

fn model_member(object: &RawObject) -> Result<Cow<'_, str>, Failure> {
    let Some(model) = object.string("model")? else {
        return further::first(object).ok_or_else(missing_model);
    };
    if model.is_empty() {
        return Err(Failure::new(Kind::InvalidRequest, "'model' is empty").param("model"));
    }
    Ok(model)
}

fn missing_model() -> Failure {
    Failure::new(
        Kind::InvalidRequest,
        "the request names no model: 'model' is missing",
    )
    .param("model")
}
