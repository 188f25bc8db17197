//! A gateway that is told to stop with its hands full: every call ends as it should, and has a record that says how.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use polygate_mock_provider::{Behaviour, Fault, Mock, Rule};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Gate, calls, chat, mock, until};

fn script(mock: &Mock, model: &str, then: Behaviour) {
    mock.script(Rule {
        model: Some(model.to_owned()),
        then,
        ..Rule::default()
    });
}

fn words(tokens: u32, token_ms: u64) -> Behaviour {
    Behaviour {
        token_ms,
        tokens: Some(tokens),
        ..Behaviour::default()
    }
}

async fn text(mut body: Incoming) -> String {
    let mut text = String::new();
    while let Some(Ok(frame)) = body.frame().await {
        text.push_str(&String::from_utf8_lossy(frame.data_ref().expect("data")));
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_streams_and_what_waits_all_end_with_a_record() {
    let mock = mock("p").await;
    script(&mock, "ends", words(60, 20));
    script(&mock, "endless", words(2_000, 20));
    script(
        &mock,
        "silent",
        Behaviour {
            fault: Some(Fault::Stall),
            ..Behaviour::default()
        },
    );
    let unread = Behaviour {
        text: Some(vec!["x".repeat(10_000); 2000].join(" ")),
        ..Behaviour::default()
    };
    script(&mock, "unread", unread);
    let mut gate = Gate::start(&format!(
        "server: {{shutdown_grace: 2}}\ntimeouts: {{hold: 200ms}}\nproviders: [{{name: p, type: mock, api_base: '{}', api_key: k}}]\nhealth_check: {{enabled: false}}",
        mock.url()
    ));
    let ask = async |model: &str, stream: bool| {
        let (body, headers) = (chat(model, stream), [("content-type", "application/json")]);
        let answer = gate.send(
            Method::POST,
            "/v1/chat/completions",
            &headers,
            body.to_string(),
        );
        answer.await
    };
    let unread = join_all((0..5).map(async |_| {
        let mut socket = TcpStream::connect(gate.address()).await.expect("connected");
        let body = chat("unread", true).to_string();
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(request.as_bytes()).await.expect("sent");
        socket
    }))
    .await;
    let endless = join_all((0..50).map(|_| ask("endless", true))).await;
    // Behind a head that went out before there was an answer.
    let behind = join_all((0..10).map(|_| ask("silent", true))).await;
    let ends = join_all((0..150).map(|_| ask("ends", true))).await;
    assert!(
        endless
            .iter()
            .chain(&behind)
            .chain(&ends)
            .all(|answer| answer.status() == 200)
    );
    let waiting = join_all((0..20).map(|_| ask("silent", false)));
    let told = async {
        until("all are asked", || calls(&mock).len() == 235).await;
        gate.signal("TERM");
    };
    let bodies = |answers: Vec<http::Response<Incoming>>| {
        join_all(answers.into_iter().map(|answer| text(answer.into_body())))
    };
    let (waiting, (), ends, endless, behind) =
        tokio::join!(waiting, told, bodies(ends), bodies(endless), bodies(behind));
    for text in &ends {
        assert!(
            text.ends_with("data: [DONE]\n\n") && !text.contains("stopping"),
            "{text}"
        );
    }
    for text in endless.iter().chain(&behind) {
        assert!(
            text.contains("stopping") && !text.contains("[DONE]"),
            "{text}"
        );
    }
    for answer in waiting {
        assert_eq!(answer.status(), 503);
        assert!(text(answer.into_body()).await.contains("stopping"));
    }
    let began = std::time::Instant::now();
    assert_eq!(gate.wait().code(), Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    drop(unread);
    let log = gate.log();
    let records = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let records: Vec<Value> = records
        .filter(|line: &Value| line["outcome"].is_string())
        .collect();
    let count = |model: &str, outcome: &str| {
        let these = records.iter();
        let these = these.filter(|record| record["model"] == model && record["outcome"] == outcome);
        these.count()
    };
    assert_eq!(records.len(), 235);
    assert_eq!(count("ends", "completed"), 150);
    assert_eq!(count("endless", "failed"), 50);
    assert_eq!(count("silent", "failed"), 30);
    let silent = records.iter().filter(|record| record["model"] == "silent");
    for record in silent {
        assert_eq!(
            (&record["status"], &record["error"]),
            (&503.into(), &"unavailable".into())
        );
    }
}
