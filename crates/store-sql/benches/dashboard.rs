//! How long a ledger of many rows takes to fill, and what its dashboard asks of it:
//! `cargo bench -p polygate-store-sql --bench dashboard -- --rows 10000000 [--postgres | --database ADDRESS]`.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::time::{Duration, Instant};

use polygate_core::Usage;
use polygate_store::UsageStore;
use polygate_store::usage::{
    AttemptRow, CallFilter, CallPage, CallRow, CallSort, Filter, GroupBy, HOUR, Order, State,
};
use polygate_store_sql::SqlStore;
use polygate_test_services::Postgres;

/// 90 days up to a moment in 2026.
const DAY: i64 = 24 * HOUR;
const END: i64 = 20_500 * DAY;
const SPAN: i64 = 90 * DAY;

/// Rows that are recorded at once.
const BATCH: i64 = 500;

/// Keys, teams, models and providers. A key has one team and uses eight models; a model is at two providers.
const KEYS: i64 = 50;
const TEAMS: i64 = 10;
const MODELS: i64 = 30;
const PROVIDERS: i64 = 6;

struct Asked {
    rows: i64,
    postgres: bool,
    database: Option<String>,
}

fn asked() -> Asked {
    let mut asked = Asked {
        rows: 100_000,
        postgres: false,
        database: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--rows" => asked.rows = words.next().unwrap().parse().unwrap(),
            "--postgres" => asked.postgres = true,
            "--database" => asked.database = words.next(),
            _ => {}
        }
    }
    asked
}

/// A number that looks drawn, the same for the same call.
fn drawn(n: i64, salt: u64) -> i64 {
    let mut x = n.unsigned_abs().wrapping_add(salt) ^ (salt << 32);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    i64::try_from((x ^ (x >> 31)) >> 1).unwrap()
}

