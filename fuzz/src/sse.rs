//! Every cut gives the same frames, and what passes is what came, without its byte order mark.

use bytes::Bytes;
use polygate_wire::sse::frames;
use polygate_wire::{Format, Frame, Framer, dialect};

/// The bytes that pass, and the events in them.
type Told = (Vec<u8>, Vec<(Option<String>, Vec<u8>)>);

/// The target.
pub fn run(data: &[u8]) {
    let whole = told(&[data]);
    for (event, data) in &whole.1 {
        sniff(event.as_deref(), data);
    }
    let passed = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
    assert_eq!(whole.0, passed, "what passes is what came");
    for (how, pieces) in crate::cuts(data) {
        assert_eq!(told(&pieces), whole, "{how}");
    }
    // A parser takes any bytes, not only what a framer cut.
    let _ = Frame::parse(data);
}

fn told(pieces: &[&[u8]]) -> Told {
    let mut framer = Framer::new();
    let mut told = Told::default();
    for piece in pieces {
        let block = framer.push(Bytes::copy_from_slice(piece)).expect("short");
        read(&block, &mut told);
    }
    let inside = framer.is_inside_frame();
    let rest = framer.finish();
    // A mark that came alone is taken off what is left.
    assert!(inside || rest.is_empty(), "a rest of no frame");
    read(&rest, &mut told);
    told
}

fn read(block: &Bytes, told: &mut Told) {
    let mut joined = 0;
    for raw in frames(block) {
        assert!(!raw.is_empty(), "a frame of nothing");
        joined += raw.len();
        let frame = Frame::parse(&raw);
        if !frame.is_empty() {
            let event = frame.event.map(str::to_owned);
            told.1.push((event, frame.data.into_owned()));
        }
    }
    assert_eq!(joined, block.len(), "frames are the block");
    told.0.extend_from_slice(block);
}

/// What every format takes an event for; only that nothing panics.
fn sniff(event: Option<&str>, data: &[u8]) {
    let data = data.into();
    let frame = Frame { event, data };
    for format in Format::ALL {
        let _ = dialect(format).sniff(&frame);
    }
}
