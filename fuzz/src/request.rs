//! A request of any client for every upstream: refused, or a JSON object with its losses named by pointers.

use std::collections::HashSet;

use bytes::Bytes;
use polygate_wire::quirks::{Continues, ReasoningHistory};
use polygate_wire::{Bridge, ChatRequest, Format, Loss, Quirks, RawObject, Target, dialect};

/// The target. The first byte: the client's format, and above it whether the upstream has quirks.
pub fn run(data: &[u8]) {
    let Some((first, body)) = data.split_first() else {
        return;
    };
    let client = crate::pick(first & 0x3f);
    let object = match RawObject::parse(Bytes::copy_from_slice(body)) {
        Ok(object) => object,
        Err(failure) => return crate::assert_can_be_said(dialect(client), &failure),
    };
    let Some(ingress) = crate::client_half(client) else {
        return;
    };
    let request = match ingress.decode_request(&object) {
        Ok(request) => request,
        Err(failure) => return crate::assert_can_be_said(dialect(client), &failure),
    };
    let quirks = if first & 0x40 == 0 {
        Quirks::default()
    } else {
        quirks()
    };
    for upstream in Format::ALL {
        encode(&request, client, upstream, &quirks, has_twins(&object));
    }
}

fn encode(
    request: &ChatRequest,
    client: Format,
    upstream: Format,
    quirks: &Quirks,
    asked_twice: bool,
) {
    let Some(egress) = crate::upstream_half(upstream) else {
        return;
    };
    let way = format!("{} to {}", client.name(), upstream.name());
    let mut request = request.clone();
    let (_, mut losses) = Bridge::build(&mut request, upstream, "m");
    let target = Target { model: "m", quirks };
    let (body, lost) = match egress.encode_request(&request, &target) {
        Ok(encoded) => encoded,
        Err(failure) => return crate::assert_can_be_said(dialect(client), &failure),
    };
    crate::assert_json(&body, &way);
    let text = String::from_utf8_lossy(&body).into_owned();
    let written = RawObject::parse(body).unwrap_or_else(|_| panic!("{way}: no object: {text}"));
    assert!(
        asked_twice || !has_twins(&written),
        "{way}: a member is said twice: {text}"
    );
    losses.extend(lost);
    for Loss(at) in losses {
        assert!(is_pointer(&at), "{way}: a loss is no pointer: {at:?}");
    }
}

/// All that an upstream can differ in.
fn quirks() -> Quirks {
    Quirks {
        max_completion_tokens: true,
        developer: true,
        cache_control: true,
        top_k: true,
        reasoning_history: Some(ReasoningHistory::ReasoningDetails),
        reasoning_required: true,
        system_first: true,
        continues: Some(Continues::Prefix),
        id_length: Some(9),
        most_stops: Some(1),
        document_url: true,
        bare_audio: true,
        renames: [("seed".to_owned(), "random_seed".to_owned())].into(),
        refuses: vec!["stop".to_owned()],
        ..Quirks::default()
    }
}

fn has_twins(object: &RawObject) -> bool {
    let mut seen = HashSet::new();
    !object.iter().all(|(name, _)| seen.insert(name))
}

/// RFC 6901: the whole, or names behind slashes, with `~` only as `~0` and `~1`.
fn is_pointer(text: &str) -> bool {
    let mut tildes = text.split('~').skip(1);
    (text.is_empty() || text.starts_with('/')) && tildes.all(|rest| rest.starts_with(['0', '1']))
}
