//! Texts change as trees do, and nowhere else.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// The text after a change; as it was where nothing is done.
fn after(text: &str, path: &str, change: Change<'_>) -> Result<String, Blocked> {
    let path = Path::parse(path).expect("a path");
    let mut document = Document::read(text, Spelling::Exact).expect("an object");
    document.change(&[], &path, change)?;
    Ok(document.text())
}

#[test]
fn only_what_stands_at_the_place_changes() {
    use Change::{Default, Override, Remove};
    const TEXT: &str = r#"{ "a" : {"x": 1e5, "y":[1, {"z": true} ,3]},  "b":null }"#;
    for (path, change, expected) in [
        (
            "a.x",
            Override("2"),
            r#"{ "a" : {"x": 2, "y":[1, {"z": true} ,3]},  "b":null }"#,
        ),
        ("a.x", Default("2"), TEXT),
        ("b", Default("2"), TEXT),
        (
            "c",
            Default(r#"[1]"#),
            r#"{"c":[1], "a" : {"x": 1e5, "y":[1, {"z": true} ,3]},  "b":null }"#,
        ),
        (
            "a.w.v",
            Default("{}"),
            r#"{ "a" : {"w":{"v":{}},"x": 1e5, "y":[1, {"z": true} ,3]},  "b":null }"#,
        ),
        (
            "a.y.1.z",
            Override("false"),
            r#"{ "a" : {"x": 1e5, "y":[1, {"z": false} ,3]},  "b":null }"#,
        ),
        (
            "a.y.-1",
            Override("4"),
            r#"{ "a" : {"x": 1e5, "y":[1, {"z": true} ,4]},  "b":null }"#,
        ),
        (
            "a.y.-",
            Override("4"),
            r#"{ "a" : {"x": 1e5, "y":[1, {"z": true} ,3,4]},  "b":null }"#,
        ),
        (
            "a.y.0",
            Remove,
            r#"{ "a" : {"x": 1e5, "y":[ {"z": true} ,3]},  "b":null }"#,
        ),
        (
            "a.y.-1",
            Remove,
            r#"{ "a" : {"x": 1e5, "y":[1, {"z": true} ]},  "b":null }"#,
        ),
        ("a.y", Remove, r#"{ "a" : {"x": 1e5},  "b":null }"#),
        ("a.q.r", Remove, TEXT),
        ("b.q", Remove, TEXT),
        ("a.y.9", Remove, TEXT),
    ] {
        assert_eq!(
            after(TEXT, path, change).as_deref(),
            Ok(expected),
            "{path} {change:?}"
        );
    }
    for (path, change) in [
        ("b.c", Override("1")),
        ("a.x.c", Default("1")),
        ("a.y.9", Override("1")),
        ("a.y.3", Override("1")),
        ("a.y.3", Default("1")),
        ("a.y.q", Override("1")),
        ("tools.-1.x", Override("1")),
        ("tools.0", Default("1")),
        ("system.0.cache_control.type", Default("1")),
        ("l.-.0.x", Default("1")),
    ] {
        assert_eq!(after(TEXT, path, change), Err(Blocked), "{path}");
    }
}

#[test]
fn numbers_are_names_where_there_is_an_object_and_where_tokens_are_named() {
    for (text, path, expected) in [
        (r#"{"a":{}}"#, "a.0", r#"{"a":{"0":1}}"#),
        ("{}", "logit_bias.50256", r#"{"logit_bias":{"50256":1}}"#),
        (
            "{}",
            "l.-.logit_bias.7",
            r#"{"l":[{"logit_bias":{"7":1}}]}"#,
        ),
    ] {
        let after = after(text, path, Change::Default("1"));
        assert_eq!(after.as_deref(), Ok(expected), "{path}");
    }
}

#[test]
fn names_may_have_dots_and_quotes() {
    let text = after("{}", r#"a\.b.c"d"#, Change::Override("1"));
    assert_eq!(text.as_deref(), Ok(r#"{"a.b":{"c\"d":1}}"#));
    for path in [
        "",
        ".",
        "a..b",
        "a.",
        r"a\b",
        r"a\",
        "a.*.b",
        "a.#.b",
        "a.#(b==1).c",
        "$.a",
        "a[0].b",
        "a[*]",
        "/a/0",
        "a.99999999999",
    ] {
        assert!(Path::parse(path).is_err(), "{path}");
    }
    let path = Path::parse(r"a\.b.\\.0").expect("a path");
    assert_eq!(Path::parse(&path.to_string()), Ok(path));
}

#[test]
fn a_member_that_is_there_twice_hides_nothing() {
    let text = after(r#"{"a":1,"b":2,"a":3}"#, "a", Change::Override("9"));
    assert_eq!(text.as_deref(), Ok(r#"{"b":2,"a":9}"#));
    let text = after(r#"{"a":{"x":1},"a":{"x":2}}"#, "a.x", Change::Remove);
    assert_eq!(text.as_deref(), Ok(r#"{"a":{}}"#));
}

#[test]
fn changes_add_up() {
    let paths =
        ["a.b", "a.-", "l.-", "l.-", "l.0.n", "a"].map(|path| Path::parse(path).expect("a path"));
    let mut document = Document::read("{ }", Spelling::Exact).expect("an object");
    let mut after = |at: usize, change| {
        let _ = document.change(&[], &paths[at], change);
        document.text()
    };
    assert_eq!(after(0, Change::Default("{}")), r#"{"a":{"b":{}}}"#);
    assert_eq!(after(1, Change::Override("1")), r#"{"a":{"b":{}}}"#);
    assert_eq!(
        after(2, Change::Override("{ }")),
        r#"{"l":[{ }],"a":{"b":{}}}"#
    );
    assert_eq!(
        after(3, Change::Override("2")),
        r#"{"l":[{ },2],"a":{"b":{}}}"#
    );
    assert_eq!(
        after(4, Change::Default("3")),
        r#"{"l":[{"n":3},2],"a":{"b":{}}}"#
    );
    assert_eq!(after(5, Change::Remove), r#"{"l":[{"n":3},2]}"#);
}

#[test]
fn google_knows_two_spellings_of_its_own_names() {
    const TEXT: &str = r#"{"generation_config":{"max_output_tokens":9,"response_schema":{"my_name":1}},"generationConfig":{"maxOutputTokens":8}}"#;
    let after = |text, path, spelling| {
        let path = Path::parse(path).expect("a path");
        let mut document = Document::read(text, spelling).expect("an object");
        document
            .change(&[], &path, Change::Override("1"))
            .map(|_| document.text())
    };
    let path = "generationConfig.max_output_tokens";
    assert_eq!(
        after(TEXT, path, Spelling::Google).as_deref(),
        Ok(r#"{"generationConfig":{"maxOutputTokens":1}}"#)
    );
    let one = r#"{"generation_config":{"max_output_tokens":9,"response_schema":{"properties":{"my_name":1}}}}"#;
    assert_eq!(
        after(
            one,
            "generationConfig.responseSchema.properties.myName",
            Spelling::Google
        )
        .as_deref(),
        Ok(
            r#"{"generation_config":{"max_output_tokens":9,"response_schema":{"properties":{"myName":1,"my_name":1}}}}"#
        )
    );
    assert_eq!(
        after(r#"{"a_b":2}"#, "aB", Spelling::Exact).as_deref(),
        Ok(r#"{"aB":1,"a_b":2}"#)
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "\\PC{0,6}".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-c]", inner), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// The same, done to a tree.
fn model(value: &mut Value, steps: &[String], change: Change<'_>) -> Result<(), Blocked> {
    let json = |json: &str| serde_json::from_str::<Value>(json).expect("JSON");
    let Some((step, deeper)) = steps.split_first() else {
        if let Change::Override(text) = change {
            *value = json(text);
        }
        return Ok(());
    };
    let (Change::Default(text) | Change::Override(text)) = change else {
        match value {
            Value::Object(members) if deeper.is_empty() => {
                members.shift_remove(step);
            }
            Value::Array(items) if deeper.is_empty() => {
                let at = if step == "-1" {
                    items.len().checked_sub(1)
                } else {
                    step.parse().ok()
                };
                if let Some(at) = at.filter(|at| *at < items.len()) {
                    items.remove(at);
                }
            }
            Value::Object(members) => {
                if let Some(inside) = members.get_mut(step) {
                    model(inside, deeper, change)?;
                }
            }
            Value::Array(items) => {
                let at = if step == "-1" {
                    items.len().checked_sub(1)
                } else {
                    step.parse().ok()
                };
                if let Some(inside) = at.and_then(|at| items.get_mut(at)) {
                    model(inside, deeper, change)?;
                }
            }
            _ => {}
        }
        return Ok(());
    };
    let fresh = || {
        let is_item = |step: &String| step == "-1" || step.parse::<u32>().is_ok();
        if deeper.iter().any(is_item) {
            return Err(Blocked);
        }
        let inward = deeper.iter().rev();
        Ok(inward.fold(json(text), |inside, name| match name.as_str() {
            "-" => json!([inside]),
            name => json!({ name: inside }),
        }))
    };
    match value {
        Value::Object(_) if step == "-" => Err(Blocked),
        Value::Object(members) => match members.get_mut(step) {
            Some(_) if deeper.is_empty() && matches!(change, Change::Default(_)) => Ok(()),
            Some(inside) => model(inside, deeper, change),
            None => {
                members.insert(step.clone(), fresh()?);
                Ok(())
            }
        },
        Value::Array(items) => {
            let length = items.len();
            let at = match step.as_str() {
                "-" => {
                    items.push(fresh()?);
                    return Ok(());
                }
                "-1" => length.checked_sub(1),
                text => text.parse().ok(),
            };
            match at {
                Some(at) if at < length => match items.get_mut(at) {
                    Some(_) if deeper.is_empty() && matches!(change, Change::Default(_)) => Ok(()),
                    Some(inside) => model(inside, deeper, change),
                    None => Err(Blocked),
                },
                _ => Err(Blocked),
            }
        }
        _ => Err(Blocked),
    }
}

proptest! {
    #[test]
    fn texts_change_as_trees_do(
        members in prop::collection::vec(("[a-c]", any_json()), 0..4),
        steps in prop::collection::vec("[a-c]|[0-3]|-|-1", 1..5),
        value in any_json(),
        kind in 0..3,
        spaced in any::<bool>(),
    ) {
        let tree = Value::Object(members.into_iter().collect());
        let text = if spaced { serde_json::to_string_pretty(&tree) } else { serde_json::to_string(&tree) };
        let value = value.to_string();
        let change = match kind {
            0 => Change::Default(&value),
            1 => Change::Override(&value),
            _ => Change::Remove,
        };
        let mut expected = tree.clone();
        let result = model(&mut expected, &steps, change);
        let (path, text) = (Path(steps), text.expect("text"));
        let mut document = Document::read(&text, Spelling::Exact).expect("an object");
        let changed = document.change(&[], &path, change);
        prop_assert_eq!(changed.map(drop), result);
        let after = document.text();
        match changed {
            Ok(true) => {
                let after: Value = serde_json::from_str(&after).expect("JSON");
                prop_assert_eq!(&after, &expected);
            }
            _ => {
                prop_assert_eq!(&after, &text);
                prop_assert_eq!(&tree, &expected);
            }
        }
        let is_of_names = path.0.iter().all(|step| step.parse::<i64>().is_err() && step != "-");
        if is_of_names {
            let _ = document.change(&[], &path, change);
            prop_assert_eq!(document.text(), after);
        }
    }
}

#[test]
fn numbers_are_written_in_one_way_and_members_are_no_places_behind() {
    for (path, text) in [
        ("a.01", r#"{"a":[1,2]}"#),
        ("a.+1", r#"{"a":[1,2]}"#),
        ("a.-", r#"{"a":{}}"#),
    ] {
        assert_eq!(
            after(text, path, Change::Override("9")),
            Err(Blocked),
            "{path}"
        );
    }
}

#[test]
fn what_is_there_twice_is_there_once_though_the_last_fits_already() {
    let text = r#"{"max_tokens":99999,"max_tokens":1000}"#;
    let path = Path::parse("max_tokens").expect("a path");
    let mut document = Document::read(text, Spelling::Exact).expect("an object");
    let changed = document.change(&[], &path, Change::Override("1000"));
    assert_eq!(
        (changed, &*document.text()),
        (Ok(true), r#"{"max_tokens":1000}"#)
    );
    let text = r#"{"m":{"trace":1},"m":{"x":1}}"#;
    assert_eq!(
        after(text, "m.trace", Change::Remove).as_deref(),
        Ok(r#"{"m":{"x":1}}"#)
    );
}

/// With a part for each of them a body of small items takes a hundred times its length.
#[test]
fn a_list_of_very_many_items_is_kept_together() {
    let items = vec!["0"; 1_000_000].join(", ");
    let text = format!(r#"{{"messages":[ {items} ]}}"#);
    let mut document = Document::read(&text, Spelling::Exact).expect("an object");
    for path in [
        "messages.7",
        "messages.-1",
        "messages.500000",
        "messages.-",
        "messages.8",
    ] {
        let path = Path::parse(path).expect("a path");
        assert_eq!(document.change(&[], &path, Change::Override("1")), Ok(true));
    }
    let Node::Open(root) = &document.root else {
        panic!("an object");
    };
    let Node::Open(list) = &root.children[0].node else {
        panic!("a list");
    };
    assert!(list.children.len() < 12, "{}", list.children.len());
    let changed: Vec<u8> = serde_json::from_str::<Value>(&document.text())
        .map(|value| serde_json::from_value(value["messages"].clone()).expect("numbers"))
        .expect("JSON");
    let ones: Vec<usize> = (0..changed.len()).filter(|at| changed[*at] == 1).collect();
    assert_eq!(ones, [7, 8, 500_000, 999_999, 1_000_000]);
}

#[test]
fn google_knows_its_own_names_in_two_spellings_however_deep() {
    let text = r#"{"generation_config":{"thinking_config":{"thinking_budget":9}},"tools":[{"functionDeclarations":[{"parameters":{"properties":{"a_b":{}}}}]}]}"#;
    let mut document = Document::read(text, Spelling::Google).expect("an object");
    let mut change = |path: &str| {
        let path = Path::parse(path).expect("a path");
        document.change(&[], &path, Change::Override("0"))
    };
    assert_eq!(
        change("generationConfig.thinkingConfig.thinkingBudget"),
        Ok(true)
    );
    assert_eq!(
        change("tools.0.functionDeclarations.0.parameters.properties.aB"),
        Ok(true)
    );
    assert_eq!(
        document.text(),
        r#"{"generation_config":{"thinking_config":{"thinking_budget":0}},"tools":[{"functionDeclarations":[{"parameters":{"properties":{"aB":0,"a_b":{}}}}]}]}"#
    );
}
