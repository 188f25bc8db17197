//! Shaping: what a provider is sent, by configuration and request. The cases are text files; UPDATE_GOLDEN=1 writes them anew.
//!
//! In a file the configuration is indented, with `$MOCK` for the provider's address; `>` is a call, `<` what the provider got of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use http::Method;
use polygate_mock_provider::Entry;
use serde_json::json;

use crate::admin_documents::{POST, asked};
use crate::support::{Gate, calls, chat, mock};

/// Headers that every request has, and those of keys.
const USUAL: [&str; 9] = [
    "accept",
    "api-key",
    "authorization",
    "content-length",
    "content-type",
    "host",
    "x-api-key",
    "x-goog-api-key",
    "x-polygate-hops",
];

/// Pseudonyms are of this key: they stay the same.
const SECRET: (&str, &str) = ("POLYGATE_SECRET_KEY", "a-secret-for-golden-files");

/// A call of a file.
#[derive(Default)]
struct Call {
    target: String,
    headers: Vec<(String, String)>,
    body: String,
}

/// A file: everything before its calls as it stands, and these.
struct Case {
    head: String,
    config: String,
    calls: Vec<Call>,
}

impl Case {
    fn read(text: &str) -> Case {
        let is_call = |line: &&str| line.starts_with('>');
        let head: Vec<&str> = text.lines().take_while(|line| !is_call(line)).collect();
        let config = head.iter().filter_map(|line| line.strip_prefix("    "));
        let config: Vec<&str> = config.collect();
        let mut calls: Vec<Call> = Vec::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("> ")) {
            if let Some(target) = line.strip_prefix("POST ") {
                calls.push(Call {
                    target: target.to_owned(),
                    ..Call::default()
                });
                continue;
            }
            let call = calls.last_mut().expect("a call");
            match line.split_once(": ").filter(|_| !line.starts_with('{')) {
                Some((name, value)) => call.headers.push((name.to_owned(), value.to_owned())),
                None => line.clone_into(&mut call.body),
            }
        }
        Case {
            head: head.join("\n"),
            config: config.join("\n"),
            calls,
        }
    }

    /// The file with what came of its calls.
    async fn played(&self) -> String {
        let mock = mock("p").await;
        let config = self.config.replace("$MOCK", &mock.url());
        let gate = Gate::start_with(&config, &[SECRET]);
        let mut names = BTreeMap::new();
        let mut out = self.head.clone();
        for call in &self.calls {
            let _ = write!(out, "\n> POST {}", call.target);
            for (name, value) in &call.headers {
                let _ = write!(out, "\n> {name}: {value}");
            }
            let _ = writeln!(out, "\n> {}", call.body);
            let before = calls(&mock).len();
            let headers: Vec<(&str, &str)> = call
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            let reply = gate
                .ask(Method::POST, &call.target, &headers, call.body.clone())
                .await;
            if reply.status != 200 {
                let _ = writeln!(out, "< {}: {}", reply.status.as_u16(), reply.text().trim());
            }
            for entry in calls(&mock).iter().skip(before) {
                out.push_str(&seen(entry, &mut names));
            }
        }
        out
    }
}

/// What the provider got. Pseudonyms are numbered: those of a file that are the same have one number.
fn seen(entry: &Entry, names: &mut BTreeMap<String, usize>) -> String {
    let mut out = format!("< {} {}\n", entry.method, entry.path);
    for (name, value) in &entry.headers {
        if !USUAL.contains(&name.as_str()) && !value.starts_with("polygate/") {
            let _ = writeln!(out, "< {name}: {value}");
        }
    }
    let body = entry.body.as_ref().expect("bodies are kept");
    let mut body = String::from_utf8_lossy(body).into_owned();
    let is_hex =
        |part: &&str| part.len() == 32 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let found: Vec<String> = body.split('"').filter(is_hex).map(str::to_owned).collect();
    for name in found {
        let number = names.len() + 1;
        let number = *names.entry(name.clone()).or_insert(number);
        body = body.replace(&name, &format!("pseudonym {number}"));
    }
    let _ = writeln!(out, "< {body}");
    out
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/shaping");
    let entries = std::fs::read_dir(folder).expect("the folder").flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn providers_are_sent_what_the_files_say() {
    let files = files();
    assert!(!files.is_empty());
    let mut stale = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a file");
        let played = Case::read(&text).played().await;
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&file, played).expect("written");
        } else if played != text {
            stale.push(format!("{}:\n{played}", file.display()));
        }
    }
    assert!(
        stale.is_empty(),
        "UPDATE_GOLDEN=1 writes them anew:\n{}",
        stale.join("\n")
    );
}

