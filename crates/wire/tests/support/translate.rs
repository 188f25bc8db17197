//! Translates as the engine does: a request for an upstream, and the upstream's answer for the client.

use bytes::Bytes;
use polygate_core::Failure;
use polygate_wire::{
    Bridge, ChatEvent, ChatRequest, ChatResponse, Format, Loss, Quirks, ReplyHead, Target, egress,
    ingress,
};

use crate::drive::{Told, say};

/// The formats that clients speak.
pub const CLIENTS: [Format; 4] = [
    Format::OpenaiChat,
    Format::OpenaiResponses,
    Format::AnthropicMessages,
    Format::Gemini,
];

/// Whom a request is for.
pub struct Upstream {
    /// What it speaks.
    pub format: Format,
    /// The model's name there.
    pub model: String,
    /// How its dialect differs.
    pub quirks: Quirks,
}

/// A request as an upstream gets it.
pub struct Asked {
    /// The body.
    pub body: Bytes,
    /// What it could not carry.
    pub losses: Vec<Loss>,
    /// How the answer is put right.
    pub bridge: Bridge,
    /// What the answer says of itself.
    pub head: ReplyHead,
}

/// Writes a request for an upstream.
pub fn ask(mut request: ChatRequest, upstream: &Upstream) -> Result<Asked, Failure> {
    let (bridge, mut losses) = Bridge::build(&mut request, upstream.format, &upstream.model);
    let target = Target {
        model: &upstream.model,
        quirks: &upstream.quirks,
    };
    let (body, lost) = egress(upstream.format).encode_request(&request, &target)?;
    losses.extend(lost);
    let head = ReplyHead {
        echo: request.echo,
        namespaces: request.namespaces,
        ..head()
    };
    Ok(Asked {
        body,
        losses,
        bridge,
        head,
    })
}

/// What an answer says of itself where nobody asked.
pub fn head() -> ReplyHead {
    ReplyHead {
        request_id: "golden".to_owned(),
        unique: "golden".to_owned(),
        model: "golden-model".to_owned(),
        created: 1_700_000_000,
        include_usage: true,
        ..ReplyHead::default()
    }
}

/// A whole answer in a client's format.
pub fn answer(client: Format, response: &ChatResponse, head: &ReplyHead) -> Bytes {
    let client = ingress(client).expect("clients speak it");
    client.encode_response(response, head)
}

/// A stream in a client's format.
pub fn stream(client: Format, told: &Told, head: ReplyHead) -> String {
    let mut out = Vec::new();
    let mut encoder = ingress(client)
        .expect("clients speak it")
        .stream_encoder(head);
    let mut failure = told.failure.as_ref();
    for event in &told.events {
        match event {
            ChatEvent::Failed(reported) => failure = Some(reported),
            event => encoder.encode(event, &mut out),
        }
    }
    match failure {
        Some(failure) => encoder.fail(failure, "req_golden", &mut out),
        None => encoder.finish(&mut out),
    }
    String::from_utf8(out).expect("UTF-8")
}

/// A request's body and losses, or why it was refused, as text.
pub fn written_request(
    asked: Result<(&Bytes, &[Loss]), &Failure>,
    lay_out: fn(&Bytes) -> String,
) -> String {
    let (body, losses) = match asked {
        Err(failure) => return format!("refused: {}\n", say(failure)),
        Ok(asked) => asked,
    };
    let mut out = lay_out(body);
    if !losses.is_empty() {
        out.push_str("\ndropped:\n");
    }
    losses
        .iter()
        .for_each(|loss| out.push_str(&format!("{}\n", loss.0)));
    out
}
