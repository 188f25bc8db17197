//! A guard that asks somebody: what is said goes there as texts, and comes back with a word on what becomes of it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Limited};
use polygate_core::{Failure, Kind};
use polygate_wire::Format;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{Acted, Action, Side, blocked, body};
use crate::call::Call;
use crate::config;
use crate::transport::{Transport, UpstreamBody};

/// No more of an answer is read than this beyond what was sent.
const ANSWER: usize = 64 * 1024;

/// So many questions are under way at a time; further ones wait, within their time.
const MOST: usize = 64;

/// Somebody who is asked.
#[derive(Debug)]
pub struct Webhook {
    uri: Uri,
    headers: HeaderMap,
    timeout: Duration,
    fails_open: bool,
    transport: Transport,
    places: Semaphore,
}

/// Whose call it is.
#[derive(Clone, Debug, Default)]
pub struct Whose {
    request_id: Arc<str>,
    key: Arc<str>,
    team: Option<Arc<str>>,
    model: String,
    endpoint: &'static str,
}

/// What is asked.
#[derive(Serialize)]
struct Question<'a> {
    guard: &'a str,
    side: &'static str,
    request_id: &'a str,
    key: &'a str,
    team: Option<&'a str>,
    model: &'a str,
    endpoint: &'static str,
    texts: &'a [Cow<'a, str>],
}

/// What is answered.
#[derive(Deserialize)]
struct Verdict {
    action: Word,
    #[serde(default)]
    texts: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Allow,
    Block,
    Redact,
}

/// What becomes of what was asked about.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What the guard did, where it did something.
    pub acted: Option<Acted>,
    /// Texts in the place of those that were asked about.
    pub texts: Option<Vec<String>>,
}

impl Whose {
    pub(super) fn of(call: &Call) -> Self {
        let caller = &call.inbound.caller;
        Self {
            request_id: call.inbound.request_id.clone(),
            key: caller.name(),
            team: caller.team.as_ref().map(|team| team.name.clone()),
            model: call.model.clone(),
            endpoint: call.inbound.endpoint.label(),
        }
    }
}

impl Webhook {
    pub(super) fn new(own: &config::Webhook, config: &config::Config) -> Result<Self, String> {
        let uri: Result<Uri, _> = own.url.reveal().parse();
        // The address itself may be a secret.
        let uri = uri.map_err(|_| "the webhook's url is none".to_owned())?;
        let mut headers = HeaderMap::new();
        for (name, value) in &own.headers {
            let value = HeaderValue::from_str(value.reveal());
            let mut value = value.map_err(|_| format!("header '{name}' cannot be sent"))?;
            value.set_sensitive(true);
            headers.insert(name.clone(), value);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(Self {
            uri,
            headers,
            timeout: own.timeout,
            fails_open: own.fails_open,
            transport: Transport::beside_calls(config)?,
            places: Semaphore::new(MOST),
        })
    }

    /// Without its answer calls go on.
    pub fn fails_open(&self) -> bool {
        self.fails_open
    }

    /// Asks about texts. `Err`: they are not let through.
    pub(super) async fn ask(
        &self,
        guard: &Arc<str>,
        side: Side,
        whose: &Whose,
        texts: &[Cow<'_, str>],
    ) -> (Outcome, Result<(), Failure>) {
        if texts.iter().all(|text| text.trim().is_empty()) {
            return (Outcome::default(), Ok(()));
        }
        let question = Question {
            guard,
            side: side.name(),
            request_id: &whose.request_id,
            key: &whose.key,
            team: whose.team.as_deref(),
            model: &whose.model,
            endpoint: whose.endpoint,
            texts,
        };
        let body = serde_json::to_vec(&question).unwrap_or_default();
        let asked = timeout(self.timeout, self.exchange(body.into())).await;
        let verdict = asked.unwrap_or_else(|_| Err("there was no answer in time".to_owned()));
        let is_as_many = |verdict: &Verdict| {
            !matches!(verdict.action, Word::Redact) || verdict.texts.len() == texts.len()
        };
        let verdict = match verdict {
            Ok(verdict) if !is_as_many(&verdict) => {
                Err("its answer has not as many texts as it was asked about".to_owned())
            }
            other => other,
        };
        let is_said_so = |new: &[String]| new.iter().eq(texts);
        let acted = |action| {
            let (guard, count) = (guard.clone(), 1);
            Some(Acted {
                guard,
                action,
                side,
                count,
            })
        };
        match verdict {
            Ok(Verdict {
                action: Word::Allow,
                ..
            }) => (Outcome::default(), Ok(())),
            Ok(Verdict {
                action: Word::Redact,
                texts: new,
            }) if is_said_so(&new) => (Outcome::default(), Ok(())),
            Ok(Verdict {
                action: Word::Block,
                ..
            }) => {
                let outcome = Outcome {
                    acted: acted(Action::Block),
                    texts: None,
                };
                (outcome, Err(blocked(guard, side)))
            }
            Ok(Verdict { texts, .. }) => {
                let outcome = Outcome {
                    acted: acted(Action::Redact),
                    texts: Some(texts),
                };
                (outcome, Ok(()))
            }
            Err(why) => {
                let (guard, request_id) = (&**guard, &*whose.request_id);
                tracing::warn!(
                    guard,
                    request_id,
                    why,
                    open = self.fails_open,
                    "a guard's webhook did not answer"
                );
                let result = if self.fails_open {
                    Ok(())
                } else {
                    Err(unanswered(guard))
                };
                (Outcome::default(), result)
            }
        }
    }

    async fn exchange(&self, body: Bytes) -> Result<Verdict, String> {
        let _place = self.places.acquire().await;
        let most = ANSWER + 2 * body.len();
        let mut request = Request::new(UpstreamBody::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let sent = self.transport.send(request).await;
        let (head, answer) = sent.map_err(|failure| failure.message)?.into_parts();
        if !head.status.is_success() {
            return Err(format!("it answered {}", head.status));
        }
        let answer = Limited::new(answer, most).collect().await;
        let answer = answer.map_err(|_| "its answer broke off, or is too long".to_owned())?;
        let verdict = serde_json::from_slice(&answer.to_bytes());
        verdict.map_err(|_| "its answer is none: an object with 'action' is needed".to_owned())
    }
}

fn unanswered(guard: &str) -> Failure {
    let message = format!(
        "guard '{guard}' has no answer from whom it asks, and lets nothing through without"
    );
    Failure::new(Kind::Unavailable, message)
}

/// A webhook asked about a whole body; `None`: that stays as it is.
pub(super) async fn ask(
    hook: &Webhook,
    guard: &Arc<str>,
    whose: &Whose,
    side: Side,
    format: Format,
    bytes: &Bytes,
) -> (Option<Acted>, Result<Option<Bytes>, Failure>) {
    let texts = match body::texts(bytes, format, side) {
        Ok(texts) => texts,
        Err(failure) => return (None, Err(failure)),
    };
    let (outcome, result) = hook.ask(guard, side, whose, &texts).await;
    let replaced = outcome
        .texts
        .map(|texts| body::with_texts(bytes, format, side, &texts));
    let result = match (result, replaced) {
        (Ok(()), None) => Ok(None),
        (Ok(()), Some(replaced)) => replaced,
        (Err(failure), _) => Err(failure),
    };
    (outcome.acted, result)
}
