//! Contents as clients write them, and the turns that they are.

use super::*;
use crate::canon::MediaSource::Base64;

fn read(text: &str) -> (Vec<Message>, Vec<String>) {
    let mut reader = Reader::default();
    let messages = reader.contents(text, "/contents").expect("contents");
    let unknown = reader.unknown.into_iter().map(|given| given.at);
    (messages, unknown.collect())
}

/// Parts of one content with these, and what of it is unknown.
fn parts(text: &str) -> (Vec<(Part, String)>, Vec<String>) {
    let (mut messages, unknown) = read(&format!(r#"{{"role":"model","parts":{text}}}"#));
    let parts = messages.remove(0).parts.into_iter();
    (
        parts.map(|given| (given.value, given.at)).collect(),
        unknown,
    )
}

fn google(data: &str) -> Option<Opaque> {
    Some(Opaque {
        issuer: Issuer::Google,
        data: data.to_owned(),
        id: None,
        is_redacted: false,
    })
}

#[test]
fn parts_are_read() {
    let media = |source, mime: &str| Media {
        source,
        mime: Some(mime.to_owned()),
        ..Media::default()
    };
    let googles = |id: &str| MediaSource::FileId {
        id: id.to_owned(),
        keeper: Issuer::Google,
    };
    let thought = |text: &str, opaque| {
        Part::Reasoning(Reasoning {
            text: text.to_owned(),
            opaque,
        })
    };
    let call = |id: &str, arguments: &str, opaque| {
        Part::ToolCall(ToolCall {
            id: id.to_owned(),
            name: "f".to_owned(),
            arguments: arguments.to_owned(),
            kind: CallKind::Function,
            opaque,
        })
    };
    let text = |text: &str| Part::Text(text.to_owned());
    let cases: [(&str, Option<Part>, &[&str]); 15] = [
        (r#"{"text":"hi","thought":null}"#, Some(text("hi")), &[]),
        (r#"{"text":""}"#, None, &[]),
        (
            r#"{"text":"hi","thoughtSignature":"c2ln"}"#,
            Some(text("hi")),
            &["thoughtSignature"],
        ),
        (
            r#"{"text":"","thought_signature":"c2ln"}"#,
            None,
            &["thought_signature"],
        ),
        (
            r#"{"text":"hm","thought":true}"#,
            Some(thought("hm", None)),
            &[],
        ),
        (
            r#"{"text":"hm","thought":true,"thought_signature":"c2ln"}"#,
            Some(thought("hm", google("c2ln"))),
            &[],
        ),
        (
            r#"{"thought":true,"thoughtSignature":"c2ln"}"#,
            Some(thought("", google("c2ln"))),
            &[],
        ),
        (
            r#"{"functionCall":{"id":"a","name":"f","args":{"x": 1.0}},"thoughtSignature":"c2ln"}"#,
            Some(call("a", r#"{"x": 1.0}"#, google("c2ln"))),
            &[],
        ),
        (
            r#"{"function_call":{"name":"f","args":null,"will_continue":true}}"#,
            Some(call("call_0_0", "{}", None)),
            &["function_call/will_continue"],
        ),
        (
            r#"{"inline_data":{"mime_type":"image/png","data":"-_8"},"mediaResolution":{"level":"LOW"}}"#,
            Some(Part::Image(media(Base64("+/8=".to_owned()), "image/png"))),
            &["mediaResolution"],
        ),
        (
            r#"{"inlineData":{"mimeType":"audio/wav","data":"AAAA"}}"#,
            Some(Part::Audio(media(Base64("AAAA".to_owned()), "audio/wav"))),
            &[],
        ),
        (
            r#"{"fileData":{"mimeType":"video/mp4","fileUri":"gs://b/v"},"videoMetadata":{"fps":1}}"#,
            Some(Part::File(media(googles("gs://b/v"), "video/mp4"))),
            &["videoMetadata"],
        ),
        (
            r#"{"executableCode":{"code":"1","language":"PYTHON"}}"#,
            None,
            &["executableCode"],
        ),
        (
            r#"{"codeExecutionResult":{}}"#,
            None,
            &["codeExecutionResult"],
        ),
        ("{}", None, &[]),
    ];
    for (json, expected, lost) in cases {
        let (parts, unknown) = parts(&format!("[{json}]"));
        let at = "/contents/parts/0";
        let expected: Vec<_> = expected
            .into_iter()
            .map(|part| (part, at.to_owned()))
            .collect();
        let lost: Vec<_> = lost.iter().map(|name| format!("{at}/{name}")).collect();
        assert_eq!((parts, unknown), (expected, lost), "{json}");
    }
    // One part without a list.
    let (parts, _) = parts(r#"{"text":"hi"}"#);
    assert_eq!(parts, [(text("hi"), "/contents/parts".to_owned())]);
}

#[test]
fn roles_are_known_ones() {
    let roles = r#"[{"parts":[]},{"role":"user"},{"role":"function"},{"role":"model","x":1}]"#;
    let (messages, unknown) = read(roles);
    let roles: Vec<Role> = messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::User, Role::User, Role::User, Role::Assistant]);
    assert_eq!(
        messages.last().map(|message| message.at.as_str()),
        Some("/contents/3")
    );
    assert_eq!(unknown, ["/contents/3/x"]);
}

#[test]
fn what_cannot_be_read_is_named() {
    for (parts, place) in [
        (r#"[{"text":7}]"#, "contents[0].parts[0].text"),
        (r#"[{},7]"#, "contents[0].parts[1]"),
        (
            r#"[{"functionCall":{"args":{}}}]"#,
            "contents[0].parts[0].functionCall.name",
        ),
        (
            r#"[{"functionCall":{"name":"f","args":"{}"}}]"#,
            "contents[0].parts[0].functionCall.args",
        ),
        (
            r#"[{"inline_data":{"mimeType":"x"}}]"#,
            "contents[0].parts[0].inline_data.data",
        ),
        (
            r#"[{"functionResponse":{}}]"#,
            "contents[0].parts[0].functionResponse.name",
        ),
    ] {
        let text = format!(r#"[{{"parts":{parts}}}]"#);
        let failure = Reader::default()
            .contents(&text, "/contents")
            .expect_err(parts);
        assert_eq!(failure.param.as_deref(), Some(place));
    }
    let text = r#"[{"role":"assistant","parts":[]}]"#;
    let failure = Reader::default()
        .contents(text, "/contents")
        .expect_err("no role");
    assert_eq!(failure.param.as_deref(), Some("contents[0].role"));
}

#[test]
fn responses_find_their_calls() {
    let (messages, _) = read(
        r#"[{"role":"model","parts":[
            {"functionCall":{"name":"f"}},{"functionCall":{"name":"g","id":"own"}},{"functionCall":{"name":"f"}}]},
        {"role":"user","parts":[
            {"functionResponse":{"name":"f","response":{}}},
            {"functionResponse":{"id":"own","response":{}}},
            {"functionResponse":{"id":"strange","name":"f","response":{}}},
            {"functionResponse":{"name":"f","response":{}}}]},
        {"role":"model","parts":[{"functionCall":{"name":"g"}}]},
        {"role":"model","parts":[{"functionCall":{"name":"h"}}]},
        {"role":"user","parts":[{"functionResponse":{"name":"h"}},{"functionResponse":{"name":"g"}}]},
        {"role":"model","parts":[{"functionCall":{"name":"f","id":"left"}}]},
        {"role":"model","parts":[{"text":"no"}]},
        {"role":"user","parts":[{"text":"again"}]},
        {"role":"model","parts":[{"functionCall":{"name":"f"}}]},
        {"role":"user","parts":[{"functionResponse":{"name":"f"}},{"functionResponse":{"name":"f"}}]}]"#,
    );
    let parts = messages.iter().flat_map(|message| &message.parts);
    let ids = parts.filter_map(|part| match &part.value {
        Part::ToolCall(call) => Some(format!("{}={}", call.name, call.id)),
        Part::ToolResult(result) => Some(format!(
            "{}:{}",
            result.name.as_deref().unwrap_or("?"),
            result.call_id
        )),
        _ => None,
    });
    assert_eq!(
        ids.collect::<Vec<_>>().join(" "),
        "f=call_0_0 g=own f=call_0_2 f:call_0_0 g:own f:call_0_2 f:call_1_3 \
         g=call_2_0 h=call_3_0 h:call_3_0 g:call_2_0 f=left f=call_8_0 f:call_8_0 f:left"
    );
}

#[test]
fn answers_of_functions() {
    for (json, text, error) in [
        (r#"{"result":"ok"}"#, "ok", None),
        (r#"{"output":"o\nk"}"#, "o\nk", None),
        (r#"{"error":"no"}"#, "no", Some("error")),
        (r#"{"result":7}"#, r#"{"result":7}"#, None),
        (r#"{"result":"a", "b":1}"#, r#"{"result":"a", "b":1}"#, None),
        (r#"{"temp": 1.50}"#, r#"{"temp": 1.50}"#, None),
        (r#""bare""#, "bare", None),
    ] {
        let part = format!(r#"[{{"function_response":{{"name":"f","response":{json}}}}}]"#);
        let (parts, _) = parts(&part);
        let Some((Part::ToolResult(result), _)) = parts.first() else {
            panic!("{json}: {parts:?}");
        };
        let at = "/contents/parts/0/function_response/response";
        assert_eq!(
            result.content,
            [Given::new(Part::Text(text.to_owned()), at)]
        );
        let error = error.map(|name| Given::new(true, format!("{at}/{name}")));
        assert_eq!(result.error, error);
    }
    let (parts, unknown) = parts(
        r#"[{"functionResponse":{"name":"f","response":{"result":"see"},"scheduling":"SILENT",
            "parts":[{"inlineData":{"mimeType":"image/png","data":"AAAA"}},{"other":1}]}}]"#,
    );
    let Some((Part::ToolResult(result), _)) = parts.first() else {
        panic!("{parts:?}");
    };
    let places: Vec<&str> = result.content.iter().map(|part| part.at.as_str()).collect();
    let at = "/contents/parts/0/functionResponse";
    assert_eq!(places, [format!("{at}/response"), format!("{at}/parts/0")]);
    assert_eq!(
        unknown,
        [format!("{at}/parts/1/other"), format!("{at}/scheduling")]
    );
}
