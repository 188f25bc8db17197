//! The admin API over documents: what is written is in force when it is answered, secrets stay hidden, and errors name the field.

use http::{Method, StatusCode};
use polygate_mock_provider::Mock;
use serde_json::{Value, json};

use crate::support::{ADMIN_KEY, Gate, Reply, calls, chat, mock};

/// A request with a key of one's own.
pub async fn ask_as(
    gate: &Gate,
    key: &str,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> Reply {
    let bearer = format!("Bearer {key}");
    let mut all = vec![
        ("authorization", &*bearer),
        ("content-type", "application/json"),
    ];
    all.extend(headers);
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    gate.ask(method, &format!("/admin/v1/{path}"), &all, body)
        .await
}

/// A request of the admin.
pub async fn ask(gate: &Gate, method: Method, path: &str, body: Value) -> Reply {
    ask_as(gate, ADMIN_KEY, method, path, &[], &body).await
}

/// The same with the status that is expected.
pub async fn asked(gate: &Gate, method: Method, path: &str, body: Value, status: u16) -> Value {
    let said = format!("{method} {path} {body}");
    let reply = ask(gate, method, path, body).await;
    assert_eq!(reply.status, status, "{said}: {}", reply.text());
    match reply.body.is_empty() {
        true => Value::Null,
        false => reply.json(),
    }
}

pub const GET: Method = Method::GET;
pub const POST: Method = Method::POST;
pub const PUT: Method = Method::PUT;
pub const DELETE: Method = Method::DELETE;

/// A file with one provider, one model and one key of its own.
pub fn file(mock: &Mock) -> String {
    format!(
        "providers: [{{name: own, type: mock, api_base: '{}', api_key: sk-of-the-file, model_mapping: [own-model]}}]\n\
         models: {{named: {{targets: [{{provider: own, model: own-model}}]}}}}\n\
         master_keys: [{{name: filed, key: sk-file-key}}]\n\
         health_check: {{enabled: false}}\n",
        mock.url()
    )
}

/// What a call with a key comes to.
pub async fn call(gate: &Gate, key: &str, model: &str) -> StatusCode {
    let headers = [
        ("authorization", &*format!("Bearer {key}")),
        ("content-type", "application/json"),
    ];
    let body = chat(model, false).to_string();
    gate.ask(POST, "/v1/chat/completions", &headers, body)
        .await
        .status
}

#[tokio::test]
async fn a_provider_is_made_changed_and_deleted_and_each_is_in_force_at_once() {
    let (own, other) = (mock("own").await, mock("other").await);
    let gate = Gate::start(&file(&own));
    let body = json!({
        "id": "openai-main", "provider_type": "mock", "api_base": other.url(), "api_key": "sk-of-the-database",
        "model_mapping": {"theirs": "m"}, "weight": 2,
    });
    let made = asked(&gate, POST, "providers", body, 201).await;
    assert_eq!(call(&gate, "sk-file-key", "theirs").await, 200);
    let entry = calls(&other).pop().expect("a call");
    assert!(
        format!("{entry:?}").contains("sk-of-the-database"),
        "{entry:?}"
    );
    for (name, value) in [
        ("id", json!("openai-main")),
        ("provider_key", json!("openai-main")),
        ("provider_type", json!("mock")),
        ("api_base", json!(other.url())),
        ("model_mapping", json!({"theirs": "m"})),
        ("weight", json!(2)),
        ("is_enabled", json!(true)),
        ("provider_params", json!({})),
        ("source", json!("database")),
        ("api_key", json!("sk-***ase")),
    ] {
        assert_eq!(made[name], value, "{name}: {made}");
    }
    assert!(made["created_at"].as_str().expect("a text").ends_with('Z'));

    // By number and by name; in the list beside the file's.
    let number = made["number"].as_i64().expect("a number");
    let path = format!("providers/{number}");
    assert_eq!(asked(&gate, GET, &path, Value::Null, 200).await, made);
    let list = asked(&gate, GET, "providers", Value::Null, 200).await;
    assert_eq!(list["version"], 1);
    let sources: Vec<&Value> = list["providers"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| &one["source"])
        .collect();
    assert_eq!(sources, ["file", "database"]);
    assert_eq!(list["providers"][1], made);

    // What is sent replaces, null clears, what was shown may be sent back.
    let mut back = made.clone();
    back["model_mapping"] = json!({"mine": "m"});
    back["weight"] = Value::Null;
    let changed = asked(&gate, PUT, "providers/openai-main", back, 200).await;
    assert_eq!(
        (&changed["weight"], &changed["api_key"]),
        (&json!(1), &json!("sk-***ase"))
    );
    assert_eq!(call(&gate, "sk-file-key", "theirs").await, 404);
    assert_eq!(call(&gate, "sk-file-key", "mine").await, 200);
    let entry = calls(&other).pop().expect("a call");
    assert!(
        format!("{entry:?}").contains("sk-of-the-database"),
        "the secret stayed: {entry:?}"
    );
    let off = asked(&gate, PUT, &path, json!({"is_enabled": false}), 200).await;
    assert_eq!(off["is_enabled"], false);
    assert_ne!(call(&gate, "sk-file-key", "mine").await, 200);

    asked(&gate, DELETE, "providers/openai-main", Value::Null, 204).await;
    asked(&gate, GET, "providers/openai-main", Value::Null, 404).await;
    asked(&gate, DELETE, &path, Value::Null, 404).await;
    let log = gate.log();
    assert!(!log.contains("sk-of-the"), "{log}");
}

#[tokio::test]
async fn what_is_wrong_is_told_by_field_and_changes_nothing() {
    let own = mock("own").await;
    let gate = Gate::start(&file(&own));
    let good = json!({"id": "p", "provider_type": "mock", "api_base": own.url(), "api_key": "sk-1234567890ab"});
    asked(&gate, POST, "providers", good.clone(), 201).await;
    for (method, path, body, status, field) in [
        (POST, "providers", good.clone(), 409, ""),
        (
            POST,
            "providers",
            json!({"provider_type": "mock"}),
            422,
            "provider_key",
        ),
        (
            POST,
            "providers",
            json!({"id": "q", "provider_type": "nonsense", "api_key": "k"}),
            422,
            "",
        ),
        (
            POST,
            "providers",
            json!({"id": "q", "api_bsae": "http://h"}),
            422,
            "api_bsae",
        ),
        (
            POST,
            "providers",
            json!({"id": "q", "weight": "much", "api_key": "k"}),
            422,
            "weight",
        ),
        (
            POST,
            "providers",
            json!({"id": "q", "is_enabled": "perhaps", "api_key": "k"}),
            422,
            "is_enabled",
        ),
        (
            POST,
            "providers",
            json!({"id": "q", "api_key": 5}),
            422,
            "api_key",
        ),
        (
            POST,
            "providers",
            json!({"id": "q", "api_key": "sealed:1:00"}),
            422,
            "api_key",
        ),
        (
            POST,
            "providers",
            json!({"id": "own", "provider_type": "mock"}),
            409,
            "",
        ),
        (PUT, "providers/own", json!({"weight": 2}), 409, ""),
        (DELETE, "providers/own", Value::Null, 409, ""),
        (PUT, "providers/none", json!({"weight": 2}), 404, ""),
        (
            PUT,
            "providers/p",
            json!({"provider_key": "q"}),
            422,
            "provider_key",
        ),
        (
            PUT,
            "providers/p",
            json!({"model_mapping": {"a": {"mapped_model": 5, "x": 1}}}),
            422,
            "model_mapping.a.x",
        ),
        (
            POST,
            "models",
            json!({"name": "m", "targets": [{"provider": "gone"}]}),
            422,
            "targets[0].provider",
        ),
        (
            POST,
            "models",
            json!({"name": "m", "targets": []}),
            422,
            "targets",
        ),
        (
            POST,
            "master-keys",
            json!({"id": "k", "rate_limit": {"burst_size": 1}}),
            422,
            "rate_limit.requests_per_second",
        ),
        (
            POST,
            "master-keys",
            json!({"id": "k", "key": "short"}),
            422,
            "key",
        ),
        (
            POST,
            "master-keys",
            json!({"id": "k", "key_hash": "00"}),
            422,
            "key_hash",
        ),
        (POST, "master-keys", json!({"id": "filed"}), 409, ""),
        (
            POST,
            "master-keys",
            json!({"id": "k", "allowed_models": ["["]}),
            422,
            "allowed_models[0]",
        ),
    ] {
        let answer = asked(&gate, method, path, body.clone(), status).await;
        let error = &answer["error"];
        assert_eq!(
            error["field"].as_str().unwrap_or_default(),
            field,
            "{path} {body}: {answer}"
        );
        assert!(
            error["message"].is_string()
                && error["code"].is_string()
                && error["origin"] == "gateway"
        );
    }
    let version = asked(&gate, GET, "config/version", Value::Null, 200).await;
    assert_eq!(
        (&version["version"], &version["store_version"]),
        (&json!(1), &json!(1))
    );
    for (method, path, body) in [
        (POST, "providers", "{"),
        (POST, "providers", "[1]"),
        (PUT, "providers/p", " "),
        (PUT, "providers/p", "\"x\""),
    ] {
        let bearer = format!("Bearer {ADMIN_KEY}");
        let reply = gate
            .ask(
                method,
                &format!("/admin/v1/{path}"),
                &[("authorization", &*bearer)],
                body,
            )
            .await;
        assert_eq!(reply.status, 400, "{}", reply.text());
    }
    for query in [
        "limit=0",
        "limit=x",
        "limit=1001",
        "cursor=x",
        "offset=1",
        "limit=1&limit=2",
    ] {
        asked(&gate, GET, &format!("providers?{query}"), Value::Null, 400).await;
    }
    for (method, path) in [(Method::PATCH, "providers"), (DELETE, "audit")] {
        let reply = ask(&gate, method, path, Value::Null).await;
        assert_eq!(reply.status, 405, "{}", reply.text());
        assert!(!reply.header("allow").is_empty());
    }
    asked(&gate, GET, "nonsense", Value::Null, 404).await;
}

#[tokio::test]
async fn keys_are_shown_once_and_open_at_once() {
    let own = mock("own").await;
    let gate = Gate::start(&file(&own));
    let made = asked(
        &gate,
        POST,
        "master-keys",
        json!({"name": "alice", "rate_limit": {"requests_per_second": 100, "burst_size": 50}}),
        201,
    )
    .await;
    let key = made["key"].as_str().expect("shown once").to_owned();
    assert!(key.starts_with("sk-pg-") && key.len() == 48, "{key}");
    assert_eq!(call(&gate, &key, "own-model").await, 200);
    assert_eq!(
        made["rate_limit"],
        json!({"requests_per_second": 100, "burst_size": 50})
    );
    let read = asked(&gate, GET, "credentials/alice", Value::Null, 200).await;
    assert!(!read.to_string().contains(&key) && read.get("key").is_none());
    assert_eq!(read["key_preview"], format!("{}-***", &key[..14]));

    // As llm-proxy has them: brought, and by either name.
    let brought = json!({"id": "key-2", "key": "sk-brought-by-the-user", "name": "Bob", "allowed_models": ["other"], "is_enabled": true});
    let bob = asked(&gate, POST, "credentials", brought, 201).await;
    assert_eq!(
        (&bob["id"], &bob["name"], &bob["key_preview"]),
        (&json!("key-2"), &json!("Bob"), &json!("sk-***ser"))
    );
    assert!(bob.get("key").is_none());
    assert_eq!(
        call(&gate, "sk-brought-by-the-user", "own-model").await,
        403
    );
    let bob = asked(
        &gate,
        PUT,
        "master-keys/key-2",
        json!({"allowed_models": [], "name": "Robert"}),
        200,
    )
    .await;
    assert_eq!(
        (&bob["id"], &bob["name"]),
        (&json!("key-2"), &json!("Robert"))
    );
    assert_eq!(
        call(&gate, "sk-brought-by-the-user", "own-model").await,
        200
    );
    for path in ["master-keys", "credentials"] {
        let list = asked(&gate, GET, path, Value::Null, 200).await;
        let member = if path == "credentials" {
            "credentials"
        } else {
            "keys"
        };
        let names: Vec<&Value> = list[member]
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| &one["id"])
            .collect();
        assert_eq!(names, ["filed", "alice", "key-2"]);
        assert!(!list.to_string().contains("hash") && !list.to_string().contains("sk-file-key"));
    }
    let plain = asked(
        &gate,
        PUT,
        "credentials/key-2",
        json!({"rate_limit": 7}),
        200,
    )
    .await;
    assert_eq!(plain["rate_limit"], 7);
    assert_eq!(
        call(&gate, "sk-brought-by-the-user", "own-model").await,
        200
    );
    // One key, one owner.
    let again = json!({"id": "key-3", "key": "sk-brought-by-the-user"});
    let refused = asked(&gate, POST, "master-keys", again, 409).await;
    assert_eq!(refused["error"]["code"], "key_in_use");

    asked(
        &gate,
        PUT,
        "master-keys/alice",
        json!({"is_enabled": false}),
        200,
    )
    .await;
    assert_eq!(call(&gate, &key, "own-model").await, 401);
    asked(
        &gate,
        PUT,
        "master-keys/alice",
        json!({"is_enabled": true}),
        200,
    )
    .await;
    assert_eq!(call(&gate, &key, "own-model").await, 200);
    asked(&gate, DELETE, "master-keys/alice", Value::Null, 204).await;
    assert_eq!(call(&gate, &key, "own-model").await, 401);
    let data = std::fs::read(gate.dir().join("polygate-data/polygate.db")).expect("the database");
    let text = String::from_utf8_lossy(&data);
    assert!(!text.contains("sk-brought-by") && !text.contains(&key));
}

