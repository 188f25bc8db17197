//! What a case comes to: its requests for every upstream, its answers for every client, and what each of them lost.

use std::collections::BTreeSet;

use polygate_core::{Failure, Kind, Origin};
use polygate_wire::{Bridge, ChatResponse, Format, ReplyHead, Return, dialect, egress};

use crate::case::Case;
use crate::drive::{Told, decode, say};
use crate::layout::laid_out;
use crate::survival::lost;
use crate::translate::{Asked, CLIENTS, answer, ask, head, stream, written_request};
use crate::words::{has, texts, words};

/// What became of a feature on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The same format: its bytes pass.
    Native,
    /// Said in the other format's words.
    Translated,
    /// Said, but for these.
    Lossy(BTreeSet<String>),
    /// Refused, and why.
    Unsupported(String),
}

/// A text for a golden file, and the fate that it shows.
pub struct Outcome {
    /// For the file.
    pub text: String,
    /// For the matrix.
    pub fate: Fate,
    /// What was written, for the validator; `None` where nothing was.
    pub body: Option<Vec<u8>>,
    /// What must not be.
    pub wrong: Vec<String>,
}

/// A client's request for an upstream; `None` where the client has no words for it.
pub fn request(case: &Case, client: Format, upstream: Format) -> Option<Outcome> {
    let request = case.request(client)?;
    if client == upstream {
        return Some(native());
    }
    let asked = request.and_then(|request| ask(request, &case.upstream(upstream)));
    let sent = asked.as_ref().map(|asked| (&asked.body, &*asked.losses));
    let text = written_request(sent, laid_out);
    let body = asked.as_ref().ok().filter(|_| !case.is_dialect(upstream));
    let body = body.map(|asked| asked.body.to_vec());
    let (fate, wrong) = match asked {
        Err(failure) => (Fate::Unsupported(failure.message), vec![]),
        Ok(asked) => {
            let named: BTreeSet<String> = asked.losses.iter().map(|loss| loss.0.clone()).collect();
            let wrong = silent(case, client, &asked);
            let all = named.into_iter().map(|at| format!("`{at}`")).collect();
            (lossy(all), wrong)
        }
    };
    let wrong = wrong.into_iter().map(|at| {
        format!(
            "{at} of the {} request is lost to {} without a word",
            client.name(),
            upstream.name()
        )
    });
    Some(Outcome {
        text,
        fate,
        body,
        wrong: wrong.collect(),
    })
}

fn native() -> Outcome {
    Outcome {
        text: "native\n".to_owned(),
        fate: Fate::Native,
        body: None,
        wrong: vec![],
    }
}

fn lossy(lost: BTreeSet<String>) -> Fate {
    if lost.is_empty() {
        Fate::Translated
    } else {
        Fate::Lossy(lost)
    }
}

/// Words of the client's that neither went nor are named as lost.
fn silent(case: &Case, client: Format, asked: &Asked) -> Vec<String> {
    let body = case.file(client, "request.json").unwrap_or_default();
    let sent = texts(&asked.body);
    let is_under = |at: &str, of: &str| at == of || at.starts_with(&format!("{of}/"));
    let is_named = |at: &str| {
        asked.losses.iter().any(|loss| is_under(at, &loss.0))
            || case.about.needless.iter().any(|of| is_under(at, of))
    };
    let words = words(&body).into_iter();
    let missing = words.filter(|(at, text)| !has(&sent, text) && !is_named(at));
    missing.map(|(at, _)| at).collect()
}

/// Whether a client would ever see the answer: not where only others can ask for it.
fn can_ask(case: &Case, client: Format) -> bool {
    let mut asks = CLIENTS
        .into_iter()
        .map(|client| case.request(client).is_some());
    case.request(client).is_some() || !asks.any(|asks| asks)
}

/// How a client's request to an upstream was bent, and what the answer says of itself.
fn way_back(case: &Case, client: Format, upstream: Format) -> (Bridge, ReplyHead) {
    let asked = case
        .request(client)
        .and_then(|request| ask(request.ok()?, &case.upstream(upstream)).ok());
    asked.map_or_else(
        || (Bridge::default(), head()),
        |asked| (asked.bridge, asked.head),
    )
}

