//! Requests as clients write them, and what is read of them.

use super::*;
use crate::canon::{Part, Role};
use bytes::Bytes;
use polygate_core::Kind;

fn read(members: &str) -> Result<ChatRequest, Failure> {
    let text = format!(r#"{{"contents":[{{"parts":[{{"text":"hi"}}]}}]{members}}}"#);
    decode(&RawObject::parse(Bytes::from(text)).expect("an object"))
}

/// A request with this `generationConfig`.
fn config(text: &str) -> ChatRequest {
    read(&format!(r#","generationConfig":{text}"#)).expect("a request")
}

fn extra(request: &ChatRequest) -> Vec<&str> {
    request
        .extra
        .iter()
        .map(|given| given.at.as_str())
        .collect()
}

#[test]
fn sampling_in_both_spellings() {
    for text in [
        r#"{"temperature":0.5,"topP":0.9,"topK":40.0,"maxOutputTokens":"100","seed":-7,
            "stopSequences":["x"],"presencePenalty":1,"frequencyPenalty":"-1","candidateCount":1,
            "responseLogprobs":true,"logprobs":3,"responseModalities":["TEXT"]}"#,
        r#"{"temperature":0.5,"top_p":0.9,"top_k":40,"max_output_tokens":100.0,"seed":"-7",
            "stop_sequences":["x"],"presence_penalty":1,"frequency_penalty":-1,"candidate_count":"1",
            "response_logprobs":true,"logprobs":"3","response_modalities":["text"]}"#,
    ] {
        let request = config(text);
        let value = |given: &Option<Given<f64>>| given.as_ref().map(|given| given.value);
        assert_eq!(value(&request.temperature), Some(0.5));
        assert_eq!(value(&request.top_p), Some(0.9));
        assert_eq!(value(&request.presence_penalty), Some(1.0));
        assert_eq!(value(&request.frequency_penalty), Some(-1.0));
        let count = |given: &Option<Given<u64>>| given.as_ref().map(|given| given.value);
        assert_eq!(count(&request.top_k), Some(40));
        assert_eq!(count(&request.max_tokens), Some(100));
        assert_eq!(count(&request.logprobs), Some(3));
        assert_eq!(request.seed.as_ref().map(|given| given.value), Some(-7));
        assert_eq!(
            request.stop.as_ref().map(|given| given.value.len()),
            Some(1)
        );
        assert!(request.extra.is_empty(), "{:?}", request.extra);
        let at = request.max_tokens.map(|given| given.at).unwrap_or_default();
        let written = at.strip_prefix("/generationConfig/").unwrap_or_default();
        assert!(text.contains(&format!("\"{written}\"")), "{at}");
    }
    assert!(
        config(r#"{"responseLogprobs":false,"logprobs":3}"#)
            .logprobs
            .is_none()
    );
    let asked = config(r#"{"responseLogprobs":true}"#).logprobs;
    assert_eq!(
        asked,
        Some(Given::new(0, "/generationConfig/responseLogprobs"))
    );
}

#[test]
fn the_rest_is_kept_where_it_stood() {
    let request = read(
        r#","safetySettings":[{"category":"X"}],"labels":{"a":"b"},"a/b":1,"store":null,"toolConfig":{},
        "generation_config":{"response_modalities":["TEXT","IMAGE"],"candidateCount":2,"speechConfig":{"x":1}},
        "tools":[{"googleSearch":{},"function_declarations":[{"name":"f","behavior":"BLOCKING","response":{"type":"STRING"}}]}],
        "tool_config":{"retrievalConfig":{"languageCode":"en"}}"#,
    );
    let request = request.expect("a request");
    let mut places = extra(&request);
    places.sort_unstable();
    assert_eq!(
        places,
        [
            "/a~1b",
            "/generation_config/candidateCount",
            "/generation_config/response_modalities",
            "/generation_config/speechConfig",
            "/labels",
            "/safetySettings",
            "/tool_config/retrievalConfig",
            "/tools/0/function_declarations/0/behavior",
            "/tools/0/function_declarations/0/response",
            "/tools/0/googleSearch",
        ]
    );
    assert_eq!(request.source, Some(Format::Gemini));
    assert!(request.include_usage && !request.stream);
}

#[test]
fn instructions_come_first() {
    for (json, at) in [
        (
            r#""systemInstruction":{"role":"user","parts":[{"text":"be"}]}"#,
            "/systemInstruction/parts/0",
        ),
        (
            r#""system_instruction":{"parts":{"text":"be"}}"#,
            "/system_instruction/parts",
        ),
    ] {
        let request = read(&format!(",{json}")).expect("a request");
        let roles: Vec<Role> = request
            .messages
            .iter()
            .map(|message| message.role)
            .collect();
        assert_eq!(roles, [Role::System, Role::User]);
        let part = request
            .messages
            .first()
            .and_then(|message| message.parts.first());
        assert_eq!(part, Some(&Given::new(Part::Text("be".to_owned()), at)));
    }
    let request = read(r#","systemInstruction":{"parts":[]},"model":"models/x""#);
    let request = request.expect("a request");
    assert_eq!((request.messages.len(), request.model.as_str()), (1, "x"));
}

#[test]
fn choices_of_tools() {
    let allowed = |required| {
        Some(ToolChoice::Allowed {
            names: vec!["f".to_owned(), "g".to_owned()],
            required,
        })
    };
    let cases: [(&str, Option<ToolChoice>, &[&str]); 8] = [
        (r#"{"mode":"AUTO"}"#, Some(ToolChoice::Auto), &[]),
        (r#"{"mode":"none"}"#, Some(ToolChoice::None), &[]),
        (r#"{"mode":"ANY"}"#, Some(ToolChoice::Required), &[]),
        (
            r#"{"mode":"ANY","allowedFunctionNames":["f"]}"#,
            Some(ToolChoice::Named("f".to_owned())),
            &[],
        ),
        (
            r#"{"mode":"ANY","allowed_function_names":["f","g"]}"#,
            allowed(true),
            &[],
        ),
        (
            r#"{"mode":"VALIDATED"}"#,
            Some(ToolChoice::Auto),
            &["/toolConfig/functionCallingConfig/mode"],
        ),
        (
            r#"{"mode":"VALIDATED","allowedFunctionNames":["f","g"]}"#,
            allowed(false),
            &["/toolConfig/functionCallingConfig/mode"],
        ),
        ("{}", None, &[]),
    ];
    for (json, choice, lost) in cases {
        let request = read(&format!(
            r#","toolConfig":{{"functionCallingConfig":{json}}}"#
        ));
        let request = request.expect("a request");
        assert_eq!(extra(&request), lost, "{json}");
        assert_eq!(
            request.tool_choice.map(|given| given.value),
            choice,
            "{json}"
        );
    }
}

#[test]
fn schemas_become_json_schemas() {
    for (google, expected) in [
        (
            r#"{"type":"OBJECT","properties":{"type":{"type":"STRING","nullable":true,"enum":["a"]},
                "any_of":{"type":"ARRAY","items":{"type":"INTEGER","format":"int32"},"min_items":"1","maxItems":3}},
                "required":["type"],"propertyOrdering":["type"]}"#,
            r#"{"type":"object","properties":{"type":{"type":["string","null"],"enum":["a",null]},
                "any_of":{"type":"array","items":{"type":"integer","format":"int32"},"minItems":1,"maxItems":3}},
                "required":["type"]}"#,
        ),
        (
            r#"{"any_of":[{"type":"NUMBER","minimum":"0.5"},{"type":"NULL"}],"nullable":true,"default":{"type":"X"}}"#,
            r#"{"anyOf":[{"type":"number","minimum":0.5},{"type":"null"},{"type":"null"}],"default":{"type":"X"}}"#,
        ),
        (
            r##"{"ref":"#/defs/a","defs":{"a":{"type":"TYPE_UNSPECIFIED","example":1}}}"##,
            r##"{"$ref":"#/$defs/a","$defs":{"a":{"examples":[1]}}}"##,
        ),
        (
            r#"{"type":["string","null"],"x-y_z":1}"#,
            r#"{"type":["string","null"],"x-y_z":1}"#,
        ),
    ] {
        let request = read(&format!(
            r#","tools":{{"functionDeclarations":[{{"name":"f","parameters":{google}}},
                {{"name":"g","description":"","parameters_json_schema":{google}}}]}}"#
        ));
        let request = request.expect("a request");
        let [f, g] = request.tools.as_slice() else {
            panic!("{:?}", request.tools);
        };
        let value = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        assert_eq!(
            f.parameters().map(|raw| value(raw.get())),
            Some(value(expected))
        );
        assert_eq!(g.parameters().map(RawValue::get), Some(google));
        assert_eq!(
            (f.at.as_str(), &g.description),
            ("/tools/functionDeclarations/0", &None)
        );
    }
}

