//! Every route that reaches a model, on one page. Fixed routes first, the generic proxy last.

use std::borrow::Cow;

use http::Method;
use polygate_core::{Failure, Kind};
use polygate_engine::call::Tail;
use polygate_engine::{Endpoint, snapshot::Snapshot};
use polygate_wire::Format;

/// Where a request goes.
#[derive(Debug, PartialEq)]
pub enum Matched {
    /// To a model.
    Model {
        /// The endpoint.
        endpoint: Endpoint,
        /// The model, where the path names it.
        model: Option<String>,
    },
    /// The list of models, or one of them, in the format of the path.
    Models {
        /// The path is one of Google's.
        gemini: bool,
        /// One model only.
        id: Option<String>,
    },
    /// An answer of `/v1/responses` that was given before.
    Given {
        /// Its id.
        id: String,
        /// What of it.
        what: Given,
    },
    /// A model endpoint asked with the wrong method.
    WrongMethod(Format),
    /// Health, metrics, admin: the web framework's.
    Page,
}

/// What is asked of an answer that was given before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// To see it.
    Read,
    /// To forget it.
    Delete,
    /// To end its making.
    Cancel,
}

/// Fixed model endpoints below `/v1` and, as some clients have it, without it.
const FIXED: [(&str, Endpoint); 7] = [
    ("chat/completions", Endpoint::Chat),
    ("completions", Endpoint::Completions),
    ("embeddings", Endpoint::Embeddings),
    ("responses", Endpoint::Responses),
    ("responses/input_tokens", Endpoint::ResponsesCount),
    ("messages", Endpoint::Messages),
    ("messages/count_tokens", Endpoint::CountTokens),
];

/// First path segments that are pages, not models.
const PAGES: [&str; 6] = ["", "health", "metrics", "admin", "ui", "favicon.ico"];

/// Finds the route of a request.
pub fn route(
    method: &Method,
    path: &str,
    query: Option<&str>,
    snapshot: &Snapshot,
) -> Result<Matched, Failure> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let first = path.split('/').next().unwrap_or_default();
    if PAGES.contains(&first) {
        return Ok(Matched::Page);
    }
    let (version, rest) = match path.split_once('/') {
        Some(("v1", rest)) => ("v1", rest),
        Some(("v1beta", rest)) => ("v1beta", rest),
        _ => ("", path),
    };
    let fixed = FIXED.iter().find(|(fixed, _)| *fixed == rest);
    if let Some((_, endpoint)) = fixed.filter(|_| version != "v1beta") {
        return Ok(only_post(method, endpoint.clone(), None));
    }
    if rest == "models" || rest.starts_with("models/") {
        return models(method, rest, query, version == "v1beta");
    }
    if let Some(tail) = rest.strip_prefix("responses/") {
        return given(method, tail);
    }
    match version {
        "v1" => proxy(rest, query, snapshot),
        _ => Err(unknown_route(path)),
    }
}

/// `responses/{id}`, `responses/{id}/cancel`.
fn given(method: &Method, tail: &str) -> Result<Matched, Failure> {
    let (id, rest) = tail.split_once('/').unwrap_or((tail, ""));
    let what = match (rest, method) {
        ("", &Method::GET | &Method::HEAD) => Given::Read,
        ("", &Method::DELETE) => Given::Delete,
        ("cancel", &Method::POST) => Given::Cancel,
        ("", _) if id.starts_with("resp_") => {
            return Ok(Matched::WrongMethod(Format::OpenaiResponses));
        }
        _ => return Err(unknown_route(&format!("v1/responses/{tail}"))),
    };
    let id = decode(id)?;
    Ok(Matched::Given { id, what })
}

fn only_post(method: &Method, endpoint: Endpoint, model: Option<String>) -> Matched {
    if method == Method::POST {
        Matched::Model { endpoint, model }
    } else {
        Matched::WrongMethod(endpoint.format())
    }
}

