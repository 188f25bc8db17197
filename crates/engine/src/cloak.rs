//! Cloaks: a provider sees the gateway's identity, as behind a network address translation, and nothing of who calls it.
//!
//! The operator's own words stand before the client's instructions, the end user has a pseudonym, and headers by which a client says
//! who it is stay here. Nothing of it is made to look like another vendor's client, and nothing is hidden in texts.

mod body;
mod words;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use polygate_wire::canon::{Given, Message, Part, Role};
use polygate_wire::{ChatRequest, RawObject};

use crate::attribution;
use crate::call::Call;
use crate::config::{self, CloakMode, UserId};
use crate::expect;
use crate::guard::Watch;
use crate::guard::placeholder::Maker;
use crate::route::Route;
use crate::shape::{Asks, Sent};

/// A cloak, compiled.
#[derive(Debug)]
pub struct Cloak {
    config: config::Cloak,
    headers: HeaderMap,
    pseudonyms: Pseudonyms,
    /// What it does not see; `None`: it sees all.
    hidden: Option<Watch>,
}

/// Makes names of end users that say nothing of who they are.
#[derive(Clone)]
pub struct Pseudonyms(Arc<hmac::Key>);

pub(crate) use words::Cloaked;

/// Headers by which a client tells a provider whose its calls are.
const NAMES: [&str; 4] = [
    "openai-organization",
    "openai-project",
    "http-referer",
    "x-title",
];

/// Those by which it tells what it is. They are in every call of some clients: a call with no others says of nobody whose it is.
const TRAITS: [&str; 5] = [
    "user-agent",
    "referer",
    "origin",
    "x-app",
    "x-client-request-id",
];
const TRAITS_BEGIN: &str = "x-stainless-";

/// Bytes of a pseudonym.
const LENGTH: usize = 16;

impl Cloak {
    /// `None`: there is none.
    pub(crate) fn new(
        config: Option<&config::Cloak>,
        pseudonyms: &Pseudonyms,
    ) -> Result<Option<Arc<Self>>, String> {
        let Some(config) = config.filter(|config| config.is_on()) else {
            return Ok(None);
        };
        let headers = config.headers.iter().map(|(name, value)| {
            let value = HeaderValue::from_str(value)
                .map_err(|_| format!("the value of header '{name}' is not allowed"))?;
            let name: HeaderName = name
                .parse()
                .map_err(|_| format!("'{name}' is no header name"))?;
            Ok((name, value))
        });
        Ok(Some(Arc::new(Self {
            headers: headers.collect::<Result<_, String>>()?,
            hidden: words::watch(&config.sensitive_words)?,
            config: config.clone(),
            pseudonyms: pseudonyms.clone(),
        })))
    }

    /// The cloak, if there is one and it is for this call.
    pub(crate) fn over<'a>(cloak: Option<&'a Arc<Self>>, call: &Call) -> Option<&'a Self> {
        cloak
            .map(Arc::as_ref)
            .filter(|cloak| cloak.config.mode == CloakMode::Always || !says_whose(call))
    }

    /// A body as it is sent.
    pub(crate) fn body(&self, call: &Call, sent: Sent<'_>, body: Bytes) -> Bytes {
        let Ok(object) = RawObject::parse(body.clone()) else {
            return body;
        };
        let mut object = body::once(object);
        if let Some(prompt) = &self.config.system_prompt
            && sent.asks != Asks::Other
        {
            let changed = sent.instructed(&object, prompt, self.config.strict);
            object = RawObject::parse(changed).unwrap_or(object);
        }
        let user = self.user(call);
        sent.named(object, user.as_deref())
    }

    /// What the end user is called.
    fn user(&self, call: &Call) -> Option<String> {
        match self.config.user_id {
            UserId::None => None,
            UserId::PerKey => Some(self.pseudonyms.of(&call.inbound.caller.name())),
            UserId::PerRequest => Some(hexadecimal(&rand::random::<[u8; LENGTH]>())),
        }
    }

    /// A conversation whose tokens are estimated here, as it would be sent.
    pub(crate) fn instruct(&self, request: &mut ChatRequest) {
        let Some(prompt) = &self.config.system_prompt else {
            return;
        };
        if self.config.strict {
            let is_kept =
                |message: &Message| !matches!(message.role, Role::System | Role::Developer);
            request.messages.retain(is_kept);
        }
        let message = Message {
            role: Role::System,
            parts: vec![Given::new(Part::Text(prompt.clone()), "")],
            at: String::new(),
        };
        request.messages.insert(0, message);
    }

    /// The client's headers, as far as they may reach the provider.
    pub(crate) fn pass<'a>(cloak: Option<&Self>, client: &'a HeaderMap) -> Cow<'a, HeaderMap> {
        if cloak.is_none() {
            return Cow::Borrowed(client);
        }
        let mut others = HeaderMap::with_capacity(client.len());
        for (name, value) in client.iter().filter(|(name, _)| !is_of_client(name)) {
            others.append(name.clone(), value.clone());
        }
        Cow::Owned(others)
    }

    /// Puts the operator's headers into a request.
    pub(crate) fn head(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
    }
}

/// The tokens that cloaks add to a call's prompt, at most, whoever of its route is asked.
pub(crate) fn added(call: &Call, route: &Route) -> u64 {
    let cloaks = route
        .candidates()
        .filter_map(|one| Cloak::over(one.upstream.cloak.as_ref(), call));
    let lengths = cloaks.filter_map(|cloak| Some(cloak.config.system_prompt.as_ref()?.len()));
    lengths.max().map_or(0, expect::tokens)
}

/// Whether a header says who a client is, or what.
fn is_of_client(name: &HeaderName) -> bool {
    let name = name.as_str();
    NAMES.contains(&name)
        || TRAITS.contains(&name)
        || name.starts_with(TRAITS_BEGIN)
        || attribution::is_word(name)
}

/// Whether a call itself tells a provider whose it is.
fn says_whose(call: &Call) -> bool {
    let headers = &call.inbound.headers;
    NAMES.iter().any(|name| headers.contains_key(*name))
        || call.object.as_ref().is_some_and(attribution::names_user)
}

impl Default for Pseudonyms {
    /// Those of this process.
    fn default() -> Self {
        Self::keyed(&rand::random())
    }
}

impl Pseudonyms {
    /// The same wherever this is the pepper.
    pub fn keyed(pepper: &[u8; 32]) -> Self {
        Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, pepper)))
    }

    /// Who makes placeholders for words: the same wherever the pseudonyms are.
    fn maker(&self) -> Maker {
        Maker::new(hmac::sign(&self.0, b"placeholders").as_ref())
    }

    /// Of a key's name. What keys are found by is of the same pepper, and of other words.
    fn of(&self, name: &str) -> String {
        let mut words = b"end user\0".to_vec();
        words.extend_from_slice(name.as_bytes());
        let tag = hmac::sign(&self.0, &words);
        hexadecimal(tag.as_ref().get(..LENGTH).unwrap_or_default())
    }
}

impl fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pseudonyms")
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
