//! Bad files and the whole of what is said about them.

use crate::{good, report, report_with, warnings};

#[test]
fn every_problem_is_told_at_once_in_the_order_of_lines() {
    assert_eq!(
        report(
            "
server: {prot: 1, port: eighty}
providers:
  - {name: openai, api_key: k, wieght: 1, weight: -1}
  - {name: openai, api_key: [k], type: opnai}
  - {api_key: k}
models:
  best: {targets: [{provider: opnai, model: m}], fallbacks: [best, nobody]}
  none: {targets: []}
retry: {max_backoff: soon, breaker_threshold: 0}
timeouts: {connect: 0}
tls: {enable: true, key: k.pem}
"
        ),
        "config.yaml:2:10: server.prot: unknown key; did you mean 'port'?
config.yaml:2:19: server.port: must be a whole number in range, not 'eighty'
config.yaml:4:32: providers[0].wieght: unknown key; did you mean 'weight'?
config.yaml:4:43: providers[0].weight: must be a whole number in range, not '-1'
config.yaml:5:5: providers[1]: another provider, in line 4, is called 'openai' too
config.yaml:5:5: providers[1]: no provider type 'opnai'; did you mean 'openai'?
config.yaml:5:20: providers[1].api_key: must be a text, not a list
config.yaml:6:5: providers[2].name: is missing
config.yaml:8:21: models.best.targets[0].provider: there is no provider 'opnai'; did you mean 'openai'?
config.yaml:8:62: models.best.fallbacks[0]: a model cannot fall back to itself
config.yaml:9:10: models.none.targets: needs at least one target
config.yaml:10:9: retry.max_backoff: must be a number of seconds, or a time such as 500ms, 30s or 5m, not 'soon'
config.yaml:10:28: retry.breaker_threshold: must be at least 1
config.yaml:11:12: timeouts.connect: must be more than zero
config.yaml:12:1: tls.cert: is missing"
    );
}