/// `models`, `models/{id}`, `models/{model}:{method}`, `models/{model}/chat/completions`.
fn models(
    method: &Method,
    rest: &str,
    query: Option<&str>,
    gemini: bool,
) -> Result<Matched, Failure> {
    let Some(tail) = rest.strip_prefix("models/").filter(|tail| !tail.is_empty()) else {
        return Ok(read_only(method, gemini, None));
    };
    if let Some(model) = tail.strip_suffix("/chat/completions") {
        return Ok(only_post(method, Endpoint::Chat, Some(decode(model)?)));
    }
    // Models may have a colon of their own: a method is a known word, or any word after the last colon on Google's path.
    if let Some((model, word)) = tail
        .rsplit_once(':')
        .filter(|(_, word)| is_method(word, method))
    {
        let sse = query.is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse"));
        let endpoint = match word {
            "generateContent" => Endpoint::Generate { stream: false, sse },
            "streamGenerateContent" => Endpoint::Generate { stream: true, sse },
            other => Endpoint::GeminiMethod(other.to_owned()),
        };
        return Ok(only_post(method, endpoint, Some(decode(model)?)));
    }
    Ok(read_only(method, gemini, Some(decode(tail)?)))
}

fn is_method(word: &str, method: &Method) -> bool {
    let known = [
        "generateContent",
        "streamGenerateContent",
        "countTokens",
        "embedContent",
        "batchEmbedContents",
    ];
    known.contains(&word)
        || (method == Method::POST
            && !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_alphabetic()))
}

fn read_only(method: &Method, gemini: bool, id: Option<String>) -> Matched {
    if method == Method::GET || method == Method::HEAD {
        return Matched::Models { gemini, id };
    }
    Matched::WrongMethod(if gemini {
        Format::Gemini
    } else {
        Format::OpenaiChat
    })
}

/// `{model}/{*tail}`: a slashed name is the longest configured one that the path begins with.
fn proxy(rest: &str, query: Option<&str>, snapshot: &Snapshot) -> Result<Matched, Failure> {
    let cuts: Vec<usize> = rest.match_indices('/').map(|(at, _)| at).collect();
    let named = |at: &usize| {
        decode(rest.get(..*at).unwrap_or_default())
            .ok()
            .filter(|name| snapshot.is_configured(name))
    };
    let longest = cuts.iter().rev().find_map(|at| Some((*at, named(at)?)));
    let (at, model) = match (longest, cuts.first()) {
        (Some(found), _) => found,
        (None, Some(at)) => (*at, decode(rest.get(..*at).unwrap_or_default())?),
        (None, None) => return Err(unknown_route(rest)),
    };
    let tail = rest.get(at + 1..).unwrap_or_default();
    if model.is_empty() || tail.is_empty() || has_dots(tail) {
        return Err(unknown_route(rest));
    }
    let tail = Tail {
        path: tail.to_owned(),
        query: query.map(without_key),
    };
    Ok(Matched::Model {
        endpoint: Endpoint::Proxy(tail),
        model: Some(model),
    })
}

/// A path that climbs out of the provider's base, plainly or encoded.
fn has_dots(tail: &str) -> bool {
    tail.split('/').any(|segment| {
        let segment = segment.to_ascii_lowercase().replace("%2e", ".");
        segment == "." || segment == ".." || segment.contains("%2f")
    })
}

/// A caller's key never reaches an upstream.
fn without_key(query: &str) -> String {
    query
        .split('&')
        .filter(|pair| !pair.starts_with("key="))
        .collect::<Vec<_>>()
        .join("&")
}

fn unknown_route(path: &str) -> Failure {
    let shown: String = path.chars().take(100).collect();
    Failure::new(Kind::UnknownRoute, format!("there is no '/{shown}' here"))
}

/// Percent-decoding of a model's name.
fn decode(text: &str) -> Result<String, Failure> {
    if !text.contains('%') {
        return Ok(text.to_owned());
    }
    let bad = || {
        Failure::new(
            Kind::InvalidRequest,
            "the model's name in the path is not well encoded",
        )
    };
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits = [bytes.next().ok_or_else(bad)?, bytes.next().ok_or_else(bad)?];
        let digits: Cow<'_, str> = String::from_utf8_lossy(&digits);
        out.push(u8::from_str_radix(&digits, 16).map_err(|_| bad())?);
    }
    String::from_utf8(out).map_err(|_| bad())
}