#[tokio::test]
async fn pages_go_through_all_of_it_once() {
    let own = mock("own").await;
    let gate = Gate::start(&file(&own));
    for number in 0..7 {
        asked(
            &gate,
            POST,
            "master-keys",
            json!({"id": format!("k{number}")}),
            201,
        )
        .await;
    }
    let mut names = Vec::new();
    let mut path = "master-keys?limit=3".to_owned();
    loop {
        let page = asked(&gate, GET, &path, Value::Null, 200).await;
        let keys = page["keys"].as_array().expect("a list").clone();
        assert!(keys.len() <= 3);
        names.extend(
            keys.iter()
                .map(|key| key["id"].as_str().expect("a name").to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("master-keys?limit=3&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(names, ["filed", "k0", "k1", "k2", "k3", "k4", "k5", "k6"]);
}

#[tokio::test]
async fn a_write_may_want_what_it_has_read() {
    let own = mock("own").await;
    let gate = Gate::start(&file(&own));
    let send = async |method: Method, path: &str, header: (&str, &str), body: Value| {
        ask_as(&gate, ADMIN_KEY, method, path, &[header], &body).await
    };
    let none = ("if-none-match", "*");
    let made = send(POST, "teams", none, json!({"name": "t"})).await;
    assert_eq!((made.status.as_u16(), made.header("etag")), (201, "\"1\""));
    assert_eq!(
        send(POST, "teams", none, json!({"name": "t"})).await.status,
        412
    );
    let stale = ("if-match", "\"0\"");
    let change = json!({"description": "all of us"});
    let refused = send(PUT, "teams/t", stale, change.clone()).await;
    assert_eq!(
        (refused.status.as_u16(), &refused.json()["error"]["code"]),
        (412, &json!("changed"))
    );
    let changed = send(PUT, "teams/t", ("if-match", "\"1\""), change).await;
    assert_eq!(
        (changed.status.as_u16(), changed.header("etag")),
        (200, "\"2\"")
    );
    assert_eq!(
        send(DELETE, "teams/t", ("if-match", "\"1\""), Value::Null)
            .await
            .status,
        412
    );
    assert_eq!(
        send(DELETE, "teams/t", ("if-match", "\"2\""), Value::Null)
            .await
            .status,
        204
    );
}

#[tokio::test]
async fn a_dry_run_does_nothing_and_says_what_would_be_left_out() {
    let own = mock("own").await;
    let gate = Gate::start(&file(&own));
    let provider = json!({"id": "p", "provider_type": "mock", "api_base": own.url(), "api_key": "sk-1234567890ab"});
    let dry = asked(&gate, POST, "providers?dry_run=true", provider.clone(), 200).await;
    assert_eq!(
        (&dry["dry_run"], &dry["id"], &dry["left_out"]),
        (&json!(true), &json!("p"), &json!([]))
    );
    asked(&gate, GET, "providers/p", Value::Null, 404).await;
    asked(&gate, POST, "providers", provider, 201).await;
    let model = json!({"name": "m", "targets": [{"provider": "p", "model": "m"}]});
    asked(&gate, POST, "models", model, 201).await;

    let dry = asked(&gate, DELETE, "providers/p?dry_run=true", Value::Null, 200).await;
    assert_eq!(dry["left_out"][0]["name"], "m");
    let refused = asked(&gate, DELETE, "providers/p", Value::Null, 409).await;
    assert_eq!(refused["error"]["code"], "in_use");
    assert_eq!(call(&gate, "sk-file-key", "m").await, 200);
    asked(&gate, DELETE, "providers/p?force=true", Value::Null, 204).await;
    assert_eq!(call(&gate, "sk-file-key", "m").await, 404);
    let model = asked(&gate, GET, "models/m", Value::Null, 200).await;
    assert!(
        model["left_out"]
            .as_str()
            .expect("why")
            .contains("there is no provider 'p'"),
        "{model}"
    );
}
