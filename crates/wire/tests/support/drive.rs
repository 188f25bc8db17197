//! Runs streams through the decoders the way the engine does, and holds what comes out to the hub's grammar.

use bytes::Bytes;
use polygate_core::Failure;
use polygate_wire::sse::frames;
use polygate_wire::{ChatEvent, Egress, Frame, Framer};

/// What a stream came to.
#[derive(Debug, Default)]
pub struct Told {
    /// Its events.
    pub events: Vec<ChatEvent>,
    /// Why it broke off, where the decoder said so.
    pub failure: Option<Failure>,
}

/// Every frame of a stream that came in these pieces.
pub fn each_frame(pieces: &[&[u8]], mut visit: impl FnMut(&[u8], &Frame<'_>) -> bool) {
    let mut framer = Framer::new();
    let mut blocks: Vec<Bytes> = pieces
        .iter()
        .map(|piece| {
            framer
                .push(Bytes::copy_from_slice(piece))
                .expect("short frames")
        })
        .collect();
    blocks.push(framer.finish());
    for raw in blocks.iter().flat_map(frames) {
        if !visit(&raw, &Frame::parse(&raw)) {
            return;
        }
    }
}

/// Decodes a stream that came in these pieces.
pub fn decode(egress: &dyn Egress, pieces: &[&[u8]]) -> Told {
    let mut decoder = egress.stream_decoder();
    let mut told = Told::default();
    each_frame(pieces, |_, frame| {
        told.failure = decoder.decode(frame, &mut told.events).err();
        told.failure.is_none() && !has_failed(&told.events)
    });
    if told.failure.is_none() && !has_failed(&told.events) {
        told.failure = decoder.finish(&mut told.events).err();
    }
    told
}

fn has_failed(events: &[ChatEvent]) -> bool {
    matches!(events.last(), Some(ChatEvent::Failed(_)))
}

/// Holds events to the grammar `Start (Open Delta* Close | Usage)* Stop Usage*`; a failure may come anywhere.
pub fn check_grammar(told: &Told) -> Result<(), String> {
    let (mut open, mut next, mut started, mut stopped) = (Vec::new(), 0, false, false);
    for (at, event) in told.events.iter().enumerate() {
        let is_right = match event {
            ChatEvent::Start { .. } => !std::mem::replace(&mut started, true) && at == 0,
            ChatEvent::Open { index, .. } => {
                open.push(*index);
                next += 1;
                started && !stopped && *index == next - 1
            }
            ChatEvent::Delta { index, text } => open.contains(index) && !text.is_empty(),
            ChatEvent::Cite { index, .. }
            | ChatEvent::Logprobs { index, .. }
            | ChatEvent::Seal { index, .. } => open.contains(index),
            ChatEvent::Close { index } => {
                let known = open.iter().position(|known| known == index);
                known.map(|at| open.remove(at)).is_some()
            }
            ChatEvent::Usage(_) => started,
            ChatEvent::Stop(_) => {
                started && open.is_empty() && !std::mem::replace(&mut stopped, true)
            }
            ChatEvent::Failed(_) => at + 1 == told.events.len(),
        };
        if !is_right {
            return Err(format!("event {at} is out of place: {event:?}"));
        }
    }
    let failed = told.failure.is_some() || has_failed(&told.events);
    if stopped || failed {
        Ok(())
    } else {
        Err("neither stop nor failure".to_owned())
    }
}

/// A failure as text.
pub fn say(failure: &Failure) -> String {
    let Failure {
        kind,
        status,
        origin,
        scope,
        code,
        param,
        ambiguous,
        message,
        ..
    } = failure;
    let code = code.as_deref().unwrap_or("-");
    let param = param.as_deref().unwrap_or("-");
    let ambiguous = if *ambiguous { " ambiguous" } else { "" };
    format!(
        "{} {status} {origin:?} {scope:?} code={code} param={param}{ambiguous}: {message}",
        kind.name()
    )
}
