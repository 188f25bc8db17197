//! Keys with a role: what each may do in the admin API, and that none of them becomes more than it is.

use http::Method;
use serde_json::{Value, json};

use crate::admin_documents::{DELETE, GET, POST, PUT, ask_as, asked, call, file};
use crate::support::{Gate, mock};

/// A key that the admin makes; its text.
async fn made(gate: &Gate, body: Value) -> String {
    let made = asked(gate, POST, "master-keys", body, 201).await;
    made["key"].as_str().expect("a key").to_owned()
}

async fn status(gate: &Gate, key: &str, method: Method, path: &str, body: Value) -> (u16, Value) {
    let reply = ask_as(gate, key, method, path, &[], &body).await;
    let body = match reply.body.is_empty() {
        true => Value::Null,
        false => reply.json(),
    };
    (reply.status.as_u16(), body)
}

#[tokio::test]
async fn each_role_may_what_the_table_says() {
    let own = mock("own").await;
    let gate = Gate::start(&file(&own));
    asked(&gate, POST, "teams", json!({"name": "red"}), 201).await;
    let admin = made(&gate, json!({"id": "boss", "role": "admin"})).await;
    let reader = made(&gate, json!({"id": "auditor", "role": "read_only"})).await;
    let leader = made(
        &gate,
        json!({"id": "leader", "role": "team_admin", "team": "red"}),
    )
    .await;
    for (path, expected) in [
        ("providers", [200, 200, 403]),
        ("models", [200, 200, 403]),
        ("prices", [200, 200, 403]),
        ("master-keys", [200, 200, 200]),
        ("teams", [200, 200, 200]),
        ("config/version", [200, 200, 403]),
        ("config/history", [200, 200, 403]),
        ("audit", [200, 200, 403]),
        ("health", [200, 200, 403]),
    ] {
        for (key, expected) in [&admin, &reader, &leader].into_iter().zip(expected) {
            let (status, answer) = status(&gate, key, GET, path, Value::Null).await;
            assert_eq!(status, expected, "{path}: {answer}");
        }
    }
    for (method, path, body, expected) in [
        (POST, "teams", json!({"name": "blue"}), [201, 403, 403]),
        (
            PUT,
            "teams/red",
            json!({"description": "x"}),
            [200, 403, 403],
        ),
        (POST, "master-keys", json!({"id": "new"}), [201, 403, 409]),
        (POST, "config/reload", Value::Null, [200, 403, 403]),
        (
            POST,
            "config/rollback",
            json!({"version": 0}),
            [409, 403, 403],
        ),
        (POST, "health/reset", Value::Null, [200, 403, 403]),
        (POST, "auth/validate", Value::Null, [200, 200, 200]),
    ] {
        for (key, expected) in [&admin, &reader, &leader].into_iter().zip(expected) {
            let (status, answer) = status(&gate, key, method.clone(), path, body.clone()).await;
            assert_eq!(status, expected, "{method} {path}: {answer}");
        }
    }
    let (_, said) = status(&gate, &leader, POST, "auth/validate", Value::Null).await;
    assert_eq!(
        (&said["role"], &said["team"], &said["name"]),
        (&json!("team_admin"), &json!("red"), &json!("leader"))
    );
    // What was tried is known.
    let audit = asked(&gate, GET, "audit", Value::Null, 200).await;
    let tried = audit["entries"].as_array().expect("a list").iter();
    let tried: Vec<&Value> = tried
        .filter(|one| one["outcome"] == "insufficient_role")
        .collect();
    assert!(
        tried
            .iter()
            .any(|one| one["actor"] == "auditor@127.0.0.1"
                && one["action"] == "POST /admin/v1/teams"),
        "{audit}"
    );
    // A role that is taken away is gone at once.
    asked(
        &gate,
        PUT,
        "master-keys/auditor",
        json!({"role": null}),
        200,
    )
    .await;
    assert_eq!(
        status(&gate, &reader, GET, "providers", Value::Null)
            .await
            .0,
        401
    );
    assert_eq!(call(&gate, &reader, "own-model").await, 200);
}

