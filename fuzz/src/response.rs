//! An answer of any upstream for every client: refused, or JSON; and an error that can be said again.

use polygate_core::Failure;
use polygate_wire::{Format, dialect};

/// The target. The first byte: the upstream's format, and above it whether the request was bent.
pub fn run(data: &[u8]) {
    let Some((first, body)) = data.split_first() else {
        return;
    };
    let upstream = crate::pick(first & 0x3f);
    if let Some(failure) = crate::upstream_failure(dialect(upstream), body) {
        say(&failure);
    }
    if let Err(failure) = dialect(upstream).check_answer(body) {
        say(&failure);
    }
    let Some(egress) = crate::upstream_half(upstream) else {
        return;
    };
    let mut response = match egress.decode_response(body) {
        Ok(response) => response,
        Err(failure) => return say(&failure),
    };
    if first & 0x40 != 0 {
        response = crate::bridge(upstream).put_right(response);
    }
    for client in Format::ALL {
        let Some(ingress) = crate::client_half(client) else {
            continue;
        };
        let answer = ingress.encode_response(&response, &crate::reply(false, false));
        let way = format!("{} to {}", upstream.name(), client.name());
        crate::assert_json(&answer, &way);
    }
}

fn say(failure: &Failure) {
    for client in Format::ALL {
        crate::assert_can_be_said(dialect(client), failure);
    }
}
