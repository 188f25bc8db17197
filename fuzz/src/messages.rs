//! AWS's binary messages: every cut gives the same events, each of them whole, and what was written is read.

use bytes::Bytes;
use polygate_wire::Frame;
use polygate_wire::event_stream::{EventStream, encode};
use polygate_wire::sse::frames;

/// Events, and whether a message broke.
type Told = (Vec<u8>, bool);

/// The target.
pub fn run(data: &[u8]) {
    same_however_cut(data);
    let mut summed = data.to_vec();
    put_checksums_right(&mut summed);
    same_however_cut(&summed);
    let (events, is_broken) = told(&[&encode("contentBlockDelta", data)]);
    assert!(!is_broken, "what was written is a message");
    let found: Vec<Bytes> = frames(&events.into()).collect();
    let [raw] = found.as_slice() else {
        panic!("{} events of one message", found.len());
    };
    assert_eq!(Frame::parse(raw).event, Some("contentBlockDelta"));
}

fn same_however_cut(data: &[u8]) {
    let whole = told(&[data]);
    for (how, pieces) in crate::cuts(data) {
        assert_eq!(told(&pieces), whole, "{how}");
    }
}

fn told(pieces: &[&[u8]]) -> Told {
    let mut machine = EventStream::default();
    let mut told = Told::default();
    for piece in pieces {
        match machine.push(Bytes::copy_from_slice(piece)) {
            Ok(events) => {
                assert!(
                    events.is_empty() || events.ends_with(b"\n\n"),
                    "whole events"
                );
                told.0.extend_from_slice(&events);
            }
            Err(_) => told.1 = true,
        }
    }
    told.1 |= machine.finish().is_err();
    told
}

/// Bytes that are changed at random hardly ever have the sums that they should: without this nothing behind them is reached.
fn put_checksums_right(data: &mut [u8]) {
    let total = data.len();
    let (Some(length), true) = (u32::try_from(total).ok(), total >= 16) else {
        return;
    };
    data[..4].copy_from_slice(&length.to_be_bytes());
    let sum = crc32fast::hash(&data[..8]);
    data[8..12].copy_from_slice(&sum.to_be_bytes());
    let sum = crc32fast::hash(&data[..total - 4]);
    data[total - 4..].copy_from_slice(&sum.to_be_bytes());
}
