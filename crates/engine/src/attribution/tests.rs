//! What callers say in each header and member that is known, and that nothing they say grows or breaks anything.

use http::{HeaderMap, HeaderName, HeaderValue};
use polygate_wire::RawObject;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        let name: HeaderName = name.parse().expect("a name");
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
        (name, value)
    };
    pairs.iter().map(pair).collect()
}

fn said(pairs: &[(&str, &str)], body: &Value) -> Attribution {
    let mut said = Attribution::of(&headers(pairs));
    let object = RawObject::parse(body.to_string().into()).expect("an object");
    said.read(&object);
    said
}

#[test]
fn every_header_of_the_table_is_heard_and_the_strongest_of_a_kind_counts() {
    let none = json!({});
    for (name, says) in HEADERS {
        let value = if says == Says::Metadata {
            r#"{"a":"b"}"#
        } else {
            "v-1"
        };
        let said = said(&[(name, value)], &none);
        match says {
            Says::EndUser => assert_eq!(said.end_user(), Some("v-1"), "{name}"),
            Says::Session => assert_eq!(said.session(), Some("v-1"), "{name}"),
            Says::Tags => assert_eq!(said.tags(), ["v-1"], "{name}"),
            Says::Metadata => {
                let metadata = said.metadata().expect("metadata");
                assert_eq!(json!(metadata), json!({"a": "b"}), "{name}");
            }
        }
        assert!(said.ignored().is_empty(), "{name}");
    }
    for kind in [Says::EndUser, Says::Session] {
        let of_kind = HEADERS.iter().filter(|(_, says)| *says == kind);
        let names: Vec<&str> = of_kind.map(|(name, _)| *name).collect();
        for pair in names.windows(2) {
            let [strong, weak] = pair else {
                panic!("{pair:?}")
            };
            let said = said(&[(weak, "weak"), (strong, "strong")], &none);
            let name = said.end_user().or(said.session());
            assert_eq!(name, Some("strong"), "{pair:?}");
        }
    }
}

#[test]
fn bodies_name_users_sessions_and_tags() {
    let claude = "user_ab_account_cd_session_ef";
    let newer = json!({"device_id": "d", "account_uuid": "", "session_id": "s"}).to_string();
    let response = json!({"previous_response_id": "resp_1"});
    for (body, user, session, tags) in [
        (json!({}), None, None, vec![]),
        (json!({"user": "u"}), Some("u"), None, vec![]),
        (json!({"safety_identifier": "h"}), Some("h"), None, vec![]),
        (
            json!({"metadata": {"user_id": "m"}}),
            Some("m"),
            None,
            vec![],
        ),
        (
            json!({"metadata": {"user_id": claude}}),
            Some("user_ab_account_cd"),
            Some("ef"),
            vec![],
        ),
        (
            json!({"metadata": {"user_id": newer}}),
            Some("d"),
            Some("s"),
            vec![],
        ),
        (
            json!({"metadata": {"session_id": "a"}, "conversation": "c"}),
            None,
            Some("a"),
            vec![],
        ),
        (
            json!({"conversation": {"id": "conv_1"}}),
            None,
            Some("conv_1"),
            vec![],
        ),
        (json!({"prompt_cache_key": "k"}), None, Some("k"), vec![]),
        (
            json!({"metadata": {"tags": ["a", "b", "a"]}}),
            None,
            None,
            vec!["a", "b"],
        ),
        (
            json!({"metadata": {"tags": "a, b"}}),
            None,
            None,
            vec!["a", "b"],
        ),
        (json!({"user": null, "metadata": null}), None, None, vec![]),
        (response, None, None, vec![]),
    ] {
        let said = said(&[], &body);
        assert_eq!((said.end_user(), said.session()), (user, session), "{body}");
        assert_eq!(said.tags(), tags, "{body}");
        assert!(said.ignored().is_empty(), "{body}");
    }
    let both = json!({"user": "u", "metadata": {"tags": ["b"]}});
    let said = said(
        &[("x-polygate-user", "h"), ("x-litellm-tags", "a,b")],
        &both,
    );
    assert_eq!(
        (said.end_user(), said.tags()),
        (Some("h"), &["a".to_owned(), "b".to_owned()][..])
    );
}