#[test]
fn shapes_of_output() {
    type Case<'a> = (&'a str, Option<(&'a str, &'a str)>, &'a [&'a str]);
    let cases: [Case<'_>; 8] = [
        (r#"{"responseMimeType":"text/plain"}"#, None, &[]),
        (
            r#"{"response_mime_type":"application/json"}"#,
            Some(("object", "response_mime_type")),
            &[],
        ),
        (
            r#"{"responseMimeType":"application/json","responseSchema":{"type":"STRING"}}"#,
            Some((r#"{"type":"string"}"#, "responseSchema")),
            &[],
        ),
        (
            r#"{"responseMimeType":"application/json","response_json_schema":{"type": "STRING"}}"#,
            Some((r#"{"type": "STRING"}"#, "response_json_schema")),
            &[],
        ),
        (
            r#"{"responseMimeType":"text/x.enum","response_schema":{"enum":["a"]}}"#,
            Some((r#"{"enum":["a"]}"#, "response_schema")),
            &[],
        ),
        (
            r#"{"responseMimeType":"text/x.enum"}"#,
            None,
            &["responseMimeType"],
        ),
        (
            r#"{"responseMimeType":"audio/x"}"#,
            None,
            &["responseMimeType"],
        ),
        (
            r#"{"responseMimeType":"text/plain","responseSchema":{"a":1}}"#,
            None,
            &["responseSchema"],
        ),
    ];
    for (json, expected, lost) in cases {
        let request = config(json);
        let lost: Vec<_> = lost
            .iter()
            .map(|name| format!("/generationConfig/{name}"))
            .collect();
        assert_eq!(extra(&request), lost, "{json}");
        let shape = request.output.map(|given| match given.value {
            OutputShape::JsonObject => ("object".to_owned(), given.at),
            OutputShape::JsonSchema { schema, .. } => (schema.get().to_owned(), given.at),
        });
        let expected =
            expected.map(|(shape, name)| (shape.to_owned(), format!("/generationConfig/{name}")));
        assert_eq!(shape, expected, "{json}");
    }
}

#[test]
fn thinking_in_tokens_and_levels() {
    for (json, thinking, show, lost) in [
        (
            r#"{"thinkingBudget":-1,"includeThoughts":true}"#,
            Some(Thinking::Auto),
            Some(true),
            0,
        ),
        (r#"{"thinking_budget":0}"#, Some(Thinking::Off), None, 0),
        (
            r#"{"thinkingBudget":"512","include_thoughts":false}"#,
            Some(Thinking::Budget(512)),
            Some(false),
            0,
        ),
        (
            r#"{"thinkingLevel":"HIGH"}"#,
            Some(Thinking::Effort(Effort::High)),
            None,
            0,
        ),
        (r#"{"thinking_level":"strange","other":1}"#, None, None, 2),
    ] {
        let request = config(&format!(r#"{{"thinkingConfig":{json}}}"#));
        assert_eq!(
            request.thinking.map(|given| given.value),
            thinking,
            "{json}"
        );
        assert_eq!(
            request.show_thinking.map(|given| given.value),
            show,
            "{json}"
        );
        assert_eq!(request.extra.len(), lost, "{json}");
    }
}

#[test]
fn what_cannot_be_asked_elsewhere_is_refused() {
    let failure = read(r#","cachedContent":"cachedContents/x""#).expect_err("refused");
    assert_eq!(failure.kind, Kind::Untranslatable);
    assert_eq!(failure.param.as_deref(), Some("cachedContent"));
    for (json, place) in [
        (
            r#","generationConfig":{"topP":"x"}"#,
            "generationConfig.topP",
        ),
        (
            r#","generationConfig":{"max_output_tokens":-1}"#,
            "generationConfig.max_output_tokens",
        ),
        (
            r#","tools":[{"functionDeclarations":[{}]}]"#,
            "tools[0].functionDeclarations[0].name",
        ),
        (r#","tools":7"#, "tools"),
    ] {
        let failure = read(json).expect_err(json);
        assert_eq!(failure.kind, Kind::InvalidRequest, "{json}");
        assert_eq!(failure.param.as_deref(), Some(place), "{json}");
    }
    let empty = RawObject::parse(Bytes::from_static(b"{\"contents\":null}")).expect("an object");
    assert_eq!(
        decode(&empty).expect_err("empty").param.as_deref(),
        Some("contents")
    );
}
