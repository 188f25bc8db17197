//! The ledger.

use polygate_core::Usage;

use crate::usage::{
    AttemptRow, CallFilter, CallPage, CallRow, CallSort, Filter, Group, GroupBy, HOUR, Order,
    State, Totals, UsageStore,
};

/// A call that has everything.
pub(crate) fn call(n: i64, key: &str) -> CallRow {
    let usage = Usage {
        input: 10,
        output: 5,
        cache_read: 4,
        cache_write: 3,
        cache_write_1h: 2,
        reasoning: 1,
        input_audio: 6,
        output_audio: 7,
        served: Some(polygate_core::ServiceTier::Flex),
    };
    CallRow {
        id: format!("call-{n:03}"),
        request_id: format!("req-{n}"),
        started: n * HOUR / 2,
        duration: 1000,
        first_event: Some(300),
        endpoint: "/v1/chat/completions".to_owned(),
        key: key.to_owned(),
        team: "team".to_owned(),
        model: "gpt-é".to_owned(),
        label: "gpt-*".to_owned(),
        provider: "openai".to_owned(),
        credential: "main".to_owned(),
        upstream_model: "gpt-4o".to_owned(),
        client: "curl".to_owned(),
        stream: n % 2 == 0,
        status: 200,
        outcome: "completed".to_owned(),
        error: None,
        state: State::Reported,
        usage,
        cost: 1234,
        price: Some(r#"{"input":1}"#.to_owned()),
        losses: Some("[]".to_owned()),
        tags: None,
        end_user: None,
        session: None,
        metadata: None,
        passed_over: Some(r#"[{"verdict":"limit"}]"#.to_owned()),
        cached: None,
        saved: None,
        decision: Some(r#"{"altered":["/model"]}"#.to_owned()),
        shadow_of: None,
        attempts: vec![
            AttemptRow {
                started: 0,
                provider: "azure".to_owned(),
                credential: "other".to_owned(),
                model: "gpt".to_owned(),
                outcome: "upstream_error".to_owned(),
                status: 500,
                duration: 200,
                state: State::Failed,
                usage: Usage::default(),
                cost: 0,
            },
            AttemptRow {
                started: 200,
                provider: "openai".to_owned(),
                credential: "main".to_owned(),
                model: "gpt-4o".to_owned(),
                outcome: "ok".to_owned(),
                status: 200,
                duration: 800,
                state: State::Reported,
                usage,
                cost: 1234,
            },
        ],
    }
}

fn named(groups: &[Group]) -> Vec<(&str, i64)> {
    let pairs = groups.iter();
    let mut pairs: Vec<_> = pairs
        .map(|group| (&*group.name, group.totals.calls))
        .collect();
    pairs.sort_unstable();
    pairs
}

/// A row comes back as it was, and counts once however often it is recorded.
pub async fn rows(store: &dyn UsageStore) {
    let mut failed = call(2, "bob");
    failed.error = Some("upstream_error".to_owned());
    failed.first_event = None;
    failed.price = None;
    failed.losses = None;
    failed.tags = Some(r#"["a"]"#.to_owned());
    failed.end_user = Some("é@example.org".to_owned());
    failed.session = Some("s-1".to_owned());
    failed.metadata = Some(r#"{"plan":"gold"}"#.to_owned());
    failed.shadow_of = Some("call-001".to_owned());
    failed.state = State::Aborted;
    failed.cached = Some("hit".to_owned());
    failed.saved = Some(failed.usage);
    failed.attempts.truncate(1);
    let rows = [call(1, "alice"), failed.clone()];
    assert_eq!(store.record(&rows).await.unwrap(), 2);
    assert_eq!(store.record(&rows).await.unwrap(), 0);
    let more = [call(1, "alice"), call(3, "alice"), call(3, "alice")];
    assert_eq!(store.record(&more).await.unwrap(), 1);
    assert_eq!(store.record(&[]).await.unwrap(), 0);
    let found = store.call("call-002", None).await.unwrap();
    assert_eq!(found.as_ref(), Some(&failed));
    assert_eq!(
        store.call("req-1", None).await.unwrap(),
        Some(call(1, "alice"))
    );
    assert_eq!(store.call("none", None).await.unwrap(), None);
    for (shadow, total) in [(Some(true), 1), (Some(false), 2), (None, 3)] {
        let of = CallFilter {
            shadow,
            ..CallFilter::default()
        };
        let page = CallPage {
            limit: 10,
            ..CallPage::default()
        };
        let found = store.calls(&of, page).await.unwrap();
        let seen = found.calls.len();
        assert_eq!(
            (found.total, seen),
            (total, usize::try_from(total).unwrap())
        );
    }
    let all = store.totals(&Filter::default(), None).await.unwrap();
    let expected = Totals {
        calls: 3,
        attempts: 5,
        errors: 1,
        input_tokens: 30,
        output_tokens: 15,
        cache_read_tokens: 12,
        cache_write_tokens: 9,
        reasoning_tokens: 3,
        cost_micro_usd: 3702,
    };
    assert_eq!(all.len(), 1);
    assert_eq!(all.first().map(|group| &group.totals), Some(&expected));
}

/// Calls of several teams by one request's id.
pub async fn by_team(store: &dyn UsageStore) {
    store.record(&[call(1, "alice")]).await.unwrap();
    // A request's id is its caller's word: another team's call of the same one hides none.
    let alice = call(1, "alice");
    let later = CallRow {
        team: "others".to_owned(),
        started: alice.started + 1,
        ..CallRow {
            id: "call-of-others".to_owned(),
            ..alice.clone()
        }
    };
    assert_eq!(store.record(std::slice::from_ref(&later)).await.unwrap(), 1);
    for (team, seen) in [(&later.team, &later), (&alice.team, &alice)] {
        let found = store.call("req-1", Some(team)).await.unwrap();
        assert_eq!(found.map(|call| call.id), Some(seen.id.clone()));
        let other = store.call(&seen.id, Some("nobody's")).await.unwrap();
        assert!(other.is_none());
    }
    assert_eq!(store.forget_calls(&[later.id]).await.unwrap(), 1);
}

/// Sums are of whole hours, by whatever is asked.
pub async fn sums(store: &dyn UsageStore) {
    let empty = store.totals(&Filter::default(), None).await.unwrap();
    assert_eq!(named(&empty), [("", 0)]);
    let rows: Vec<_> = (0..8)
        .map(|n| call(n, if n % 4 == 0 { "bob" } else { "alice" }))
        .collect();
    store.record(&rows).await.unwrap();
    let by = async |of: Filter, by| store.totals(&of, Some(by)).await.unwrap();
    let everything = Filter::default();
    let keys = by(everything.clone(), GroupBy::Key).await;
    assert_eq!(named(&keys), [("alice", 6), ("bob", 2)]);
    let models = by(everything.clone(), GroupBy::Model).await;
    assert_eq!(named(&models), [("gpt-*", 8)]);
    let hours = by(everything.clone(), GroupBy::Hour).await;
    let hour = |n: i64| (n * HOUR).to_string();
    let expected = [hour(0), hour(1), hour(2), hour(3)];
    let mut expected: Vec<_> = expected.iter().map(|hour| (&**hour, 2)).collect();
    expected.sort_unstable();
    assert_eq!(named(&hours), expected);
    let part = Filter {
        from: Some(HOUR + 5),
        until: Some(2 * HOUR + 1),
        key: Some("alice".to_owned()),
        ..Filter::default()
    };
    assert_eq!(named(&by(part, GroupBy::Team).await), [("team", 3)]);
    let nobody = Filter {
        provider: Some("nobody".to_owned()),
        ..Filter::default()
    };
    assert!(by(nobody, GroupBy::Provider).await.is_empty());
}

/// Calls are listed newest first, a page at a time.
pub async fn lists(store: &dyn UsageStore) {
    let rows: Vec<_> = (0..8)
        .map(|n| call(n, if n % 4 == 0 { "bob" } else { "alice" }))
        .collect();
    store.record(&rows).await.unwrap();
    let list = async |of: CallFilter, offset, limit| {
        let page = CallPage {
            offset,
            limit,
            ..CallPage::default()
        };
        let found = store.calls(&of, page).await.unwrap();
        assert!(found.is_exact);
        let (rows, total) = (found.calls, found.total);
        let ids: Vec<_> = rows.iter().map(|row| row.request_id.clone()).collect();
        assert!(rows.iter().all(|row| row.attempts.is_empty()));
        (ids, total)
    };
    let ids = |list: &[&str]| list.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    let everything = CallFilter::default();
    let all = list(everything.clone(), 0, 3).await;
    assert_eq!(all, (ids(&["req-7", "req-6", "req-5"]), 8));
    assert_eq!(list(everything, 6, 3).await, (ids(&["req-1", "req-0"]), 8));
    let of = CallFilter {
        of: Filter {
            from: Some(HOUR),
            until: Some(3 * HOUR),
            key: Some("alice".to_owned()),
            ..Filter::default()
        },
        stream: Some(false),
        status: Some(200),
        ..CallFilter::default()
    };
    assert_eq!(list(of, 0, 9).await, (ids(&["req-5", "req-3"]), 2));
    let of = CallFilter {
        request_id: Some("req-4".to_owned()),
        ..CallFilter::default()
    };
    assert_eq!(list(of.clone(), 0, 9).await, (ids(&["req-4"]), 1));
    let errors = CallFilter { errors: true, ..of };
    assert_eq!(list(errors, 0, 9).await, (ids(&[]), 0));
}

/// Calls are listed in another order, and by whatever name their model has.
pub async fn orders(store: &dyn UsageStore) {
    let rows: Vec<_> = (0..4)
        .map(|n| CallRow {
            status: if n == 1 { 500 } else { 200 },
            duration: 100 - n,
            cost: n / 2,
            model: format!("asked-{n}"),
            ..call(n, "alice")
        })
        .collect();
    store.record(&rows).await.unwrap();
    let list = async |named: Option<&str>, by, ascending| {
        let page = CallPage {
            limit: 9,
            order: Order { by, ascending },
            ..CallPage::default()
        };
        let of = CallFilter {
            named: named.map(str::to_owned),
            ..CallFilter::default()
        };
        let found = store.calls(&of, page).await.unwrap();
        let numbers: Vec<_> = found
            .calls
            .iter()
            .map(|row| row.started * 2 / HOUR)
            .collect();
        numbers
    };
    for (by, ascending, expected) in [
        (CallSort::Started, true, [0, 1, 2, 3]),
        (CallSort::Started, false, [3, 2, 1, 0]),
        (CallSort::Duration, true, [3, 2, 1, 0]),
        (CallSort::Status, false, [1, 3, 2, 0]),
        (CallSort::Cost, true, [1, 0, 3, 2]),
        (CallSort::Cost, false, [3, 2, 1, 0]),
    ] {
        assert_eq!(list(None, by, ascending).await, expected, "{by:?}");
    }
    let (by, ascending) = (CallSort::Started, true);
    assert_eq!(list(Some("asked-2"), by, ascending).await, [2]);
    for name in ["gpt-*", "gpt-4o"] {
        assert_eq!(list(Some(name), by, ascending).await.len(), 4, "{name}");
    }
    assert!(list(Some("asked"), by, ascending).await.is_empty());
}

/// Calls are found by what their callers say of them, and no more once they are forgotten.
pub async fn as_said(store: &dyn UsageStore) {
    let rows: Vec<_> = (0..8)
        .map(|n| CallRow {
            end_user: (n != 7).then(|| format!("user-{}", n % 2)),
            session: (n > 3).then(|| format!("session-{}", n % 2)),
            cached: (n % 3 == 0).then(|| "hit".to_owned()),
            tags: (n > 1).then(|| format!(r#"["every","é-{}","it's \"%_"]"#, n % 3)),
            ..call(n, if n % 4 == 0 { "bob" } else { "alice" })
        })
        .collect();
    store.record(&rows).await.unwrap();
    store.record(&rows).await.unwrap();
    let list = async |of: &CallFilter, order, limit| {
        let page = CallPage {
            limit,
            order,
            offset: 0,
        };
        let found = store.calls(of, page).await.unwrap();
        assert!(found.is_exact);
        let ids = found.calls.iter().map(|row| row.request_id.clone());
        (ids.collect::<Vec<_>>().join(" "), found.total)
    };
    let newest = Order::default();
    let some = |text: &str| Some(text.to_owned());
    let tagged = |tag: &str| CallFilter {
        tag: some(tag),
        ..CallFilter::default()
    };
    let user = CallFilter {
        end_user: some("user-1"),
        ..CallFilter::default()
    };
    let session = CallFilter {
        session: some("session-0"),
        ..CallFilter::default()
    };
    let cached = |cached| CallFilter {
        cached: Some(cached),
        ..CallFilter::default()
    };
    let all = CallFilter {
        of: Filter {
            from: Some(HOUR),
            until: Some(3 * HOUR),
            key: some("bob"),
            ..Filter::default()
        },
        end_user: some("user-0"),
        session: some("session-0"),
        ..tagged("every")
    };
    for (of, ids, total) in [
        (&user, "req-5 req-3 req-1", 3),
        (&session, "req-6 req-4", 2),
        (&tagged("every"), "req-7 req-6 req-5 req-4 req-3 req-2", 6),
        (&tagged("é-2"), "req-5 req-2", 2),
        (
            &tagged("it's \"%_"),
            "req-7 req-6 req-5 req-4 req-3 req-2",
            6,
        ),
        (&tagged("EVERY"), "", 0),
        (&tagged("é"), "", 0),
        (&cached(true), "req-6 req-3 req-0", 3),
        (&cached(false), "req-7 req-5 req-4 req-2 req-1", 5),
        (&all, "req-4", 1),
    ] {
        assert_eq!(list(of, newest, 9).await, (ids.to_owned(), total), "{of:?}");
    }
    let by = |by, ascending| Order { by, ascending };
    let oldest = by(CallSort::Started, true);
    let few = list(&tagged("every"), oldest, 2).await;
    assert_eq!(few, ("req-2 req-3".to_owned(), 6));
    let dearest = by(CallSort::Cost, false);
    let few = list(&tagged("every"), dearest, 2).await;
    assert_eq!(few, ("req-7 req-6".to_owned(), 6), "equals newest first");
    let gone = ["call-006".to_owned(), "call-005".to_owned()];
    assert_eq!(store.forget_calls(&gone).await.unwrap(), 2);
    assert_eq!(store.forget_calls_before(3 * HOUR / 2, 9).await.unwrap(), 3);
    let left = list(&tagged("every"), newest, 9).await;
    assert_eq!(left, ("req-7 req-4 req-3".to_owned(), 3));
    assert_eq!(list(&session, newest, 9).await, ("req-4".to_owned(), 1));
}

/// Calls can be forgotten; sums stay.
pub async fn forgetting(store: &dyn UsageStore) {
    let rows: Vec<_> = (0..8).map(|n| call(n, "alice")).collect();
    store.record(&rows).await.unwrap();
    assert_eq!(store.forget_calls_before(2 * HOUR, 3).await.unwrap(), 3);
    assert_eq!(store.forget_calls_before(2 * HOUR, 3).await.unwrap(), 1);
    assert_eq!(store.forget_calls_before(2 * HOUR, 3).await.unwrap(), 0);
    let ids = ["call-007".to_owned(), "call-000".to_owned()];
    assert_eq!(store.forget_calls(&ids).await.unwrap(), 1);
    assert!(store.call("call-007", None).await.unwrap().is_none());
    let page = CallPage {
        offset: 0,
        limit: 9,
        ..CallPage::default()
    };
    let left = store.calls(&CallFilter::default(), page).await.unwrap();
    assert_eq!((left.calls.len(), left.total), (3, 3));
    let sums = store.totals(&Filter::default(), None).await.unwrap();
    assert_eq!(named(&sums), [("", 8)]);
}