#[test]
fn metadata_of_several_headers_adds_up_and_the_strongest_has_its_say() {
    let said = said(
        &[
            (
                "x-portkey-metadata",
                r#"{"_user":"p","a":3,"b":{"c":[true]}}"#,
            ),
            ("x-polygate-metadata", r#"{"a":1}"#),
            ("helicone-property-plan", "gold"),
        ],
        &json!({}),
    );
    let expected = json!({"_user": "p", "a": 1, "b": {"c": [true]}, "plan": "gold"});
    assert_eq!(json!(said.metadata()), expected);
    assert_eq!(said.end_user(), Some("p"));
}

#[test]
fn what_is_broken_is_passed_over_and_named() {
    let long = "x".repeat(LONGEST_NAME + 1);
    let many: Vec<String> = (0..=MOST_TAGS).map(|tag| tag.to_string()).collect();
    let large = json!({ "a": "x".repeat(MOST_METADATA) }).to_string();
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(900), "]".repeat(900));
    for (name, value, place) in [
        ("x-polygate-user", &*long, "x-polygate-user"),
        ("x-polygate-session", "a\tb", "x-polygate-session"),
        ("x-polygate-session", "a\u{85}b", "x-polygate-session"),
        (
            "x-litellm-tags",
            &*"x".repeat(LONGEST_TAG + 1),
            "x-litellm-tags",
        ),
        ("x-polygate-tags", &*many.join(","), "x-polygate-tags"),
        ("x-polygate-metadata", "{", "x-polygate-metadata"),
        ("x-polygate-metadata", "[1]", "x-polygate-metadata"),
        (
            "x-polygate-metadata",
            r#"{"a":"\u001b[2J"}"#,
            "x-polygate-metadata",
        ),
        ("x-polygate-metadata", &*large, "x-polygate-metadata"),
        ("x-polygate-metadata", &*deep, "x-polygate-metadata"),
        ("helicone-property-a", "b\tc", "helicone-property-*"),
    ] {
        let said = Attribution::of(&headers(&[(name, value)]));
        assert_eq!(said.ignored(), [place], "{name}");
        assert_eq!(
            (said.end_user(), said.session(), said.metadata()),
            (None, None, None)
        );
        assert!(said.tags().len() <= MOST_TAGS);
    }
    for (body, place) in [
        (json!({"user": 7}), "user"),
        (json!({"metadata": [1]}), "metadata"),
        (json!({"metadata": {"tags": {"a": 1}}}), "metadata.tags"),
        (json!({"metadata": {"a": "x".repeat(20_000)}}), "metadata"),
    ] {
        assert_eq!(said(&[], &body).ignored(), [place], "{body}");
    }
    let raw = HeaderValue::from_bytes(b"\xff\xfe").expect("a value");
    let raw = HeaderMap::from_iter([(HeaderName::from_static("x-polygate-user"), raw)]);
    assert_eq!(Attribution::of(&raw).ignored(), ["x-polygate-user"]);
}

#[test]
fn where_nothing_is_said_nothing_is_kept() {
    let usual = [
        ("content-type", "application/json"),
        ("x-stainless-os", "Linux"),
    ];
    let said = said(&usual, &json!({"model": "m", "messages": []}));
    assert_eq!(said, Attribution::default());
    assert!(said.0.is_none());
}

#[test]
fn the_page_of_headers_names_them_all() {
    let page = include_str!("../../../../docs/headers.md");
    let names = HEADERS.iter().chain([&PROPERTY]).map(|(name, _)| name);
    for name in names {
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
}

fn any_name() -> impl Strategy<Value = String> {
    let known: Vec<&str> = HEADERS.iter().map(|(name, _)| *name).collect();
    let known = prop::sample::select(known).prop_map(str::to_owned);
    prop_oneof![4 => known, 1 => "helicone-property-[a-z]{0,80}"]
}

/// What a header may carry.
fn any_value() -> impl Strategy<Value = Vec<u8>> {
    let metadata = prop::collection::hash_map("\\PC{0,90}", "\\PC{0,900}", 0..6);
    let metadata = metadata.prop_map(|map| json!(map).to_string().into_bytes());
    let bytes = prop::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        bytes,
        metadata,
        "[a-z,]{0,1500}".prop_map(String::into_bytes)
    ]
}