#[tokio::test]
async fn a_team_admin_is_confined_to_its_team() {
    let own = mock("own").await;
    let gate = Gate::start(&file(&own));
    for team in ["red", "blue"] {
        asked(&gate, POST, "teams", json!({"name": team}), 201).await;
    }
    let leader = made(
        &gate,
        json!({"id": "leader", "role": "team_admin", "team": "red"}),
    )
    .await;
    made(
        &gate,
        json!({"id": "reds-boss", "role": "admin", "team": "red"}),
    )
    .await;
    made(&gate, json!({"id": "seer", "team": "red", "explain": true})).await;
    made(&gate, json!({"id": "theirs", "team": "blue"})).await;
    let of = async |method: Method, path: &str, body: Value| {
        status(&gate, &leader, method, path, body).await
    };

    let (status, made) = of(POST, "master-keys", json!({"id": "ours"})).await;
    assert_eq!((status, &made["team"]), (201, &json!("red")), "{made}");
    let key = made["key"].as_str().expect("a key");
    assert_eq!(call(&gate, key, "own-model").await, 200);
    let (_, list) = of(GET, "master-keys", Value::Null).await;
    let names: Vec<&Value> = list["keys"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| &one["id"])
        .collect();
    assert_eq!(names, ["leader", "reds-boss", "seer", "ours"]);
    let (_, list) = of(GET, "teams", Value::Null).await;
    assert_eq!(
        (
            &list["teams"][0]["id"],
            list["teams"].as_array().map(Vec::len)
        ),
        (&json!("red"), Some(1))
    );

    for (method, path, body, expected) in [
        // Another's are not there; those with a role are not touched.
        (GET, "master-keys/theirs", Value::Null, 404),
        (GET, "master-keys/filed", Value::Null, 404),
        (PUT, "master-keys/theirs", json!({"is_enabled": false}), 404),
        (DELETE, "master-keys/theirs", Value::Null, 404),
        (POST, "master-keys/theirs/rotate", json!({}), 404),
        (POST, "master-keys/reds-boss/rotate", json!({}), 403),
        (POST, "master-keys/seer/rotate", json!({}), 403),
        (
            PUT,
            "master-keys/reds-boss",
            json!({"key": "sk-mine-now-0123"}),
            403,
        ),
        (DELETE, "master-keys/reds-boss", Value::Null, 403),
        (POST, "master-keys/leader/rotate", json!({}), 403),
        (PUT, "master-keys/leader", json!({"role": "admin"}), 403),
        (POST, "master-keys", json!({"id": "x", "team": "blue"}), 403),
        (
            POST,
            "master-keys",
            json!({"id": "x", "role": "admin"}),
            403,
        ),
        (
            POST,
            "credentials",
            json!({"id": "x", "role": "team_admin"}),
            403,
        ),
        (PUT, "master-keys/ours", json!({"team": "blue"}), 403),
        (PUT, "master-keys/ours", json!({"team": null}), 403),
        (PUT, "master-keys/ours", json!({"role": "read_only"}), 403),
        // Its own.
        (
            PUT,
            "master-keys/ours",
            json!({"description": "d", "team": "red"}),
            200,
        ),
        (
            POST,
            "master-keys/ours/rotate",
            json!({"overlap_secs": 60}),
            200,
        ),
        (DELETE, "master-keys/ours", Value::Null, 204),
    ] {
        let (status, answer) = of(method.clone(), path, body.clone()).await;
        assert_eq!(status, expected, "{method} {path} {body}: {answer}");
    }
}