#[tokio::test]
async fn explanations_and_reservations_have_the_operators_words_in_them() {
    let mock = mock("p").await;
    let prompt = "word ".repeat(1000);
    let mut tokens = Vec::new();
    for mode in ["never", "always"] {
        let gate = Gate::start(&format!(
            "providers: [{{name: p, type: openai, api_base: '{}', api_key: k, model_mapping: [m], cloak: {{mode: {mode}, system-prompt: '{prompt}'}}}}]\nhealth_check: {{enabled: false}}",
            mock.url()
        ));
        let body = json!({"body": chat("m", false)});
        let explanation = asked(&gate, POST, "explain", body, 200).await;
        let altered = match mode {
            "never" => json!([]),
            _ => json!(["/user", "/messages"]),
        };
        assert_eq!(explanation["candidates"][0]["altered"], altered);
        tokens.push(explanation["input_tokens"].as_u64().expect("a number"));
    }
    assert_eq!(tokens[1] - tokens[0], prompt.trim().len() as u64 / 4);
}

#[tokio::test]
async fn limits_reserve_the_most_that_rules_may_make_of_a_call() {
    let mock = mock("p").await;
    let gate = Gate::start(&format!(
        "
providers: [{{name: p, type: openai-compatible, wire_api: chat, api_base: '{}', api_key: k, model_mapping: [m, other]}}]
master_keys: [{{name: poor, key: sk-poor-0123456789, limits: {{tokens_per_day: 3000}}}}]
payload:
  override:
    - {{models: [m], when: {{stream: true}}, params: {{max_tokens: 5000, words.-: {{a: 1}}}}}}
health_check: {{enabled: false}}",
        mock.url()
    ));
    let ask = async |model: &str, stream: bool| {
        let mut body = chat(model, stream);
        body["max_tokens"] = json!(10);
        let headers = [("authorization", "Bearer sk-poor-0123456789")];
        let path = "/v1/chat/completions";
        let reply = gate.ask(Method::POST, path, &headers, body.to_string());
        (reply.await.status.as_u16(), body)
    };
    assert_eq!(ask("other", true).await.0, 200);
    assert_eq!(ask("m", false).await.0, 200);
    let (status, body) = ask("m", true).await;
    assert_eq!((status, calls(&mock).len()), (429, 2), "nobody is asked");

    let explanation = asked(
        &gate,
        POST,
        "explain",
        json!({"body": body, "key": "poor"}),
        200,
    )
    .await;
    assert_eq!(explanation["output_tokens"], 5000);
    let rules = &explanation["candidates"][0]["rules"];
    assert_eq!(
        *rules,
        json!(["override[0] max_tokens", "override[0] words.-"])
    );
}

#[tokio::test]
async fn what_a_rule_cannot_do_is_said() {
    let mock = mock("p").await;
    let gate = Gate::start(&format!(
        "
providers: [{{name: p, type: openai-compatible, wire_api: chat, api_base: '{}', api_key: k, model_mapping: [m]}}]
payload: {{default: [{{params: {{metadata.team: blue, user: u, tools.-1.strict: true, stop.0: x}}}}]}}
health_check: {{enabled: false}}",
        mock.url()
    ));
    let mut body = chat("m", false);
    body["metadata"] = json!("text");
    body["stop"] = json!([]);
    let explanation = asked(&gate, POST, "explain", json!({"body": body}), 200).await;
    let rules = &explanation["candidates"][0]["rules"];
    assert_eq!(
        *rules,
        json!([
            "default[0] metadata.team: there is something else on the way to it, or no such item",
            "default[0] user",
            "default[0] tools.-1.strict: there is something else on the way to it, or no such item",
            "default[0] stop.0: there is something else on the way to it, or no such item"
        ])
    );
}