proptest! {
    #[test]
    fn whatever_headers_say_is_bounded_and_without_control_characters(
        pairs in prop::collection::vec((any_name(), any_value()), 0..20),
        body in "\\PC{0,200}",
        tags in prop::collection::vec("\\PC{0,70}", 0..20),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name: HeaderName = name.parse().expect("a name");
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(name, value);
            }
        }
        let mut said = Attribution::of(&headers);
        let body = json!({"user": body, "conversation": {"id": body}, "metadata": {"user_id": body, "tags": tags}});
        said.read(&RawObject::parse(body.to_string().into()).expect("an object"));
        for name in [said.end_user(), said.session()].into_iter().flatten() {
            prop_assert!(!name.is_empty() && is_plain(name, LONGEST_NAME));
        }
        prop_assert!(said.tags().len() <= MOST_TAGS);
        prop_assert!(said.tags().iter().all(|tag| is_plain(tag, LONGEST_TAG)));
        let metadata = json!(said.metadata().unwrap_or_default());
        prop_assert!(metadata.to_string().len() <= MOST_METADATA + 2);
        prop_assert!(is_plain_value(&metadata));
    }
}

#[test]
fn every_header_of_the_table_is_found() {
    for (at, (name, _)) in HEADERS.iter().enumerate() {
        assert_eq!(table::rank(name), Some(at), "{name}");
    }
    assert_eq!(table::rank("helicone-property-app"), Some(HEADERS.len()));
    for other in ["", "authorization", "x-stainless-lang", "host"] {
        assert_eq!(table::rank(other), None, "{other}");
    }
}

#[test]
fn what_is_kept_is_about_what_is_counted() {
    let mut headers = HeaderMap::new();
    let small = vec![r#"{"":0}"#; 285].join(",");
    let value = format!(r#"{{"a":[{small}]}}"#);
    headers.insert("x-polygate-metadata", value.parse().expect("a value"));
    let said = Attribution::of(&headers);
    assert!(said.metadata().is_some(), "it is within the bound");
    assert!(said.size() > value.len() && said.size() < 2 * value.len());
    let agent = "x".repeat(60_000);
    headers.insert(USER_AGENT, agent.parse().expect("a value"));
    assert_eq!(
        program(&headers).map(|agent| agent.len()),
        Some(LONGEST_NAME)
    );
}

#[test]
fn long_words_of_a_body_are_passed_over_unread() {
    let long = format!("[{}]", "0,".repeat(4096) + "0");
    for member in [
        "user",
        "safety_identifier",
        "prompt_cache_key",
        "conversation",
    ] {
        let body = format!(r#"{{"{member}":{long}}}"#);
        let mut said = Attribution::default();
        said.read(&RawObject::parse(body.into()).expect("an object"));
        assert_eq!(said.ignored(), [member]);
    }
}

#[test]
fn only_claude_codes_text_holds_a_user_and_a_session() {
    for (body, end_user, session) in [
        (r#"{"user":"web_session_42"}"#, Some("web_session_42"), None),
        (
            r#"{"metadata":{"user_id":"user_a_account_b_session_c"}}"#,
            Some("user_a_account_b"),
            Some("c"),
        ),
    ] {
        let mut said = Attribution::default();
        said.read(&RawObject::parse(body.into()).expect("an object"));
        assert_eq!((said.end_user(), said.session()), (end_user, session));
    }
}

#[test]
fn what_turns_the_order_of_text_is_not_carried() {
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_bytes("al\u{202e}ice".as_bytes()).expect("a value");
    headers.insert("x-session-id", value);
    assert_eq!(Attribution::of(&headers).session(), None);
    assert_eq!(session_header(&headers), None);
}
