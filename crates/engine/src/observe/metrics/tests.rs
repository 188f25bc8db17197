//! The table against the page, and the document that is made of the table.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use polygate_core::Usage;
use polygate_store::usage::State;

use super::*;
use crate::guard::{Acted, Action, Side};
use crate::observe::AttemptRecord;
use crate::observe::charge::Charge;
use crate::observe::charge::tests::{asked, call};
use crate::observe::{Looked, Outcome, Transformed};
use crate::quota::{Allowance, Measure, Period, Quota, Subject, SubjectKind};

fn usage() -> Usage {
    Usage {
        input: 100,
        output: 20,
        cache_read: 30,
        cache_write: 10,
        cache_write_1h: 5,
        reasoning: 7,
        ..Usage::default()
    }
}

/// A call with something of everything: two fail, one is beside another and wins.
fn eventful() -> CallRecord {
    let failed = AttemptRecord {
        outcome: "upstream_error",
        ambiguous: false,
        ..asked()
    };
    let elsewhere = AttemptRecord {
        credential: "p#2".into(),
        ..failed.clone()
    };
    let won = AttemptRecord {
        provider: "q".into(),
        outcome: "ok",
        answered: true,
        is_hedge: true,
        complete: true,
        charge: Charge {
            state: State::Reported,
            usage: usage(),
            cost: 42,
        },
        ..asked()
    };
    CallRecord {
        guards: vec![Acted {
            guard: "mail".into(),
            action: Action::Redact,
            side: Side::Request,
            count: 1,
        }],
        usage: Some(usage()),
        outcome: Outcome::ClientGone,
        unpriced: true,
        looked: Some(Looked::Hit),
        saved: Some(usage()),
        transformed: Transformed {
            losses: vec![polygate_wire::Loss("/stop".to_owned())],
            ..Transformed::default()
        },
        first_event: Some(Duration::from_millis(5)),
        ..call(vec![failed, elsewhere, won])
    }
}

fn page(metrics: &Metrics, book: &Book, format: Format) -> String {
    let (engine, _) = crate::status::tests::engine_of(crate::status::tests::config());
    let providers = crate::status::providers(&engine.snapshot(), Duration::ZERO);
    let now = Now {
        providers: &providers,
        ledger: Some(&Stats::default()),
        limits: book,
        standing: Standing::default(),
        micros: 0,
    };
    metrics.render(&now, format)
}

fn full() -> (Metrics, Book) {
    let (metrics, book) = (Metrics::new(), Book::default());
    metrics.observe(&eventful());
    metrics.shadow_dropped(&"m".into());
    metrics.told("otlp").dropped();
    metrics.refused(&nowhere(&http::Method::POST));
    let subject = Subject::new(SubjectKind::Key, "k");
    let allowance = Allowance {
        measure: Measure::Money,
        period: Period::Day,
        most: 0,
    };
    let _quota = Quota::new(&subject, &[allowance], &book);
    (metrics, book)
}

fn nowhere(method: &http::Method) -> Refused {
    let failure = polygate_core::Failure::new(polygate_core::Kind::UnknownRoute, "");
    Refused::new(method, &"r-1".into(), &failure)
}

/// Names of labels by the metric that has them; of histograms without `le`.
fn labels(page: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).expect("a value"));
        let name = ["_total", "_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .unwrap_or(name);
        let names = rest
            .split(['{', ','])
            .filter_map(|label| Some(label.split_once("=\"")?.0));
        let labels = found.entry(name).or_default();
        labels.extend(names.filter(|name| *name != "le"));
    }
    found
}

#[test]
fn the_table_is_the_page() {
    let (metrics, book) = full();
    let text = page(&metrics, &book, Format::OpenMetrics);
    assert!(text.ends_with("# EOF\n"));
    let labels = labels(&text);
    for row in TABLE {
        let kind = format!("# TYPE {} {}\n", row.name, row.kind.name());
        assert!(text.contains(&kind), "{kind} in {text}");
        assert!(!row.help.is_empty(), "{}", row.name);
        let expected: BTreeSet<&str> = row.labels.iter().copied().collect();
        assert_eq!(labels.get(row.name), Some(&expected), "{}", row.name);
    }
    assert_eq!(labels.len(), TABLE.len(), "nothing is on the page only");
}

