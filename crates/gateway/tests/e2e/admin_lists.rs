//! Lists of the admin API: what is asked for, page by page, of the file and of the database.

use http::Method;
use serde_json::{Value, json};

use crate::admin_documents::{GET, POST, ask_as, asked, file};
use crate::support::{ADMIN_KEY, Gate, mock};

const PRICES: &str = "price_overrides:
  - {model: own-*, provider: own, price: {input: 0.15, output: 0.6, long_prompt: {above: 1000, input: 0.3, output: 1.2}}, date: 2026-11}
  - {model: own-model, price: {input: 1, output: 2}}
";

async fn list(gate: &Gate, path: &str) -> Value {
    asked(gate, GET, path, Value::Null, 200).await
}

fn ids(list: &Value, member: &str) -> Vec<String> {
    let items = list[member].as_array().expect("a list").iter();
    items
        .map(|item| item["id"].as_str().expect("an id").to_owned())
        .collect()
}

/// All pages of one each.
async fn paged(gate: &Gate, path: &str, member: &str) -> Vec<String> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = list(gate, &format!("{path}&limit=1{cursor}")).await;
        all.extend(ids(&page, member));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

async fn gate() -> Gate {
    let own = mock("own").await;
    let gate = Gate::start(&format!("{}{PRICES}", file(&own)));
    for team in ["red", "blue"] {
        asked(&gate, POST, "teams", json!({"name": team}), 201).await;
    }
    for body in [
        json!({"id": "ali-1", "team": "red"}),
        json!({"id": "other", "name": "ali by name"}),
        json!({"id": "ali-2", "team": "red", "is_enabled": false}),
        json!({"id": "bob", "team": "blue"}),
    ] {
        asked(&gate, POST, "master-keys", body, 201).await;
    }
    gate
}

#[tokio::test]
async fn lists_have_what_is_asked_for() {
    let gate = gate().await;
    for (query, expected) in [
        ("name=ali", vec!["ali-1", "other", "ali-2"]),
        ("name=fil", vec!["filed"]),
        ("name=li", vec![]),
        ("team=red", vec!["ali-1", "ali-2"]),
        ("team=red&enabled=true", vec!["ali-1"]),
        ("enabled=false", vec!["ali-2"]),
        ("enabled=true", vec!["filed", "ali-1", "other", "bob"]),
    ] {
        let path = format!("master-keys?{query}");
        let found = list(&gate, &path).await;
        assert_eq!(ids(&found, "keys"), expected, "{query}");
        assert_eq!(found["next_cursor"], Value::Null);
        assert_eq!(paged(&gate, &path, "keys").await, expected, "{query}");
    }
    let found = list(&gate, "teams?name=r").await;
    assert_eq!(ids(&found, "teams"), ["red"]);
    let found = list(&gate, "providers?name=own&enabled=true").await;
    assert_eq!(ids(&found, "providers"), ["own"]);
    for (path, word) in [
        ("models?enabled=true", "enabled"),
        ("providers?team=red", "team"),
        ("master-keys?enabled=maybe", "enabled"),
        ("audit?since=yesterday", "since"),
        ("audit?who=me", "who"),
    ] {
        let refused = asked(&gate, GET, path, Value::Null, 400).await;
        assert!(refused.to_string().contains(word), "{path}: {refused}");
    }
}

#[tokio::test]
async fn prices_of_the_file_are_listed_beside_those_of_the_database() {
    let gate = gate().await;
    let made = json!({"model": "own-model", "price": {"input": 3, "output": 4}});
    asked(&gate, POST, "prices", made, 201).await;
    let found = list(&gate, "prices").await;
    assert_eq!(
        ids(&found, "prices"),
        ["own/own-*", "own-model", "own-model"]
    );
    let sources: Vec<_> = (0..3).map(|at| &found["prices"][at]["source"]).collect();
    assert_eq!(sources, ["file", "file", "database"]);
    let first = &found["prices"][0];
    assert_eq!(
        (&first["model"], &first["provider"], &first["date"]),
        (&json!("own-*"), &json!("own"), &json!("2026-11"))
    );
    let price = json!({"input": 0.15, "output": 0.6, "long_prompt": {"above": 1000, "input": 0.3, "output": 1.2}});
    assert_eq!(first["price"], price, "{first}");
    assert_eq!(
        ids(&list(&gate, "prices?name=own/").await, "prices"),
        ["own/own-*"]
    );
    let one = list(&gate, "prices/own%2Fown-*").await;
    assert_eq!(&one, first);
    let change = json!({"date": "now"});
    let refused = asked(&gate, Method::PUT, "prices/own%2Fown-*", change, 409).await;
    assert_eq!(refused["error"]["code"], "in_file", "{refused}");
}

#[tokio::test]
async fn the_audit_log_is_searched_by_who_what_and_when() {
    let gate = gate().await;
    let body = json!({"id": "reader", "role": "read_only"});
    let made = asked(&gate, POST, "master-keys", body, 201).await;
    let reader = made["key"].as_str().expect("a key");
    let refused = ask_as(&gate, reader, POST, "teams", &[], &json!({"name": "x"})).await;
    assert_eq!(refused.status, 403);
    let found = async |query: &str| {
        let answer = list(&gate, &format!("audit?{query}")).await;
        let entries = answer["entries"].as_array().expect("entries").clone();
        entries
            .iter()
            .map(|entry| entry["number"].as_i64().expect("a number"))
            .collect::<Vec<_>>()
    };
    let everything = found("").await;
    assert_eq!(everything.len(), 8);
    assert_eq!(found("actor=reader").await, everything[..1]);
    assert_eq!(found("actor=admin@127.").await, everything[1..]);
    assert_eq!(found("action=create&limit=2").await.len(), 2);
    assert_eq!(found("actor=admin&action=nothing").await, [0; 0]);
    assert_eq!(found("since=2020-01-01&until=4000000000").await, everything);
    assert_eq!(found("until=2020-01-01").await, [0; 0]);
    let page = list(&gate, "audit?actor=admin&limit=3").await;
    let cursor = page["next_cursor"].as_str().expect("a cursor");
    let rest = found(&format!("actor=admin&cursor={cursor}")).await;
    assert_eq!(rest, everything[4..]);
    assert_eq!(list(&gate, "audit").await["next_cursor"], Value::Null);
    // No name has it, and no database takes it.
    let reply = ask_as(&gate, ADMIN_KEY, GET, "audit?actor=%00", &[], &Value::Null).await;
    assert_eq!(reply.status, 400);
}