#[tokio::test]
async fn keys_are_replaced_with_an_overlap_and_bounded_in_time_and_place() {
    let own = mock("own").await;
    let gate = Gate::start(&file(&own));
    let first = made(&gate, json!({"id": "k"})).await;
    let rotated = asked(
        &gate,
        POST,
        "master-keys/k/rotate",
        json!({"overlap_secs": 3600}),
        200,
    )
    .await;
    let second = rotated["key"].as_str().expect("a key").to_owned();
    assert!(
        rotated["previous_key_until"]
            .as_str()
            .expect("a moment")
            .ends_with('Z')
    );
    assert_eq!(
        (
            call(&gate, &first, "own-model").await.as_u16(),
            call(&gate, &second, "own-model").await.as_u16()
        ),
        (200, 200)
    );
    // Without an overlap the one before ends at once; the one before that has ended.
    let third = asked(&gate, POST, "credentials/k/rotate", Value::Null, 200).await;
    let third = third["key"].as_str().expect("a key").to_owned();
    let statuses = [
        call(&gate, &first, "own-model").await,
        call(&gate, &second, "own-model").await,
        call(&gate, &third, "own-model").await,
    ];
    assert_eq!(statuses.map(|status| status.as_u16()), [401, 401, 200]);
    let read = asked(&gate, GET, "master-keys/k", Value::Null, 200).await;
    assert_eq!(
        (&read["key_preview"], &read["previous_key_until"]),
        (&json!(format!("{}-***", &third[..14])), &Value::Null)
    );
    // An overlap that is over.
    let fourth = asked(
        &gate,
        POST,
        "master-keys/k/rotate",
        json!({"overlap_secs": 1}),
        200,
    )
    .await;
    let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while call(&gate, &third, "own-model").await != 401 {
        assert!(std::time::Instant::now() < end, "the overlap is over");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(
        call(&gate, fourth["key"].as_str().expect("a key"), "own-model").await,
        200
    );

    for (body, expected) in [
        (json!({"expires_at": "2020-01-01T00:00:00Z"}), 401),
        (json!({"expires_at": "2999-01-01T00:00:00Z"}), 200),
        (json!({"allowed_ips": ["10.0.0.0/8"]}), 403),
        (json!({"allowed_ips": ["10.0.0.0/8", "127.0.0.1"]}), 200),
        (json!({"allowed_models": ["else-*"]}), 403),
        (
            json!({"allowed_models": ["own-*"], "metadata": {"cost": "4711"}, "tags": ["a"]}),
            200,
        ),
    ] {
        let key = made(&gate, {
            let mut body = body.clone();
            body["name"] = body
                .to_string()
                .chars()
                .filter(char::is_ascii_alphanumeric)
                .collect::<String>()
                .into();
            body
        })
        .await;
        assert_eq!(call(&gate, &key, "own-model").await, expected, "{body}");
    }
    for (body, field) in [
        (json!({"id": "x", "expires_at": "tomorrow"}), "expires_at"),
        (
            json!({"id": "x", "allowed_ips": ["10.0.0.0/33"]}),
            "allowed_ips[0]",
        ),
        (json!({"id": "x", "role": "king"}), "role"),
        (json!({"id": "x", "team": "none"}), "team"),
        (json!({"id": "x", "metadata": {"a": [1]}}), "metadata.a"),
    ] {
        let refused = asked(&gate, POST, "master-keys", body, 422).await;
        assert_eq!(refused["error"]["field"], field, "{refused}");
    }
    for body in [
        json!({"overlap_secs": -1}),
        json!({"overlap_secs": 7_776_001}),
        json!({"overlap": 1}),
        json!({"key": 5}),
    ] {
        asked(&gate, POST, "master-keys/k/rotate", body, 422).await;
    }
    // A team that keys are of is not deleted by mistake.
    asked(&gate, POST, "teams", json!({"name": "t"}), 201).await;
    let key = made(&gate, json!({"id": "of-team", "team": "t"})).await;
    let refused = asked(&gate, DELETE, "teams/t", Value::Null, 409).await;
    assert!(
        refused["error"]["message"]
            .as_str()
            .expect("a text")
            .contains("key 'of-team'"),
        "{refused}"
    );
    asked(&gate, PUT, "teams/t", json!({"is_enabled": false}), 200).await;
    assert_ne!(call(&gate, &key, "own-model").await, 200);
}