/// An upstream's whole answer for a client.
pub fn response(case: &Case, upstream: Format, client: Format) -> Option<Outcome> {
    let body = case.file(upstream, "response.json")?;
    if !can_ask(case, client) {
        return None;
    }
    if client == upstream {
        return Some(native());
    }
    let (bridge, head) = way_back(case, client, upstream);
    let read = dialect(upstream)
        .check_answer(&body)
        .and_then(|_| egress(upstream).decode_response(&body));
    let response = match read {
        Ok(response) => bridge.put_right(response),
        Err(failure) => return Some(failed(client, &failure)),
    };
    let written = answer(client, &response, &head);
    let mut gone = match egress(client).decode_response(&written) {
        Ok(again) => lost(&response, &again),
        Err(failure) => BTreeSet::from([format!("all of it: {}", say(&failure))]),
    };
    let shown = texts(&written);
    let unsaid = words(&body)
        .into_iter()
        .filter(|(_, text)| !has(&shown, text));
    gone.extend(unsaid.map(|(at, _)| format!("`{at}`")));
    Some(Outcome {
        text: with_losses(laid_out(&written), &gone),
        fate: lossy(gone),
        body: Some(written.to_vec()),
        wrong: vec![],
    })
}

fn failed(client: Format, failure: &Failure) -> Outcome {
    let error = dialect(client).encode_error(failure, "req_golden");
    Outcome {
        text: format!("{}\n{}", say(failure), laid_out(&error)),
        fate: Fate::Unsupported(failure.message.clone()),
        body: None,
        wrong: vec![],
    }
}

fn with_losses(mut text: String, lost: &BTreeSet<String>) -> String {
    if !lost.is_empty() {
        text.push_str("\nlost:\n");
    }
    lost.iter()
        .for_each(|lost| text.push_str(&format!("{lost}\n")));
    text
}

/// An upstream's stream for a client.
pub fn streamed(case: &Case, upstream: Format, client: Format) -> Option<Outcome> {
    let bytes = case.file(upstream, "stream.sse")?;
    if !can_ask(case, client) {
        return None;
    }
    if client == upstream {
        return Some(native());
    }
    let (bridge, head) = way_back(case, client, upstream);
    let told = put_right(decode(egress(upstream), &[&bytes]), bridge);
    let written = stream(client, &told, head);
    let again = decode(egress(client), &[written.as_bytes()]);
    let (gone, fate) = match (gathered(&told), gathered(&again)) {
        (Ok(first), Ok(second)) => {
            let gone = lost(&first, &second);
            (gone.clone(), lossy(gone))
        }
        (Err(first), Err(_)) => (BTreeSet::new(), Fate::Unsupported(first)),
        (Err(_), Ok(_)) => (
            BTreeSet::from(["that it failed".to_owned()]),
            Fate::Translated,
        ),
        (Ok(_), Err(second)) => {
            let gone = BTreeSet::from([format!("all of it: {second}")]);
            (gone.clone(), lossy(gone))
        }
    };
    let never = ["that it failed", "all of it"];
    let wrong = gone
        .iter()
        .filter(|lost| never.iter().any(|never| lost.starts_with(never)));
    Some(Outcome {
        wrong: wrong
            .map(|lost| format!("the {} stream loses {lost}", client.name()))
            .collect(),
        body: Some(written.clone().into_bytes()),
        text: with_losses(written, &gone),
        fate,
    })
}

/// The answer that a stream comes to, or why it broke off.
pub fn gathered(told: &Told) -> Result<ChatResponse, String> {
    if let Some(failure) = &told.failure {
        return Err(failure.message.clone());
    }
    ChatResponse::gather(told.events.clone()).map_err(|failure| failure.message)
}

/// An upstream's error for a client, understood by its status as the providers' table does.
pub fn error(case: &Case, upstream: Format, client: Format) -> Option<Outcome> {
    let body = case.file(upstream, "error.json")?;
    if client == upstream {
        return Some(native());
    }
    let said = dialect(upstream).decode_error(&body).unwrap_or_default();
    let status = case.status();
    let kind = match status {
        400 => Kind::InvalidRequest,
        401 => Kind::UpstreamAuth,
        404 => Kind::UpstreamModel,
        429 => Kind::UpstreamRateLimited,
        _ => Kind::UpstreamError,
    };
    let mut failure = Failure::new(kind, said.message);
    (failure.status, failure.origin) = (status, Origin::Upstream);
    (failure.code, failure.param) = (said.code, said.param);
    Some(Outcome {
        fate: Fate::Translated,
        ..failed(client, &failure)
    })
}

/// A stream's events, put right for the client that asked.
fn put_right(told: Told, bridge: Bridge) -> Told {
    let mut back = Return::new(bridge);
    let mut right = Told {
        failure: told.failure,
        ..Told::default()
    };
    for event in told.events {
        let mut events = vec![event];
        back.put_right(&mut events);
        right.events.extend(events);
    }
    right
}