#[test]
fn problems_of_one_kind() {
    let cases = [
        ("a: [", "config.yaml:2:1: "),
        ("a: 1\nb\n", "config.yaml:"),
        (
            "a: 1\na: 2\n",
            "config.yaml:2:1: the key 'a' is there twice",
        ),
        (
            "- a\n",
            "config.yaml:1:1: the file must be a mapping of keys to values, not a list",
        ),
        (
            "server: {}\n---\nserver: {}\n",
            "config.yaml:2:1: a second document begins: one is expected",
        ),
        (
            "server: !env X\n",
            "config.yaml:1:9: tags are not supported",
        ),
        (
            "server:\n  <<: 5\n",
            "config.yaml:2:7: '<<' takes a mapping, or a list of mappings",
        ),
        (
            "server: 5\n",
            "config.yaml:1:1: server: must be a mapping of keys to values, not '5'",
        ),
        (
            "providers: {name: x}\n",
            "config.yaml:1:1: providers: must be a list, not a mapping",
        ),
        (
            "models: {m: {targets: [{provider: p}], fallbacks: [x]}}\n",
            "config.yaml:1:25: models.m.targets[0].provider: there is no provider 'p'",
        ),
        (
            "providers: [{name: openai, api_key: k, model_mapping: {'gpt-(': x}}]\n",
            "config.yaml:1:56: providers[0].model_mapping.gpt-(: 'gpt-(' is no valid pattern: unclosed group",
        ),
        (
            "providers: [{name: x, api_key: k}]\n",
            "config.yaml:1:13: providers[0]: type 'openai-compatible' needs an api_base",
        ),
        (
            "providers: [{name: x, api_key: k, api_base: 'https://u:p@h.example'}]\n",
            "config.yaml:1:13: providers[0]: a base address carries no user or password",
        ),
        (
            "providers: [{name: openai, api_key: ''}]\n",
            "config.yaml:1:28: providers[0].api_key: is empty",
        ),
        (
            "providers: [{name: openai, name: x}]\n",
            "config.yaml:1:28: the key 'name' is there twice",
        ),
        (
            "providers: [{name: openai, api_key: k, is_enabled: true, enabled: true}]\n",
            "config.yaml:1:40: providers[0].is_enabled: is the same setting as 'enabled': keep one",
        ),
        (
            "providers: [{name: openai, api_key: k, wire_api: both}]\n",
            "config.yaml:1:40: providers[0].wire_api: must be one of: chat, responses, not 'both'",
        ),
        (
            "master_keys: [{key: abc-1, name: a}, {key: abc-1, name: b}]\n",
            "config.yaml:1:38: master_keys[1]: 'b' has the same key as 'a' in line 1",
        ),
        (
            "master_keys: [{name: a}]\n",
            "config.yaml:1:15: master_keys[0].key: is missing",
        ),
        (
            "master_keys: [{key: k-1, rate_limit: {}}]\n",
            "config.yaml:1:26: master_keys[0].rate_limit.requests_per_second: is missing",
        ),
        (
            "models: {m: {providers: [{name: p, api_base: 'https://h.example'}]}}\n",
            "config.yaml:1:26: models.m.providers[0].api_key: is missing",
        ),
        (
            "health_check: {interval: 0}\n",
            "config.yaml:1:16: health_check.interval: must be more than zero",
        ),
        (
            "providers: [{name: openai, api_key: k, health_check: {}}]\n",
            "config.yaml:1:40: providers[0].health_check.model: is missing",
        ),
        (
            "providers: [{name: openai, api_key: k, health_check: {model: a, models: [a]}}]\n",
            "config.yaml:1:65: providers[0].health_check.models: unknown key; did you mean 'model'?",
        ),
        (
            "health_check: {probe_models: often}\n",
            "config.yaml:1:16: health_check.probe_models: must be true or false, not 'often'",
        ),
        (
            "guards: [{name: g, action: block}]\n",
            "config.yaml:1:10: guards[0]: looks for nothing: say what by detect, patterns or words, or ask by webhook",
        ),
        (
            "guards: [{name: g, detect: [mail], action: block}]\n",
            "config.yaml:1:29: guards[0].detect[0]: must be one of: email, card, iban, api-key, jwt, private-key, not 'mail'",
        ),
        (
            "guards: [{name: g, patterns: ['a*'], action: flag}]\n",
            "config.yaml:1:31: guards[0].patterns[0]: 'a*' cannot be looked for: it matches where there is nothing",
        ),
        (
            "guards: [{name: g, patterns: ['\\bx'], action: flag}]\n",
            "config.yaml:1:31: guards[0].patterns[0]: '\\bx' cannot be looked for: its word boundary is of all of Unicode, which cannot be looked for in text that comes in pieces: write (?-u:\\b)",
        ),
        (
            "guards: [{name: g, on: [answer], words: [x], action: restore}]\n",
            "config.yaml:1:20: guards[0].on: must have 'request': what is put back is taken out there",
        ),
        (
            "guards: [{name: 'a,b', words: [x], action: flag}]\n",
            "config.yaml:1:11: guards[0].name: must be at most 64 letters, digits, '-', '_' and '.'",
        ),
        (
            "guards: [{name: g, words: [x], action: flag}, {name: g, words: [y], action: flag}]\n",
            "config.yaml:1:47: guards[1]: there is another guard 'g'",
        ),
        (
            "guards: [{name: g, webhook: {url: 'x/secret'}}]\n",
            "config.yaml:1:30: guards[0].webhook.url: must be an address: http://host:port/path or https://host/path",
        ),
        (
            "guards_key: short\n",
            "config.yaml:1:1: guards_key: must have 16 signs at least",
        ),
    ];
    let mut wrong = Vec::new();
    for (text, expected) in cases {
        let report = report(text);
        let first = report.lines().next().unwrap_or_default();
        let fits = if expected.ends_with(' ') || expected.ends_with(':') {
            first.starts_with(expected)
        } else {
            first == expected
        };
        if !fits {
            wrong.push(format!("{text}says {report}\nnot  {expected}\n"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn features_that_come_later_are_refused_by_name() {
    let cases = ["strict: true"];
    for text in cases {
        let report = report(text);
        assert!(
            report.contains("' is not supported yet: ") && report.lines().count() == 1,
            "{text}: {report}"
        );
    }
}

#[test]
fn headers_that_never_pass_are_refused() {
    let provider = |more: &str| format!("providers: [{{name: openai, api_key: k, {more}}}]\n");
    for name in [
        "authorization",
        "X-Api-Key",
        "x-goog-api-key",
        "api-key",
        "proxy-authorization",
        "x-amz-security-token",
        "cookie",
        "connection",
        "te",
        "transfer-encoding",
        "upgrade",
        "keep-alive",
        "trailer",
        "proxy-connection",
        "host",
        "content-length",
        "accept-encoding",
        "forwarded",
        "via",
        "x-forwarded-for",
        "x-real-ip",
        "x-polygate-hops",
    ] {
        for text in [
            provider(&format!("forward_headers: [openai-beta, {name}]")),
            provider(&format!("forward_headers: {{{name}: ['a*']}}")),
            format!(
                "{}claude_header_defaults: {{{name}: a}}\n",
                provider("weight: 1")
            ),
        ] {
            let report = report(&text);
            let is_told = report.contains("is never passed on to a provider: ");
            assert!(is_told && report.lines().count() == 1, "{text}: {report}");
        }
    }
    for name in ["connection", "Content-Length", "accept-encoding"] {
        let report = report(&provider(&format!("headers: {{{name}: a}}")));
        assert!(
            report.contains("it is about one connection only"),
            "{report}"
        );
    }
}

#[test]
fn header_policies_that_mean_nothing_are_told() {
    for (more, said) in [
        ("forward_headers: ['a b']", "'a b' is no header name"),
        (
            "forward_headers: {anthropic-beta: 'a,b'}",
            "must be a pattern of one value",
        ),
        (
            "forward_headers: {anthropic-beta: ['']}",
            "must be a pattern of one value",
        ),
        ("forward_headers: 5", "must be a list"),
        ("passthrough_headers: ['a b']", "is no header's name"),
        (
            "forward_headers: [], provider_params: {anthropic_beta_policy: drop}",
            "keep one",
        ),
        (
            "provider_params: {anthropic_beta_policy: some}",
            "must be one of: drop, allowlist, passthrough",
        ),
        (
            "provider_params: {gcp_project: p}",
            "provider_params.gcp_project: unknown key",
        ),
    ] {
        let report = report(&format!(
            "providers: [{{name: openai, api_key: k, {more}}}]\n"
        ));
        assert!(report.contains(said), "{more}: {report}");
    }
    for (more, said) in [
        (
            "passthrough_headers: [Set-Cookie]",
            "'set-cookie' never passes to clients",
        ),
        (
            "provider_params: {anthropic_beta_allowlist: [a]}",
            "has no effect without 'anthropic_beta_policy: allowlist'",
        ),
        (
            "api_keys: [{key: k2, enabled: false}]",
            "'openai' has no key that is enabled",
        ),
    ] {
        let api_key = if more.contains("api_keys") {
            ""
        } else {
            "api_key: k, "
        };
        let loaded = good(&format!("providers: [{{name: openai, {api_key}{more}}}]\n"));
        let warnings = warnings(&loaded).join("\n");
        assert!(warnings.contains(said), "{more}: {warnings}");
    }
}

#[test]
fn limits_in_another_place_are_told_theirs() {
    for (text, instead) in [
        ("budgets: 0", "write 'limits: {usd_per_month: …}'"),
        (
            "master_keys: [{key: k-1, tokens_per_minute: 0}]",
            "write 'limits: {tokens_per_minute: …}'",
        ),
    ] {
        let report = report(text);
        assert!(
            report.contains(instead) && report.lines().count() == 1,
            "{text}: {report}"
        );
    }
}

#[test]
fn features_that_come_later_may_be_switched_off() {
    for text in [
        "hedge: {after: 1s, max_percent: 0}",
        "hedge: {after: p95}",
        "non-stream-keepalive-secs: 0",
    ] {
        good(text);
    }
}

#[test]
fn secrets_are_never_shown() {
    let secret = "sk-live-0123456789";
    let texts = [
        "providers: [{name: openai, api_key: 'SECRET', wieght: 1}]",
        "providers: [{name: openai, api_key:SECRET}]",
        "providers: [{name: openai, api_keys: {key: SECRET}}]",
        "providers: [{name: openai, api_keys: [{kye: SECRET}]}]",
        "providers: [{name: openai, weight: SECRET, api_key: k}]",
        "providers: [{name: openai, api_key: [SECRET]}]",
        "providers: SECRET",
        "SECRET",
        "master_keys: [{key: SECRET}, {key: SECRET}]",
        "master_keys: [SECRET]",
        "api-keys: [SECRET, SECRET]",
        "claude-api-key: SECRET",
        "api_key:SECRET: 1\napi_key:SECRET: 2",
        "providers: [{name: x, api_base: 'https://u:SECRET@h.example', api_key: SECRET}]",
        "providers: [{name: openai, api_key: \"SECRET\\nx\"}]",
        "models: {m: {providers: [{name: p, api_base: x, api_key: SECRET}]}}",
    ];
    for text in texts {
        let text = text.replace("SECRET", secret);
        let report = report(&text);
        assert!(!report.contains("0123456789"), "{text}: {report}");
        assert!(!report.is_empty());
    }
}

#[test]
fn what_works_but_is_odd_is_a_warning() {
    let cases = [
        (
            "providers: [{name: openai}]",
            "1:13: providers[0]: 'openai' has no api_key; is it ${OPENAI_API_KEY}?",
        ),
        (
            "master_keys: [{key: changeme, name: a}]",
            "1:15: master_keys[0]: 'a' has a key that everyone tries first",
        ),
        (
            "master_keys: [{key: abc-1, enabled: false}]",
            "no key of callers is enabled: every call is refused",
        ),
        (
            "master_keys: []",
            "no key of callers is enabled: every call is refused",
        ),
        (
            "allow_anonymous: true\nmaster_keys: [{key: abc-1}]",
            "1:1: allow_anonymous: has no effect: master_keys says who may call",
        ),
        (
            "providers: [{name: openai, api_key: k, weight: 0}]",
            "every provider has weight 0",
        ),
        (
            "providers: [{name: openai, api_key: k}]\nmodels: {m: {targets: [{provider: openai, weight: 0}]}}",
            "2:10: models.m: every target has weight 0: they are used all the same, as a last resort",
        ),
        (
            "providers: [{name: openai, api_keys: [{key: k, weight: 0}]}]",
            "1:13: providers[0]: every key has weight 0: they are used all the same, as a last resort",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(warnings(&good(text)), [expected], "{text}");
    }
}

#[test]
fn problems_outside_of_the_file_are_told_with_those_inside() {
    assert_eq!(
        report_with(
            "servr: {}",
            &[
                ("POLYGATE_PORT", "http"),
                ("HOST", "my-laptop"),
                ("VERIFY_SSL", "maybe"),
                ("REQUEST_TIMEOUT_SECS", "0"),
                ("ADMIN_KEY", "Changeme"),
                ("POLYGATE_SECRET_KEY", " "),
                ("DB_URL", "mysql://h/db"),
            ]
        ),
        "HOST: must be an IP address or 'localhost'
POLYGATE_PORT: must be a port number
REQUEST_TIMEOUT_SECS: must be a number of seconds above zero
VERIFY_SSL: must be true or false
ADMIN_KEY: is a sample that everyone knows: set a real one, or unset it to have one made
DB_URL: must be 'postgres://…', 'sqlite:FILE' or 'none'; unset: a file in the data directory
POLYGATE_SECRET_KEY: is empty: set a real one
config.yaml:1:1: servr: unknown key; did you mean 'server'?"
    );
}