fn call(n: i64, rows: i64) -> CallRow {
    let key = drawn(n, 1) % KEYS;
    let model = (key * 7 + drawn(n, 2) % 8) % MODELS;
    let provider = (model + drawn(n, 3) % 2) % PROVIDERS;
    let (status, error) = match drawn(n, 4) % 100 {
        0 => (429, Some("rate_limited")),
        1 => (500, Some("upstream_error")),
        _ => (200, None),
    };
    let tokens = drawn(n, 5);
    let usage = Usage {
        input: (tokens % 4000).unsigned_abs(),
        output: (tokens % 900).unsigned_abs(),
        ..Usage::default()
    };
    let cost = tokens % 20_000;
    let model = format!("model-{model}");
    let provider = format!("provider-{provider}");
    CallRow {
        id: format!("{n:012}"),
        request_id: format!("request-{n:012}"),
        started: END - SPAN
            + i64::try_from(i128::from(n) * i128::from(SPAN) / i128::from(rows)).unwrap(),
        duration: tokens % 9_000_000,
        first_event: Some(300_000),
        endpoint: "/v1/chat/completions".to_owned(),
        key: format!("key-{key}"),
        team: format!("team-{}", key % TEAMS),
        model: model.clone(),
        label: model.clone(),
        provider: provider.clone(),
        credential: "main".to_owned(),
        upstream_model: model.clone(),
        client: "openai-python".to_owned(),
        stream: drawn(n, 6) % 10 < 7,
        status,
        outcome: "completed".to_owned(),
        error: error.map(str::to_owned),
        state: State::Reported,
        usage,
        cost,
        price: Some(r#"{"source":"catalogue","input":1250000,"output":10000000}"#.to_owned()),
        losses: None,
        tags: None,
        end_user: None,
        session: None,
        metadata: None,
        passed_over: None,
        cached: None,
        saved: None,
        decision: None,
        shadow_of: None,
        attempts: vec![AttemptRow {
            started: 0,
            provider,
            credential: "main".to_owned(),
            model,
            outcome: "ok".to_owned(),
            status,
            duration: 1000,
            state: State::Reported,
            usage,
            cost,
        }],
    }
}

async fn fill(store: &SqlStore, rows: i64) {
    let (began, mut spent) = (Instant::now(), Duration::ZERO);
    let mut said = Instant::now();
    for first in (0..rows).step_by(usize::try_from(BATCH).unwrap()) {
        let calls: Vec<_> = (first..(first + BATCH).min(rows))
            .map(|n| call(n, rows))
            .collect();
        let asked = Instant::now();
        store.record(&calls).await.unwrap();
        spent += asked.elapsed();
        if said.elapsed() > Duration::from_secs(60) {
            said = Instant::now();
            println!("  {first} rows after {:?}", began.elapsed());
        }
    }
    let per_second =
        i128::from(rows) * 1_000_000 / i128::try_from(spent.as_micros().max(1)).unwrap();
    println!("{rows} rows recorded: {per_second} rows/s");
}

/// The middle of five.
macro_rules! timed {
    ($what:expr, $ask:expr) => {{
        let mut took = Vec::new();
        let mut found = None;
        for _ in 0..5 {
            let began = Instant::now();
            found = Some($ask.await.unwrap());
            took.push(began.elapsed());
        }
        took.sort();
        println!("{:>9.1} ms  {}", took[2].as_secs_f64() * 1e3, $what);
        found.unwrap()
    }};
}

async fn sums(store: &SqlStore) {
    let name = |name: &str| Some(name.to_owned());
    let filters = [
        ("", Filter::default()),
        (
            " of a key",
            Filter {
                key: name("key-7"),
                ..Filter::default()
            },
        ),
        (
            " of a team",
            Filter {
                team: name("team-3"),
                ..Filter::default()
            },
        ),
        (
            " of a model",
            Filter {
                model: name("model-4"),
                ..Filter::default()
            },
        ),
        (
            " of a provider",
            Filter {
                provider: name("provider-2"),
                ..Filter::default()
            },
        ),
        (
            " of a team at a provider",
            Filter {
                team: name("team-3"),
                provider: name("provider-2"),
                ..Filter::default()
            },
        ),
    ];
    let groups = [
        ("all", None),
        ("by key", Some(GroupBy::Key)),
        ("by team", Some(GroupBy::Team)),
        ("by model", Some(GroupBy::Model)),
        ("by provider", Some(GroupBy::Provider)),
        ("by hour", Some(GroupBy::Hour)),
    ];
    for (span, from) in [
        ("ever", None),
        ("90 days", Some(SPAN - HOUR)),
        ("30 days", Some(30 * DAY + 1)),
        ("1 day", Some(DAY)),
    ] {
        for (of, filter) in &filters {
            for (word, by) in groups {
                let filter = Filter {
                    from: from.map(|from| END - from),
                    until: from.map(|_| END),
                    ..filter.clone()
                };
                timed!(
                    format!("sums {word}{of}, {span}"),
                    store.totals(&filter, by)
                );
            }
        }
    }
}

async fn lists(store: &SqlStore, rows: i64) {
    let name = |name: &str| Some(name.to_owned());
    let of = |of: Filter| CallFilter {
        of,
        ..CallFilter::default()
    };
    let everything = CallFilter::default;
    let filters = [
        ("everything", everything()),
        (
            "7 days",
            of(Filter {
                from: Some(END - 7 * DAY + 12345),
                ..Filter::default()
            }),
        ),
        (
            "a key",
            of(Filter {
                key: name("key-7"),
                ..Filter::default()
            }),
        ),
        (
            "a team",
            of(Filter {
                team: name("team-3"),
                ..Filter::default()
            }),
        ),
        (
            "a provider",
            of(Filter {
                provider: name("provider-2"),
                ..Filter::default()
            }),
        ),
        (
            "a model",
            CallFilter {
                named: name("model-4"),
                ..everything()
            },
        ),
        (
            "no such model",
            CallFilter {
                named: name("model-99"),
                ..everything()
            },
        ),
        (
            "no such key",
            of(Filter {
                key: name("key-99"),
                ..Filter::default()
            }),
        ),
        (
            "no such team",
            of(Filter {
                team: name("team-99"),
                ..Filter::default()
            }),
        ),
        (
            "errors",
            CallFilter {
                errors: true,
                ..everything()
            },
        ),
        (
            "status 429",
            CallFilter {
                status: Some(429),
                ..everything()
            },
        ),
        (
            "no such status",
            CallFilter {
                status: Some(418),
                ..everything()
            },
        ),
        (
            "not streams",
            CallFilter {
                stream: Some(false),
                ..everything()
            },
        ),
        (
            "a request",
            CallFilter {
                request_id: Some(format!("request-{:012}", rows / 3)),
                ..everything()
            },
        ),
        (
            "no such request",
            CallFilter {
                request_id: name("none"),
                ..everything()
            },
        ),
        (
            "a team's 429s",
            CallFilter {
                status: Some(429),
                ..of(Filter {
                    team: name("team-3"),
                    ..Filter::default()
                })
            },
        ),
        (
            "a key's model, which it never uses",
            CallFilter {
                named: name("model-29"),
                ..of(Filter {
                    key: name("key-0"),
                    ..Filter::default()
                })
            },
        ),
        (
            "a team's key, which is another's",
            of(Filter {
                team: name("team-3"),
                key: name("key-7"),
                ..Filter::default()
            }),
        ),
    ];
    for (what, filter) in &filters {
        let mut page = CallPage {
            limit: 50,
            ..CallPage::default()
        };
        let first = timed!(
            format!("logs of {what}: first page"),
            store.calls(filter, page)
        );
        println!("                ({} of {})", first.calls.len(), first.total);
        let total = u32::try_from(first.total).unwrap();
        if total > 1000 {
            for (word, offset) in [("in the middle", total / 2), ("last page", total - 50)] {
                page.offset = offset;
                timed!(format!("logs of {what}: {word}"), store.calls(filter, page));
            }
        }
    }
    for by in [CallSort::Status, CallSort::Duration, CallSort::Cost] {
        let page = CallPage {
            limit: 50,
            order: Order {
                by,
                ascending: false,
            },
            ..CallPage::default()
        };
        let day = of(Filter {
            from: Some(END - DAY),
            ..Filter::default()
        });
        timed!(format!("logs of a day by {by:?}"), store.calls(&day, page));
        timed!(
            format!("logs of everything by {by:?}"),
            store.calls(&everything(), page)
        );
    }
}

#[tokio::main]
async fn main() {
    let asked = asked();
    let folder = tempfile::tempdir().unwrap();
    let postgres = asked.postgres.then(|| Postgres::start().unwrap());
    let address = match (&asked.database, &postgres) {
        (Some(address), _) => address.clone(),
        (None, Some(postgres)) => postgres.database("dashboard"),
        (None, None) => format!("sqlite:{}", folder.path().join("dashboard.db").display()),
    };
    let store = SqlStore::new(&address).unwrap();
    store.migrate_up().await.unwrap();
    let held = store.totals(&Filter::default(), None).await.unwrap();
    if held[0].totals.calls < asked.rows {
        fill(&store, asked.rows).await;
    }
    sums(&store).await;
    lists(&store, asked.rows).await;
    store.close().await;
}
