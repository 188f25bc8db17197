//! `cloak` of a provider: what it is told in place of who calls.

use http::{HeaderName, HeaderValue};
use polygate_engine::config::{Cloak, CloakMode, UserId};

use super::pieces::{headers, set, words};
use super::reader::Section;

const MODES: [(&str, CloakMode); 3] = [
    ("never", CloakMode::Never),
    ("auto", CloakMode::Auto),
    ("always", CloakMode::Always),
];

const USER_IDS: [(&str, UserId); 3] = [
    ("none", UserId::None),
    ("per-key", UserId::PerKey),
    ("per-request", UserId::PerRequest),
];

/// Headers that are no client's identity: those of the provider's key, of the connection, of the body.
const NOT_OURS: [&str; 14] = [
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "x-goog-api-key",
    "api-key",
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
];

/// The section, where there is one.
pub fn cloak(section: &Section<'_>) -> Option<Cloak> {
    let section = section.section("cloak")?;
    let mut cloak = Cloak::default();
    let mode = section.word("mode", &MODES);
    set(&mut cloak.mode, mode);
    cloak.system_prompt = section.text("system-prompt");
    set(&mut cloak.strict, section.boolean("strict-mode"));
    set(&mut cloak.user_id, section.word("user-id", &USER_IDS));
    cloak.headers = headers(&section, "headers");
    for (name, value) in &cloak.headers {
        if name.parse::<HeaderName>().is_err() || NOT_OURS.contains(&&**name) {
            section.error("headers", format!("'{name}' is no header of who calls"));
        } else if HeaderValue::from_str(value).is_err() {
            let message = format!("the value of header '{name}' is not allowed");
            section.error("headers", message);
        }
    }
    cloak.sensitive_words = words(&section, "sensitive-words");
    if cloak.strict && cloak.system_prompt.is_none() {
        section.warn(
            "strict-mode",
            "has no effect: there is no system-prompt in place of the client's",
        );
    }
    let says_more = Cloak {
        mode: CloakMode::Never,
        ..cloak.clone()
    } != Cloak::default();
    if mode.is_none() && says_more {
        section.warn("mode", "is 'never' unless set: there is no cloak");
    }
    section.finish();
    Some(cloak)
}
