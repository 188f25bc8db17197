//! A stream of any upstream for any client, driven as the engine does it: however it is cut, the same bytes come out, all of them
//! whole events of JSON, and between the two halves the hub's grammar holds.

use bytes::Bytes;
use polygate_core::Failure;
use polygate_wire::sse::frames;
use polygate_wire::{
    Bridge, ChatEvent, Dialect, Egress, Format, Frame, Framer, Ingress, Return, StreamDecoder,
    StreamEncoder, dialect,
};

use crate::drive::{Told, check_grammar};

/// The target. The first byte: the upstream's format, and above it whether the request was bent. The second: the client's, and
/// above it whether it asked for usage, and for an array.
pub fn run(data: &[u8]) {
    let [first, second, stream @ ..] = data else {
        return;
    };
    let (upstream, client) = (crate::pick(first & 0x3f), crate::pick(second & 0x3f));
    let (Some(egress), Some(ingress)) =
        (crate::upstream_half(upstream), crate::client_half(client))
    else {
        return;
    };
    let lane = Lane {
        egress,
        client: dialect(client),
        ingress,
        bridge: if first & 0x40 == 0 {
            Bridge::default()
        } else {
            crate::bridge(upstream)
        },
        include_usage: second & 0x80 != 0,
        is_array: client == Format::Gemini && second & 0x40 != 0,
    };
    let way = format!("{} to {}", upstream.name(), client.name());
    let whole = lane.run(&[stream]);
    if let Err(what) = check_grammar(&whole.told) {
        panic!("{way}: {what}: {:#?}", whole.told);
    }
    if lane.is_array {
        crate::assert_json(&whole.out, &way);
    } else {
        crate::assert_frames(&whole.out, &way);
    }
    for (how, pieces) in crate::cuts(stream) {
        let cut = lane.run(&pieces);
        assert!(
            cut.out == whole.out,
            "{way}: {how} it gives\n{}\nwhole it gives\n{}",
            String::from_utf8_lossy(&cut.out),
            String::from_utf8_lossy(&whole.out)
        );
    }
}

struct Lane {
    egress: &'static dyn Egress,
    client: &'static dyn Dialect,
    ingress: &'static dyn Ingress,
    bridge: Bridge,
    include_usage: bool,
    is_array: bool,
}

impl Lane {
    fn run(&self, pieces: &[&[u8]]) -> Relay {
        let reply = crate::reply(self.include_usage, self.is_array);
        let mut relay = Relay {
            decoder: self.egress.stream_decoder(),
            back: Return::new(self.bridge.clone()),
            encoder: self.ingress.stream_encoder(reply),
            told: Told::default(),
            out: Vec::new(),
        };
        if let Err(failure) = relay.all(pieces) {
            self.fail(&failure, &mut relay.out);
            relay.told.failure = Some(failure);
        }
        relay
    }

    fn fail(&self, failure: &Failure, out: &mut Vec<u8>) {
        if self.is_array {
            let begun = !out.is_empty();
            out.extend_from_slice(if begun { b",\r\n" } else { b"[" });
            out.extend_from_slice(&self.client.encode_error(failure, "req_fuzz"));
            out.push(b']');
        } else {
            out.extend_from_slice(&self.client.encode_stream_error(failure, "req_fuzz"));
        }
    }
}

/// The engine's loop over a translated stream.
struct Relay {
    decoder: Box<dyn StreamDecoder>,
    back: Return,
    encoder: Box<dyn StreamEncoder>,
    /// What the decoder said.
    told: Told,
    /// What the client got.
    out: Vec<u8>,
}

impl Relay {
    fn all(&mut self, pieces: &[&[u8]]) -> Result<(), Failure> {
        let mut framer = Framer::new();
        for piece in pieces {
            let block = framer.push(Bytes::copy_from_slice(piece)).expect("short");
            self.block(&block)?;
        }
        self.block(&framer.finish())?;
        let mut events = Vec::new();
        self.decoder.finish(&mut events)?;
        self.write(events)?;
        self.encoder.finish(&mut self.out);
        Ok(())
    }

    /// What follows an end mark is read as the engine reads it where it comes in the same chunk.
    fn block(&mut self, block: &Bytes) -> Result<(), Failure> {
        for raw in frames(block) {
            let mut events = Vec::new();
            let read = self.decoder.decode(&Frame::parse(&raw), &mut events);
            self.write(events)?;
            read?;
            let _ = self.decoder.may_end();
        }
        Ok(())
    }

    fn write(&mut self, mut events: Vec<ChatEvent>) -> Result<(), Failure> {
        self.told.events.extend(events.iter().cloned());
        self.back.put_right(&mut events);
        for event in &events {
            if let ChatEvent::Failed(failure) = event {
                return Err((**failure).clone());
            }
            self.encoder.encode(event, &mut self.out);
        }
        Ok(())
    }
}
