//! Keys of callers and their teams.

use polygate_engine::config::Role;

use crate::{good, report};

const PROVIDER: &str = "providers: [{name: openai, api_key: k}]\n";

#[test]
fn keys_and_teams_are_read_with_all_they_have() {
    let hash = "ab".repeat(32);
    let loaded = good(&format!(
        "{PROVIDER}
master_keys:
  - name: one
    key: sk-one-1
    expires_at: 2027-01-31T18:30:00+01:00
    allowed_ips: [10.0.0.0/8, '::1']
    team: ops
    metadata: {{centre: 4711}}
    tags: [a, b]
    role: team_admin
    previous_key_hash: {hash}
    previous_key_until: 1970-01-01T00:01:00Z
teams:
  ops: {{description: d, enabled: false, allowed_models: [m], rate_limit: {{requests_per_second: 2}}, max_concurrent: 3, limits: {{requests_per_day: 4}}, metadata: {{x: y}}, tags: [c]}}
"
    ));
    let access = &loaded.config.access;
    let key = &access.keys.as_ref().expect("keys")[0];
    assert_eq!(key.expires, Some(1_801_416_600));
    assert_eq!(key.allowed_ips.len(), 2);
    assert_eq!(key.team.as_deref(), Some("ops"));
    assert_eq!(key.metadata["centre"], "4711");
    assert_eq!(key.tags, ["a", "b"]);
    assert_eq!(key.role, Some(Role::TeamAdmin));
    let previous = key.previous.expect("one before");
    assert_eq!((previous.hash, previous.until), ([0xab; 32], 60));
    let team = &access.teams[0];
    assert_eq!((team.name.as_str(), team.enabled), ("ops", false));
    assert_eq!(team.bounds.limits[0].most, 4);
    assert_eq!(team.bounds.max_concurrent, Some(3));
    assert_eq!(team.tags, ["c"]);
}

#[test]
fn what_is_wrong_with_callers_is_told_by_name() {
    for (text, said) in [
        (
            "master_keys: [{key: k-1, team: opps}]\nteams: {ops: {}}",
            "did you mean 'ops'?",
        ),
        (
            "master_keys: [{key: k-1, team: ops}]",
            "there is no team 'ops'",
        ),
        (
            "master_keys: [{key: k-1, expires_at: tomorrow}]",
            "a moment such as 2027-01-31T18:30:00Z",
        ),
        (
            "master_keys: [{key: k-1, allowed_ips: [10.0.0.0/33]}]",
            "master_keys[0].allowed_ips[0]",
        ),
        (
            "master_keys: [{key: k-1, role: king}]",
            "admin, read-only, team-admin",
        ),
        (
            "master_keys: [{key: k-1, role: team_admin}]",
            "needs a team",
        ),
        (
            "master_keys: [{key: k-1, previous_key_hash: abc, previous_key_until: 2027-01-31T18:30:00Z}]",
            "64 hexadecimal digits",
        ),
        (
            "master_keys: [{key: k-1, previous_key_hash: 0000000000000000000000000000000000000000000000000000000000000000}]",
            "needs previous_key_until",
        ),
        (
            "teams: {ops: {allowed_model: [m]}}",
            "did you mean 'allowed_models'?",
        ),
        ("teams: []", "a mapping"),
    ] {
        let report = report(&format!("{PROVIDER}{text}\n"));
        assert!(report.contains(said), "{text}: {report}");
    }
}
