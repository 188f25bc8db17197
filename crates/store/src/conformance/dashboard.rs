//! What dashboards ask of the ledger, by every filter there is, is what the store in memory says.

use crate::MemoryStore;
use crate::usage::{
    CallFilter, CallPage, CallRow, CallSort, Filter, GroupBy, HOUR, Order, UsageStore,
};

use super::usage::call;

const DAY: i64 = 24 * HOUR;

/// Calls of five days: some every hour, some of long ago, none for a whole day.
fn calls() -> Vec<CallRow> {
    let at = |n: i64| match n {
        0..20 => n * HOUR / 7,
        20..80 => 2 * DAY + n * HOUR / 3,
        _ => 4 * DAY + n * HOUR / 5,
    };
    let failing = |n: i64| n % 17 == 3;
    let row = |n: i64| CallRow {
        started: at(n) + n,
        key: format!("key-{}", n % 5),
        team: format!("team-{}", n % 5 % 2),
        label: format!("label-{}", n % 3),
        model: format!("asked-{}", n % 4),
        upstream_model: if n % 2 == 0 { "label-1" } else { "there" }.to_owned(),
        provider: format!("provider-{}", n % 7 % 3),
        stream: n % 3 == 0,
        status: if failing(n) { 429 } else { 200 },
        error: failing(n).then(|| "rate_limited".to_owned()),
        duration: (n * 37) % 100,
        cost: n * n,
        // Tables of before have no column for it.
        passed_over: None,
        cached: None,
        saved: None,
        decision: None,
        shadow_of: None,
        ..call(n, "")
    };
    (0..150).map(row).collect()
}

fn spans() -> Vec<(Option<i64>, Option<i64>)> {
    vec![
        (None, None),
        (Some(DAY / 2 + 5), None),
        (None, Some(2 * DAY + 9 * HOUR + 30)),
        (Some(HOUR + 1), Some(4 * DAY + 17 * HOUR + 7)),
        (Some(2 * DAY), Some(3 * DAY)),
        (Some(2 * DAY + HOUR), Some(2 * DAY + 20 * HOUR)),
        (Some(2 * DAY + 7 * HOUR + 9), Some(2 * DAY + 7 * HOUR + 40)),
        (Some(3 * DAY), Some(2 * DAY)),
        (Some(9 * DAY), None),
    ]
}

fn filters() -> Vec<Filter> {
    let name = |name: &str| Some(name.to_owned());
    let mut all = Vec::new();
    for (from, until) in spans() {
        for key in [None, name("key-3"), name("nobody")] {
            for team in [None, name("team-1"), name("team-0")] {
                for provider in [None, name("provider-2")] {
                    all.push(Filter {
                        from,
                        until,
                        key: key.clone(),
                        team: team.clone(),
                        model: None,
                        provider,
                    });
                }
            }
        }
    }
    let model = name("label-1");
    let by_model = Filter {
        model,
        ..Filter::default()
    };
    all.push(by_model);
    all
}

fn wishes(of: &Filter) -> Vec<CallFilter> {
    let plain = || CallFilter {
        of: of.clone(),
        ..CallFilter::default()
    };
    let mut all = vec![plain()];
    for named in ["label-1", "asked-2", "there", "nothing"] {
        all.push(CallFilter {
            named: Some(named.to_owned()),
            ..plain()
        });
    }
    for status in [429, 200, 418] {
        all.push(CallFilter {
            status: Some(status),
            ..plain()
        });
    }
    all.push(CallFilter {
        stream: Some(true),
        ..plain()
    });
    all.push(CallFilter {
        errors: true,
        ..plain()
    });
    all.push(CallFilter {
        errors: true,
        stream: Some(false),
        named: Some("there".to_owned()),
        ..plain()
    });
    all.push(CallFilter {
        request_id: Some("req-55".to_owned()),
        ..plain()
    });
    all
}

fn pages() -> Vec<CallPage> {
    let page = |offset, limit, by, ascending| CallPage {
        offset,
        limit,
        order: Order { by, ascending },
    };
    vec![
        page(0, 7, CallSort::Started, false),
        page(31, 40, CallSort::Started, false),
        page(31, 40, CallSort::Started, true),
        page(0, 500, CallSort::Started, true),
        page(1000, 5, CallSort::Started, false),
        page(149, 5, CallSort::Started, false),
        page(3, 9, CallSort::Cost, true),
    ]
}

/// Whatever is asked of both, they say the same.
pub async fn alike(store: &dyn UsageStore, other: &dyn UsageStore) {
    let groups = [
        None,
        Some(GroupBy::Key),
        Some(GroupBy::Team),
        Some(GroupBy::Model),
        Some(GroupBy::Provider),
        Some(GroupBy::Hour),
    ];
    let mut pages = pages().into_iter().cycle();
    for of in filters() {
        for by in groups {
            let mut found = store.totals(&of, by).await.unwrap();
            let mut expected = other.totals(&of, by).await.unwrap();
            found.sort_by(|one, other| one.name.cmp(&other.name));
            expected.sort_by(|one, other| one.name.cmp(&other.name));
            assert_eq!(found, expected, "{of:?} {by:?}");
        }
        for wish in wishes(&of) {
            let page = pages.next().unwrap();
            let found = store.calls(&wish, page).await.unwrap();
            let expected = other.calls(&wish, page).await.unwrap();
            assert_eq!(found, expected, "{wish:?} {page:?}");
        }
    }
}

/// Fills both alike: some calls late, some twice, some forgotten again.
pub async fn filled(store: &dyn UsageStore) {
    let mut calls = calls();
    calls.reverse();
    let late: Vec<_> = calls.iter().skip(3).step_by(4).cloned().collect();
    for part in [&calls[..60], &calls[40..130], &late, &calls] {
        store.record(part).await.unwrap();
    }
}

/// Forgets some, by age and by name.
pub async fn thinned(store: &dyn UsageStore) {
    store.forget_calls_before(3 * HOUR, 1000).await.unwrap();
    store.forget_calls_before(3 * DAY, 11).await.unwrap();
    let ids: Vec<_> = (90..140).step_by(3).map(|n| call(n, "").id).collect();
    for _ in 0..2 {
        store.forget_calls(&ids).await.unwrap();
    }
}

/// It says what the store in memory says: of all calls, and of those left.
pub async fn questions(store: &dyn UsageStore) {
    let memory = MemoryStore::default();
    for store in [store, &memory] {
        filled(store).await;
    }
    alike(store, &memory).await;
    for store in [store, &memory] {
        thinned(store).await;
    }
    alike(store, &memory).await;
}
