//! Where a gateway listens, read from files with which it could not be served.

use std::net::SocketAddr;

use polygate::config::env::Environment;
use polygate::config::{Flags, listening};

/// The address, and whether TLS is spoken there; or all that is wrong.
fn of(text: &str, flags: &Flags, variables: &[(&str, &str)]) -> Result<(String, bool), String> {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("config.yaml"), text).expect("written");
    let server = listening(flags, &Environment::of(variables), dir.path());
    let server = server.map_err(|report| report.to_string())?;
    let address = SocketAddr::new(server.host, server.port);
    Ok((address.to_string(), server.tls.is_some()))
}

#[test]
fn every_dialect_says_it_in_its_own_place() {
    for (text, expected) in [
        ("", ("127.0.0.1:8080", false)),
        ("server: {host: '::', port: 1}", ("[::]:1", false)),
        (
            "server: {port: 1, tls: {cert: c, key: k}}",
            ("127.0.0.1:1", true),
        ),
        ("api-keys: [a]", ("0.0.0.0:8317", false)),
        (
            "port: 7\napi-keys: [a]\ntls: {enable: true, cert: c, key: k}",
            ("0.0.0.0:7", true),
        ),
    ] {
        let (address, is_tls) = of(text, &Flags::default(), &[]).expect(text);
        assert_eq!((address.as_str(), is_tls), expected, "{text}");
    }
}

#[test]
fn flags_and_variables_go_first() {
    let text = "server: {port: 1}";
    let variables = [("PORT", "2"), ("HOST", "0.0.0.0")];
    let (address, _) = of(text, &Flags::default(), &variables).expect("an address");
    assert_eq!(address, "0.0.0.0:2");
    let flags = Flags {
        port: Some(3),
        ..Flags::default()
    };
    let (address, _) = of(text, &flags, &variables).expect("an address");
    assert_eq!(address, "0.0.0.0:3");
}

#[test]
fn what_else_is_wrong_does_not_matter() {
    for text in [
        "server: {port: 1}\nproviders: [{name: openai, api_key: '${NOT_SET}'}]",
        "server: {port: 1}\nproviders: [{name: nobody, weight: much}]",
        "server: {port: 1}\nretries: 7",
    ] {
        let variables = [("ADMIN_KEY", "changeme"), ("REQUEST_TIMEOUT_SECS", "never")];
        let (address, _) = of(text, &Flags::default(), &variables).expect(text);
        assert_eq!(address, "127.0.0.1:1", "{text}");
    }
}

#[test]
fn what_is_wrong_with_the_address_is_told() {
    for (text, variables, said) in [
        ("server: {port: many}", &[][..], "server.port"),
        ("server: 7", &[], "server"),
        ("server: {tls: {cert: c}}", &[], "server.tls.key"),
        ("server: {port: 1", &[], "config.yaml"),
        ("", &[("PORT", "many")], "PORT"),
        ("api-keys: [a]\nhost: nowhere", &[], "host"),
    ] {
        let problem = of(text, &Flags::default(), variables).expect_err(text);
        assert!(problem.contains(said), "{text}: {problem}");
    }
}
