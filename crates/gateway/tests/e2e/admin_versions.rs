//! Versions of the configuration: what each changed, the way back, who did it, and reading the file again.

use serde_json::{Value, json};

use crate::admin_documents::{DELETE, GET, POST, PUT, ask_as, asked, call, file};
use crate::support::{ADMIN_KEY, Gate, mock};

#[tokio::test]
async fn history_says_what_changed_and_shows_no_secret() {
    let own = mock("own").await;
    let gate = Gate::start(&file(&own));
    let body = json!({"id": "p", "provider_type": "mock", "api_base": own.url(), "api_key": "sk-first-1234567890"});
    asked(&gate, POST, "providers", body, 201).await;
    asked(
        &gate,
        PUT,
        "providers/p",
        json!({"api_key": "sk-other-1234567890", "weight": 3}),
        200,
    )
    .await;
    asked(&gate, POST, "master-keys", json!({"id": "k"}), 201).await;
    asked(&gate, DELETE, "providers/p", Value::Null, 204).await;

    let history = asked(&gate, GET, "config/history", Value::Null, 200).await;
    let said: Vec<(i64, &str)> = history["versions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| {
            (
                one["version"].as_i64().expect("a number"),
                one["action"].as_str().expect("a text"),
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            (4, "delete provider"),
            (3, "create key"),
            (2, "update provider"),
            (1, "create provider")
        ]
    );
    assert_eq!(history["versions"][0]["actor"], "admin@127.0.0.1");
    let page = asked(&gate, GET, "config/history?limit=2", Value::Null, 200).await;
    assert_eq!(page["next_cursor"], "3");
    let rest = asked(
        &gate,
        GET,
        "config/history?limit=2&cursor=3",
        Value::Null,
        200,
    )
    .await;
    assert_eq!(
        (&rest["versions"][0]["version"], &rest["next_cursor"]),
        (&json!(2), &Value::Null)
    );

    let change = asked(&gate, GET, "config/history/2", Value::Null, 200).await;
    let document = &change["documents"][0];
    assert_eq!(
        (&document["kind"], &document["name"], &document["action"]),
        (&json!("provider"), &json!("p"), &json!("updated"))
    );
    assert_eq!(
        document["fields"],
        json!([
            {"field": "api_key", "before": "sk-***890", "after": "sk-***890"},
            {"field": "weight", "before": null, "after": 3},
        ])
    );
    let all = [1, 2, 3, 4].map(|number| {
        asked(
            &gate,
            GET,
            Box::leak(format!("config/history/{number}").into_boxed_str()),
            Value::Null,
            200,
        )
    });
    for change in all {
        let text = change.await.to_string();
        assert!(
            !text.contains("1234567") && !text.contains("sealed:"),
            "{text}"
        );
    }
    let made = asked(&gate, GET, "config/history/3", Value::Null, 200)
        .await
        .to_string();
    assert!(
        made.contains(r#"{"after":"***","before":null,"field":"key_hash"}"#)
            || made.contains(r#""field":"key_hash","before":null,"after":"***""#),
        "{made}"
    );
    for path in ["config/history/0", "config/history/5", "config/history/x"] {
        asked(&gate, GET, path, Value::Null, 404).await;
    }
}

#[tokio::test]
async fn a_rollback_is_a_new_version_and_brings_no_revoked_key_back() {
    let own = mock("own").await;
    let gate = Gate::start(&file(&own));
    let body = json!({"id": "p", "provider_type": "mock", "api_base": own.url(), "api_key": "sk-1234567890ab", "model_mapping": {"theirs": "m"}});
    asked(&gate, POST, "providers", body, 201).await;
    let key = asked(&gate, POST, "master-keys", json!({"id": "k"}), 201).await;
    let key = key["key"].as_str().expect("a key").to_owned();
    asked(&gate, DELETE, "master-keys/k", Value::Null, 204).await;
    asked(
        &gate,
        PUT,
        "providers/p",
        json!({"model_mapping": {"others": "m"}}),
        200,
    )
    .await;
    assert_eq!(call(&gate, "sk-file-key", "theirs").await, 404);

    let dry = asked(
        &gate,
        POST,
        "config/rollback?dry_run=true",
        json!({"version": 2}),
        200,
    )
    .await;
    assert_eq!(
        dry["documents"],
        json!([{"kind": "provider", "name": "p", "action": "updated"}])
    );
    assert_eq!(call(&gate, "sk-file-key", "theirs").await, 404);
    let done = asked(&gate, POST, "config/rollback", json!({"version": 2}), 200).await;
    assert_eq!(
        (&done["version"], &done["rolled_back_to"]),
        (&json!(5), &json!(2))
    );
    assert_eq!(call(&gate, "sk-file-key", "theirs").await, 200);
    assert_eq!(
        call(&gate, &key, "theirs").await,
        401,
        "a revoked key stays so"
    );
    asked(
        &gate,
        POST,
        "config/rollback",
        json!({"version": 2, "include_keys": true}),
        200,
    )
    .await;
    assert_eq!(call(&gate, &key, "theirs").await, 200);
    let all = asked(
        &gate,
        POST,
        "config/rollback",
        json!({"version": 0, "include_keys": true}),
        200,
    )
    .await;
    assert_eq!(all["documents"].as_array().expect("a list").len(), 2);
    assert_eq!(
        (
            call(&gate, &key, "own-model").await.as_u16(),
            call(&gate, "sk-file-key", "theirs").await.as_u16()
        ),
        (401, 404)
    );
    for (body, status) in [
        (json!({"version": 99}), 404),
        (json!({}), 422),
        (json!({"version": -1}), 422),
        (json!({"version": 1, "x": 1}), 422),
    ] {
        asked(&gate, POST, "config/rollback", body, status).await;
    }
}

#[tokio::test]
async fn everything_that_was_done_is_in_the_audit_log() {
    let own = mock("own").await;
    let gate = Gate::start(&file(&own));
    asked(&gate, POST, "teams", json!({"name": "t"}), 201).await;
    asked(&gate, POST, "teams", json!({"name": "t"}), 409).await;
    asked(&gate, POST, "health/reset", json!({"provider": "own"}), 200).await;
    asked(&gate, POST, "config/reload", Value::Null, 200).await;
    asked(&gate, DELETE, "teams/t", Value::Null, 204).await;
    let audit = asked(&gate, GET, "audit", Value::Null, 200).await;
    let said: Vec<String> = audit["entries"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| {
            format!(
                "{} {} {} {} {}",
                one["number"], one["action"], one["subject"], one["outcome"], one["version"]
            )
        })
        .collect();
    let expected = [
        r#"4 "delete team" "team t" "done" 2"#,
        r#"3 "reload" "" "done" null"#,
        r#"2 "reset health" "own" "done" null"#,
        r#"1 "create team" "team t" "done" 1"#,
    ];
    assert_eq!(said, expected);
    let page = asked(&gate, GET, "audit?limit=1&cursor=3", Value::Null, 200).await;
    assert_eq!(
        (&page["entries"][0]["number"], &page["next_cursor"]),
        (&json!(2), &json!("2"))
    );
}

#[tokio::test]
async fn the_file_is_read_again_when_somebody_asks() {
    let own = mock("own").await;
    let gate = Gate::start(&file(&own));
    let made = asked(
        &gate,
        POST,
        "master-keys",
        json!({"id": "later", "key": "sk-of-the-database"}),
        201,
    )
    .await;
    assert_eq!(made["source"], "database");
    let before = asked(&gate, GET, "config/version", Value::Null, 200).await;
    assert_eq!(
        (&before["version"], &before["is_current"]),
        (&json!(1), &json!(true))
    );
    // The file takes a name that the database has: the file's counts from then on.
    let other = file(&own).replace(
        "{name: filed, key: sk-file-key}",
        "{name: filed, key: sk-file-key}, {name: later, key: sk-of-the-file-2}",
    );
    std::fs::write(gate.config_path(), other).expect("written");
    let after = asked(&gate, POST, "config/reload", Value::Null, 200).await;
    assert!(
        after["generation"].as_u64() > before["generation"].as_u64(),
        "{after}"
    );
    assert_eq!(after["left_out"][0]["name"], "later");
    assert_eq!(call(&gate, "sk-of-the-file-2", "own-model").await, 200);
    assert_eq!(call(&gate, "sk-of-the-database", "own-model").await, 401);
    std::fs::write(gate.config_path(), "providers: 5").expect("written");
    let refused = asked(&gate, POST, "config/reload", Value::Null, 422).await;
    assert!(
        refused["error"]["message"]
            .as_str()
            .expect("a text")
            .contains("providers"),
        "{refused}"
    );
    assert_eq!(call(&gate, "sk-file-key", "own-model").await, 200);
    std::fs::write(gate.config_path(), file(&own)).expect("written");
    asked(&gate, POST, "config/reload", Value::Null, 200).await;
    assert_eq!(call(&gate, "sk-of-the-database", "own-model").await, 200);
}

#[tokio::test]
async fn who_tries_keys_is_slowed() {
    let own = mock("own").await;
    let gate = Gate::start(&file(&own));
    let good = ask_as(&gate, ADMIN_KEY, POST, "auth/validate", &[], &Value::Null).await;
    assert_eq!(
        (
            good.status.as_u16(),
            &good.json()["valid"],
            &good.json()["role"]
        ),
        (200, &json!(true), &json!("admin"))
    );
    let nobody = gate.ask(POST, "/admin/v1/auth/validate", &[], "").await;
    assert_eq!(
        (nobody.status.as_u16(), &nobody.json()["valid"]),
        (401, &json!(false))
    );
    // A key for models is known, and no guess.
    for _ in 0..12 {
        assert_eq!(
            ask_as(&gate, "sk-file-key", GET, "providers", &[], &Value::Null)
                .await
                .status,
            401
        );
    }
    for number in 0..10 {
        let wrong = ask_as(
            &gate,
            &format!("guess-{number}"),
            POST,
            "auth/validate",
            &[],
            &Value::Null,
        )
        .await;
        assert_eq!(
            (wrong.status.as_u16(), &wrong.json()["valid"]),
            (401, &json!(false))
        );
    }
    // Whatever asks for the admin key counts, and even the right one has to wait.
    let bearer = format!("Bearer {ADMIN_KEY}");
    for path in ["/admin/v1/providers", "/admin/config"] {
        let slowed = gate
            .ask(GET, path, &[("authorization", &*bearer)], "")
            .await;
        assert_eq!(
            (slowed.status.as_u16(), &slowed.json()["error"]["code"]),
            (429, &json!("too_many_attempts")),
            "{path}"
        );
        let wait: u64 = slowed.header("retry-after").parse().expect("seconds");
        assert!((1..=7).contains(&wait), "{wait}");
    }
    assert_eq!(
        call(&gate, "sk-file-key", "own-model").await,
        200,
        "calls of models go on"
    );
}

#[tokio::test]
async fn the_description_is_true() {
    let own = mock("own").await;
    let gate = Gate::start(&file(&own));
    let description = gate.get("/admin/v1/openapi.json").await.json();
    assert_eq!(description["openapi"], "3.1.0");
    let bearer = format!("Bearer {ADMIN_KEY}");
    for (path, operations) in description["paths"].as_object().expect("paths") {
        let at = path.replace("{id}", "none").replace("{version}", "1");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let is_described = operations.get(method.to_lowercase()).is_some();
            let method = http::Method::from_bytes(method.as_bytes()).expect("a method");
            let body = if is_described && method != GET {
                "[]"
            } else {
                ""
            };
            let reply = gate
                .ask(method.clone(), &at, &[("authorization", &*bearer)], body)
                .await;
            let is_there = reply.status != 405 && !reply.text().contains("route_not_found");
            assert_eq!(
                is_there,
                is_described,
                "{method} {path}: {} {}",
                reply.status,
                reply.text()
            );
            // Without a key nothing but the description is answered.
            let open = gate.ask(method.clone(), &at, &[], body).await;
            let is_open = is_described
                && operations[method.as_str().to_lowercase()]
                    .get("security")
                    .is_none();
            if is_described && !is_open {
                assert_eq!(open.status, 401, "{method} {path}");
            }
        }
    }
}