#[test]
fn who_does_not_ask_for_openmetrics_reads_the_older_format() {
    assert_eq!(Format::accepted("*/*"), Format::Plain);
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.3";
    assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
    let (metrics, book) = full();
    let text = page(&metrics, &book, Format::Plain);
    assert!(!text.contains("# EOF"));
    for line in [
        "# TYPE llm_proxy_requests_total counter",
        "# TYPE llm_proxy_provider_health gauge",
        "# TYPE llm_proxy_ttft_seconds histogram",
        "polygate_failovers_total{provider=\"p\",reason=\"upstream_error\"} 1",
        "polygate_hedges_total{provider=\"q\",outcome=\"won\"} 1",
        "polygate_limits_spent{measure=\"usd\",period=\"day\"} 1",
        "polygate_charged_tokens_total{model=\"fast\",provider=\"q\",kind=\"cache_read\",state=\"reported\"} 30",
        "llm_proxy_requests_total{method=\"POST\",endpoint=\"other\",model=\"none\",provider=\"none\",status_code=\"404\",api_key_name=\"none\",client=\"unknown\"} 1",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} in {text}");
    }
}

/// Where another goes on with an answer that broke off, each has its own tokens.
#[test]
fn tokens_are_of_who_wrote_them() {
    let wrote = |provider: &str, output: u64| AttemptRecord {
        provider: provider.into(),
        answered: true,
        charge: Charge {
            usage: Usage {
                output,
                ..Usage::default()
            },
            ..Charge::NOTHING
        },
        ..asked()
    };
    let metrics = Metrics::new();
    metrics.observe(&CallRecord {
        provider: "q".into(),
        ..call(vec![wrote("p", 7), wrote("q", 5)])
    });
    let text = page(&metrics, &Book::default(), Format::Plain);
    for (provider, count) in [("p", 7), ("q", 5)] {
        let line = format!(
            "llm_proxy_tokens_total{{model=\"fast\",provider=\"{provider}\",token_type=\"completion_tokens\",api_key_name=\"k\"}} {count}"
        );
        assert!(text.lines().any(|one| one == line), "{line} in {text}");
    }
}

/// Asking the same provider by the same key again is a retry, and no failover; another key is one.
#[test]
fn a_failover_goes_somewhere_else() {
    let failed = |credential: &str| AttemptRecord {
        outcome: "upstream_error",
        credential: credential.into(),
        ..asked()
    };
    let beside = |attempt: AttemptRecord| AttemptRecord {
        is_hedge: true,
        ..attempt
    };
    for (attempts, failovers) in [
        (vec![failed("a"), failed("a"), failed("a")], 0),
        (vec![failed("a"), failed("a"), failed("b")], 1),
        (vec![failed("a"), failed("b"), failed("a")], 2),
        (vec![failed("a"), beside(failed("b"))], 0),
    ] {
        let metrics = Metrics::new();
        metrics.observe(&call(attempts));
        let text = page(&metrics, &Book::default(), Format::Plain);
        let line = "polygate_failovers_total{provider=\"p\",reason=\"upstream_error\"}";
        let counted = text.lines().find_map(|one| one.strip_prefix(line));
        let counted = counted.map_or(0, |count| count.trim().parse().expect("a count"));
        assert_eq!(counted, failovers);
    }
}

#[test]
fn a_method_that_a_caller_made_up_is_no_label() {
    let metrics = Metrics::new();
    for number in 0..1000 {
        let method: http::Method = format!("M{number}").parse().expect("a method");
        metrics.refused(&nowhere(&method));
        metrics.observe(&CallRecord {
            method,
            ..eventful()
        });
    }
    let text = page(&metrics, &Book::default(), Format::Plain);
    let requests = text
        .lines()
        .filter(|line| line.starts_with("llm_proxy_requests_total{"));
    assert_eq!(requests.count(), 2);
}

/// What a call costs off the request path, and a refusal on it. Printed; held to a bound that only a blunder breaks.
#[test]
#[expect(clippy::print_stdout, reason = "a figure to look at")]
fn counting_a_call_is_cheap() {
    let metrics = Arc::new(Metrics::new());
    let record = eventful();
    let rounds = 20_000;
    let start = Instant::now();
    for _ in 0..rounds {
        metrics.observe(&record);
    }
    let each = start.elapsed() / rounds;
    println!("one call with two attempts: {each:?} of the pump");
    assert!(each < Duration::from_micros(200), "{each:?}");
}
