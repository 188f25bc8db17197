//! What callers and upstreams should not send: clear errors in the client's format, nothing leaked, nothing panics.

use http::Method;
use polygate_mock_provider::{Behaviour, Fault, Rule};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::metrics::sum;
use crate::support::{Gate, calls, chat, mock, until};

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn bad_requests_get_clear_errors_and_reach_no_upstream() {
    let mock = mock("p").await;
    let gate = Gate::start(&format!(
        "providers: [{{name: p, type: mock, api_base: '{}', api_key: k, model_mapping: [m]}}]\nhealth_check: {{enabled: false}}",
        mock.url()
    ));
    let cases: [(&str, u16, &str); 14] = [
        ("", 400, "empty"),
        ("{", 400, "not valid JSON"),
        ("[]", 400, "must be a JSON object"),
        ("nonsense", 400, "not valid JSON"),
        ("{\"model\":\"m\"}{}", 400, "not valid JSON"),
        ("{\"messages\":[]}", 400, "'model' is missing"),
        ("{\"model\":7}", 400, "'model' must be a string"),
        ("{\"model\":null}", 400, "'model' must be a string"),
        ("{\"model\":\"\"}", 400, "'model' is empty"),
        ("{\"model\":\"m\",\"model\":\"m\"}", 400, "more than once"),
        ("{\"model\":\"m\",\"Model\":\"x\"}", 400, "more than once"),
        (
            "{\"model\":\"m\",\"stream\":\"yes\"}",
            400,
            "'stream' must be true or false",
        ),
        (
            "{\"model\":\"nope\"}",
            404,
            "no provider here has a model 'nope'",
        ),
        ("{\"model\":\"m\\ud800\"}", 400, "'model' must be a string"),
    ];
    for (body, status, says) in cases {
        for path in [
            "/v1/chat/completions",
            "/v1/messages",
            "/v1/responses",
            "/v1/embeddings",
        ] {
            let reply = gate.ask(Method::POST, path, &[JSON], body).await;
            let message = reply.json()["error"]["message"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            assert_eq!(reply.status, status, "{path} {body}: {message}");
            assert!(message.contains(says), "{path} {body}: {message}");
            assert_eq!(reply.header("x-polygate-origin"), "gateway");
        }
    }
    let wrong_type = gate
        .ask(
            Method::POST,
            "/v1/chat/completions",
            &[("content-type", "text/plain")],
            chat("m", false).to_string(),
        )
        .await;
    assert_eq!(wrong_type.status, 415);
    let packed = gate
        .ask(
            Method::POST,
            "/v1/chat/completions",
            &[JSON, ("content-encoding", "gzip")],
            "x",
        )
        .await;
    assert_eq!(packed.status, 415);
    assert_eq!(
        gate.ask(Method::GET, "/v1/chat/completions", &[], "")
            .await
            .status,
        405
    );
    assert_eq!(gate.get("/v2/nothing").await.status, 404);
    assert_eq!(
        gate.get("/v1beta/nothing").await.json()["error"]["status"],
        "NOT_FOUND"
    );
    assert!(calls(&mock).is_empty());
    assert!(!gate.log().contains("panicked"));
}

#[tokio::test]
async fn the_body_limit_is_real_and_its_refusal_readable() {
    let mock = mock("p").await;
    let gate = Gate::start(&format!(
        "server: {{body_limit: 1MiB}}\nproviders: [{{name: p, type: mock, api_base: '{}', api_key: k, model_mapping: [m]}}]\nhealth_check: {{enabled: false}}",
        mock.url()
    ));
    let body = |bytes: usize| {
        json!({"model": "m", "messages": [{"role": "user", "content": "x".repeat(bytes)}]})
            .to_string()
    };
    assert_eq!(
        gate.ask(
            Method::POST,
            "/v1/chat/completions",
            &[JSON],
            body(1_000_000)
        )
        .await
        .status,
        200
    );
    for (path, code) in [
        ("/v1/chat/completions", "request_too_large"),
        ("/v1/responses", "request_too_large"),
    ] {
        let reply = gate
            .ask(Method::POST, path, &[JSON], body(20_000_000))
            .await;
        assert_eq!(
            (
                reply.status.as_u16(),
                reply.json()["error"]["code"].as_str()
            ),
            (413, Some(code))
        );
    }
    let reply = gate
        .ask(Method::POST, "/v1/messages", &[JSON], body(2_000_000))
        .await;
    assert_eq!(reply.json()["error"]["type"], "request_too_large");
}

#[tokio::test]
async fn upstream_nonsense_is_a_typed_502_that_leaks_nothing() {
    let mock = mock("p").await;
    let gate = Gate::start(&format!(
        "providers: [{{name: p, type: mock, api_base: '{}', api_key: sk-upstream-secret, model_mapping: [m]}}]\nretry: {{max_retries: 0, breaker_threshold: 1000, max_cooldown: 1s}}\nhealth_check: {{enabled: false}}",
        mock.url()
    ));
    let faults = [
        Fault::Html,
        Fault::Empty,
        Fault::Junk,
        Fault::Endless,
        Fault::CutAfter(0),
        Fault::Redirect("http://127.0.0.1:1/".to_owned()),
    ];
    for fault in faults {
        for stream in [false, true] {
            mock.clear();
            mock.script(Rule {
                then: Behaviour {
                    fault: Some(fault.clone()),
                    ..Behaviour::default()
                },
                ..Rule::default()
            });
            if fault == Fault::Endless && !stream {
                // Too long to hold, it passes, and never ends: nothing to read to the end here.
                continue;
            }
            let reply = gate.post("/v1/chat/completions", &chat("m", stream)).await;
            assert_eq!(
                (reply.status.as_u16(), reply.header("x-polygate-origin")),
                (502, "provider"),
                "{fault:?} {}",
                reply.text()
            );
            assert!(!reply.text().contains("127.0.0.1"), "{}", reply.text());
        }
    }
    mock.clear();
    let echo = Behaviour {
        status: Some(400),
        error: Some("bad key sk-upstream-secret".to_owned()),
        ..Behaviour::default()
    };
    mock.script(Rule {
        then: echo,
        ..Rule::default()
    });
    let reply = gate.post("/v1/chat/completions", &chat("m", false)).await;
    assert!(
        !reply.text().contains("sk-upstream-secret") && !gate.log().contains("sk-upstream-secret"),
        "{}",
        reply.text()
    );
    assert_eq!(reply.status, 400);
    assert!(!gate.log().contains("panicked"));
}

#[tokio::test]
async fn request_ids_are_kept_where_harmless() {
    let mock = mock("p").await;
    let gate = Gate::start(&format!(
        "providers: [{{name: p, type: mock, api_base: '{}', api_key: k, model_mapping: [m]}}]\nhealth_check: {{enabled: false}}",
        mock.url()
    ));
    let ask = async |id: &str| {
        let reply = gate
            .ask(
                Method::POST,
                "/v1/chat/completions",
                &[JSON, ("x-request-id", id)],
                chat("m", false).to_string(),
            )
            .await;
        reply.header("x-request-id").to_owned()
    };
    assert_eq!(ask("trace-1.2_3:4").await, "trace-1.2_3:4");
    for odd in ["", "with space", "<script>", &"x".repeat(200)] {
        assert_eq!(ask(odd).await.len(), 32, "{odd}");
    }
}

#[tokio::test]
async fn heads_that_are_too_long_or_no_heads_are_refused_in_words() {
    let mock = mock("p").await;
    let gate = Gate::start(&format!(
        "providers: [{{name: p, type: mock, api_base: '{}', api_key: k, model_mapping: [m]}}]\nhealth_check: {{enabled: false}}",
        mock.url()
    ));
    let long = |length: usize| {
        format!(
            "GET / HTTP/1.1\r\nhost: x\r\na: {}\r\nconnection: close\r\n\r\n",
            "x".repeat(length)
        )
    };
    let many = "x: y\r\n".repeat(101);
    for (sent, status, says) in [
        (long(63_000), "200 OK", "\"ok\""),
        (
            long(66_000),
            "431 Request Header Fields Too Large",
            "64 KiB",
        ),
        (
            format!("GET / HTTP/1.1\r\n{many}\r\n"),
            "431 Request Header Fields Too Large",
            "100",
        ),
        (
            "GET / HTTP/1.1\r\nno header\r\n\r\n".to_owned(),
            "400 Bad Request",
            "cannot be read",
        ),
    ] {
        let mut socket = TcpStream::connect(gate.address()).await.expect("connected");
        socket.write_all(sent.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        // Of a head that is not read to its end the connection ends with a reset, behind the answer.
        while let Ok(length @ 1..) = socket.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..length]);
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{status} {answer}"
        );
        let body = answer.split_once("\r\n\r\n").expect("a body").1;
        assert!(body.contains(says), "{answer}");
        assert!(
            serde_json::from_str::<serde_json::Value>(body).is_ok(),
            "{answer}"
        );
        if !status.starts_with("200") {
            let id = answer.split_once("\r\nx-request-id: ").expect("an id").1;
            let id = &id[..32];
            assert!(body.contains(id), "{answer}");
            until("it is said", || gate.log().contains(id)).await;
        }
    }
    let page = gate.get("/metrics").await.text();
    let counted = |status| {
        sum(
            &page,
            "llm_proxy_requests_total",
            &[("status_code", status)],
        )
    };
    assert_eq!((counted("431"), counted("400")), (2, 1), "{page}");
}
