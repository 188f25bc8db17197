//! Properties that hold for any bytes: nothing panics, cuts do not matter, edits touch only what they name.

use bytes::Bytes;
use polygate_wire::array::ArrayCutter;
use polygate_wire::raw::{Edit, quote};
use polygate_wire::sse::{FRAME_LIMIT, Framer, frames};
use polygate_wire::{Bridge, Format, Frame, Quirks, RawObject, Target, dialect, egress, ingress};
use proptest::prelude::*;

/// Cuts bytes where the numbers say.
fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places
        .windows(2)
        .map(|pair| &bytes[pair[0]..pair[1]])
        .collect()
}

fn events(pieces: &[&[u8]]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut framer = Framer::new();
    let mut blocks: Vec<Bytes> = pieces
        .iter()
        .filter_map(|piece| framer.push(Bytes::copy_from_slice(piece)).ok())
        .collect();
    blocks.push(framer.finish());
    let data = blocks
        .iter()
        .flat_map(frames)
        .map(|raw| Frame::parse(&raw).data.into_owned())
        .filter(|data| !data.is_empty());
    let data = data.collect();
    (blocks.concat(), data)
}

/// Bytes that look like event streams more often than chance would have it.
fn stream_like() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(b"data: ".to_vec()),
        Just(b"data:{\"a\":1}".to_vec()),
        Just(b"event: x".to_vec()),
        Just(b": comment".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"\n\n".to_vec()),
        Just("é😀".as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

/// JSON of the names and words that formats know, in any arrangement.
fn json_like() -> impl Strategy<Value = serde_json::Value> {
    const WORDS: [&str; 22] = [
        "type",
        "message",
        "content",
        "delta",
        "text",
        "error",
        "choices",
        "usage",
        "role",
        "tool_calls",
        "function",
        "arguments",
        "index",
        "candidates",
        "parts",
        "finishReason",
        "content_block_delta",
        "message_start",
        "response.completed",
        "output",
        "item",
        "user",
    ];
    let word = (0..WORDS.len()).prop_map(|at| WORDS[at].to_owned());
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        word.clone().prop_map(Into::into),
        ".{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec((word.clone(), inner), 0..6)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn frames_are_the_same_however_the_bytes_are_cut(bytes in stream_like(), cuts in prop::collection::vec(any::<usize>(), 0..8)) {
        let whole = events(&[&bytes]);
        let cut = events(&pieces(&bytes, &cuts));
        prop_assert_eq!(&cut, &whole);
        let passed = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        prop_assert_eq!(&whole.0, passed, "what passes is what came");
        prop_assert!(bytes.len() < FRAME_LIMIT);
    }

    #[test]
    fn arrays_pass_unchanged_however_they_are_cut(bytes in prop::collection::vec(any::<u8>(), 0..200), cuts in prop::collection::vec(any::<usize>(), 0..8)) {
        let mut cutter = ArrayCutter::default();
        let mut passed = Vec::new();
        for piece in pieces(&bytes, &cuts) {
            passed.extend_from_slice(&cutter.push(Bytes::copy_from_slice(piece)).expect("short"));
        }
        passed.extend_from_slice(&cutter.finish());
        prop_assert_eq!(passed, bytes);
    }

    #[test]
    fn an_edit_changes_the_member_it_names_and_nothing_else(
        members in prop::collection::btree_map("[a-z\\\\\"é]{1,6}", json_like(), 0..6),
        space in "[ \\n\\t]{0,2}",
        model in ".{0,10}",
    ) {
        let body: Vec<String> = members.iter().map(|(name, value)| format!("{space}{}{space}:{space}{value}{space}", quote(name))).collect();
        let text = format!("{{{}}}", body.join(","));
        let object = RawObject::parse(Bytes::from(text)).expect("an object");
        let edited = RawObject::parse(object.edit(&[Edit::Set("model", &quote(&model))])).expect("still an object");
        let said = edited.string("model").expect("a string").map(std::borrow::Cow::into_owned);
        prop_assert_eq!(said, Some(model));
        for (name, value) in object.iter().filter(|(name, _)| *name != "model") {
            prop_assert_eq!(edited.get(name), Some(value), "byte for byte");
        }
        let removed = RawObject::parse(edited.edit(&[Edit::Remove("model")])).expect("still an object");
        prop_assert!(removed.get("model").is_none());
        prop_assert_eq!(removed.iter().count(), object.iter().filter(|(name, _)| *name != "model").count());
    }

    #[test]
    fn no_bytes_make_any_format_panic(bytes in prop_oneof![stream_like(), json_like().prop_map(|json| json.to_string().into_bytes())]) {
        for format in Format::ALL {
            let dialect = dialect(format);
            let _ = dialect.check_answer(&bytes);
            let _ = dialect.decode_error(&bytes);
            let frame = Frame { event: None, data: bytes.as_slice().into() };
            let _ = dialect.sniff(&frame);
            let egress = egress(format);
            let _ = egress.decode_response(&bytes);
            let mut decoder = egress.stream_decoder();
            let mut out = Vec::new();
            let _ = decoder.decode(&frame, &mut out);
            let _ = decoder.finish(&mut out);
        }
    }

    #[test]
    fn no_request_makes_a_translation_panic(messages in json_like(), tools in json_like(), rest in json_like()) {
        let body = serde_json::json!({
            "model": "m", "messages": messages, "input": messages, "contents": messages, "tools": tools,
            "response_format": rest, "stop": rest, "generationConfig": rest, "text": rest, "output_config": rest,
        });
        let object = RawObject::parse(Bytes::from(body.to_string())).expect("an object");
        for client in Format::ALL {
            let Some(request) = ingress(client).and_then(|ingress| ingress.decode_request(&object).ok()) else { continue };
            for upstream in Format::ALL {
                let mut request = request.clone();
                let _ = Bridge::build(&mut request, upstream, "m");
                let target = Target { model: "m", quirks: &Quirks::default() };
                let _ = egress(upstream).encode_request(&request, &target);
            }
        }
    }
}
