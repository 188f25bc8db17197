//! The mock's own promises: a ledger that agrees with what went out, rules that are used up, control over HTTP.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use polygate_mock_provider::{Behaviour, Endpoint, Fault, Mock, Options, Outcome, Rule};

async fn ask(mock: &Mock, method: Method, path: &str, body: &str) -> (u16, String, bool) {
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::builder()
        .method(method)
        .uri(format!("{}{path}", mock.url()));
    let request = request
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .expect("a request");
    let Ok(answer) = client.request(request).await else {
        return (0, String::new(), false);
    };
    let status = answer.status().as_u16();
    let (mut body, mut text) = (answer.into_body(), String::new());
    loop {
        match body.frame().await {
            Some(Ok(frame)) => text.push_str(&String::from_utf8_lossy(
                frame.data_ref().unwrap_or(&Bytes::new()),
            )),
            Some(Err(_)) => return (status, text, false),
            None => return (status, text, true),
        }
    }
}

const CHAT: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"Hello"}]}"#;

#[tokio::test]
async fn the_ledger_says_what_was_served_and_how_it_ended() {
    let mock = Mock::start(Options::default()).await.expect("a mock");
    let faults = [
        (None, true, Outcome::Completed),
        (Some(Fault::CutAfter(2)), false, Outcome::Faulted),
        (Some(Fault::ResetAfter(2)), false, Outcome::Faulted),
        (Some(Fault::EndAfter(2)), true, Outcome::Faulted),
        (Some(Fault::HalfAfter(2)), true, Outcome::Faulted),
        (Some(Fault::Refuse), false, Outcome::Faulted),
    ];
    for (fault, clean, outcome) in faults {
        mock.clear();
        mock.script(Rule {
            then: Behaviour {
                fault: fault.clone(),
                ..Behaviour::default()
            },
            ..Rule::default()
        });
        let (_, text, ended) = ask(&mock, Method::POST, "/v1/chat/completions", CHAT).await;
        assert_eq!(ended, clean, "{fault:?}");
        let entry = mock.ledger().pop().expect("an entry");
        assert_eq!(
            (entry.endpoint, entry.outcome, entry.stream),
            (Endpoint::Chat, outcome, true),
            "{fault:?}"
        );
        let events = text.matches("data: ").count();
        if entry.status == 200 {
            assert_eq!(events, entry.events_sent as usize, "{fault:?}");
        }
    }
}

#[tokio::test]
async fn odd_answers_are_whole_and_wrong_lengths_are_not() {
    let mock = Mock::start(Options::default()).await.expect("a mock");
    let faults = [
        Fault::EarlyHints,
        Fault::CloseDelimited,
        Fault::Pieces(16),
        Fault::Length(10),
    ];
    for fault in faults {
        mock.clear();
        mock.script(Rule {
            then: Behaviour {
                fault: Some(fault.clone()),
                ..Behaviour::default()
            },
            ..Rule::default()
        });
        let (status, text, ended) = ask(&mock, Method::POST, "/v1/chat/completions", CHAT).await;
        assert_eq!((status, ended), (200, true), "{fault:?}");
        if let Fault::Length(length) = fault {
            assert_eq!(text.len(), length as usize);
        } else {
            assert!(text.ends_with("data: [DONE]\n\n"), "{fault:?} {text}");
        }
    }
}

#[tokio::test]
async fn rules_fit_models_and_paths_and_are_used_up() {
    let mock = Mock::start(Options::default()).await.expect("a mock");
    let rule = r#"[{"model":"m*","path":"chat","times":2,"then":{"status":503,"headers":{"retry-after":"3"}}},{"then":{"text":"scripted"}}]"#;
    assert_eq!(ask(&mock, Method::POST, "/_mock/script", rule).await.0, 200);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(
            ask(&mock, Method::POST, "/v1/chat/completions", CHAT)
                .await
                .0,
        );
    }
    assert_eq!(statuses, [503, 503, 200]);
    let (_, text, _) = ask(
        &mock,
        Method::POST,
        "/v1/completions",
        r#"{"model":"m","prompt":"x"}"#,
    )
    .await;
    assert!(text.contains("scripted"), "{text}");
    assert_eq!(
        ask(&mock, Method::POST, "/_mock/script", "{\"thn\":1}")
            .await
            .0,
        400
    );
    let (_, ledger, _) = ask(&mock, Method::GET, "/_mock/ledger", "").await;
    let entries: Vec<serde_json::Value> = serde_json::from_str(&ledger).expect("a list");
    assert_eq!(entries.len(), 4, "control is not in the ledger");
}

#[tokio::test]
async fn a_key_that_is_asked_for_must_be_shown() {
    let mock = Mock::start(Options {
        api_key: Some("k".to_owned()),
        ..Options::default()
    })
    .await
    .expect("a mock");
    assert_eq!(ask(&mock, Method::POST, "/v1/messages", "{}").await.0, 401);
    let (status, text, _) = ask(
        &mock,
        Method::POST,
        "/v1beta/models/m:generateContent?key=k",
        r#"{"contents":[]}"#,
    )
    .await;
    assert_eq!(status, 200, "{text}");
}

#[tokio::test]
async fn thoughts_come_first_and_answers_fit_the_schema_that_is_asked_for() {
    let mock = Mock::start(Options::default()).await.expect("a mock");
    mock.script(Rule {
        then: Behaviour {
            thought: Some("Well then".to_owned()),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let schema = r#"{"type":"object","properties":{"city":{"type":"string"}}}"#;
    let asked = [
        (
            "/v1/chat/completions",
            format!(r#"{{"model":"m","response_format":{{"json_schema":{{"schema":{schema}}}}}}}"#),
        ),
        (
            "/v1/responses",
            format!(r#"{{"model":"m","input":"x","text":{{"format":{{"schema":{schema}}}}}}}"#),
        ),
        (
            "/v1/messages",
            format!(r#"{{"model":"m","output_config":{{"format":{{"schema":{schema}}}}}}}"#),
        ),
        (
            "/v1beta/models/m:generateContent",
            format!(r#"{{"generationConfig":{{"responseJsonSchema":{schema}}}}}"#),
        ),
    ];
    for (path, body) in asked {
        let (_, text, _) = ask(&mock, Method::POST, path, &body).await;
        let thought = text.find("Well then");
        let answer = text.find(r#"{\"city\":\"Paris\"}"#);
        assert!(thought.is_some() && answer.is_some(), "{path}: {text}");
    }
}
