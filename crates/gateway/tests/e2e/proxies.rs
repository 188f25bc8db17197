//! Proxies in front of providers, real ones: Tinyproxy and Microsocks.

use std::sync::Arc;

use polygate_mock_provider::Mock;
use polygate_test_services::{ForwardProxy, Login};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::reload::until_has;
use crate::support::{Gate, calls, chat, mock, until};

const LOGIN: Login<'_> = Some(("user", "hush"));

/// How a kind of proxy is started, and the scheme of its address.
type Kind = (&'static str, fn(Login<'_>) -> Option<ForwardProxy>);

const KINDS: [Kind; 3] = [
    ("http", ForwardProxy::http),
    ("socks5", ForwardProxy::socks),
    ("socks5h", ForwardProxy::socks),
];

/// The same provider behind TLS: its port, and the certificate.
async fn with_tls(mock: &Mock) -> (u16, String) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = signing_key.serialize_der().try_into().expect("a key");
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a pair");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let to = mock.addr();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut client = acceptor.accept(client).await?;
                let mut upstream = TcpStream::connect(to).await?;
                copy_bidirectional(&mut client, &mut upstream).await
            });
        }
    });
    (port, cert.pem())
}

async fn ask(gate: &Gate, model: &str, stream: bool) -> u16 {
    let question = chat(model, stream);
    let reply = gate.post("/v1/chat/completions", &question).await;
    reply.status.as_u16()
}

/// Every kind, with a password and without, to providers with TLS and without.
#[tokio::test]
async fn every_kind_of_proxy_leads_to_every_provider() {
    let mock = mock("p").await;
    let (tls_port, cert) = with_tls(&mock).await;
    let plain_port = mock.addr().port();
    for (scheme, start) in KINDS {
        for login in [None, LOGIN] {
            let Some(proxy) = start(login) else { return };
            let user = login.map(|(user, password)| format!("{user}:{password}@"));
            let place = format!("{}{}", user.unwrap_or_default(), proxy.address);
            let dir = tempfile::tempdir().expect("a directory");
            std::fs::write(dir.path().join("ca.pem"), &cert).expect("written");
            let config = format!(
                "
health_check: {{enabled: false}}
retry: {{max_retries: 0}}
proxy_url: '{scheme}://{place}'
providers:
  - {{name: plain, type: mock, api_base: 'http://localhost:{plain_port}', api_key: k, model_mapping: [plain]}}
  - {{name: tls, type: mock, api_base: 'https://localhost:{tls_port}', api_key: k, model_mapping: [tls], ca_file: ca.pem}}
  - {{name: wrong, type: mock, api_base: 'https://localhost:{tls_port}', api_key: k, model_mapping: [wrong], ca_file: ca.pem, proxy_url: '{scheme}://user:wrong@{}'}}
",
                proxy.address
            );
            std::fs::write(dir.path().join("config.yaml"), config).expect("written");
            let gate = Gate::start_in(dir, &["--port", "0"], &[]);
            let before = calls(&mock).len();
            let what = format!("{scheme} {login:?}");
            for stream in [false, true] {
                assert_eq!(
                    ask(&gate, "plain", stream).await,
                    200,
                    "{what}: {}",
                    gate.log()
                );
                assert_eq!(
                    ask(&gate, "tls", stream).await,
                    200,
                    "{what}: {}",
                    gate.log()
                );
            }
            assert_eq!(calls(&mock).len(), before + 4, "{what}");
            if login.is_some() {
                assert_ne!(ask(&gate, "wrong", false).await, 200, "{what}");
                assert_eq!(calls(&mock).len(), before + 4, "{what}");
            }
            // Who resolves the name is the difference between the two schemes of SOCKS.
            let host = if scheme == "socks5" {
                "127.0.0.1"
            } else {
                "localhost"
            };
            let named = match scheme {
                "http" => [
                    format!("http://{host}:{plain_port}/v1/"),
                    format!("CONNECT {host}:{tls_port}"),
                ],
                _ => [plain_port, tls_port].map(|port| format!("connected to {host}:{port}")),
            };
            for name in named {
                until(&format!("{what}: the proxy names {name}"), || {
                    proxy.log().contains(&name)
                })
                .await;
            }
            assert!(!gate.log().contains("hush"), "{}", gate.log());
        }
    }
}

/// An entry's own, an entry's none, that of all; and that of all again after it was changed.
#[tokio::test]
async fn the_nearest_proxy_counts_and_that_of_all_is_read_anew() {
    let (Some(first), Some(second), Some(own)) = (
        ForwardProxy::http(LOGIN),
        ForwardProxy::http(None),
        ForwardProxy::socks(None),
    ) else {
        return;
    };
    let (of_all, of_entry, direct) = (mock("all").await, mock("entry").await, mock("direct").await);
    let file = |proxy: &str, marker: &str| {
        format!(
            "
host: 127.0.0.1
request-retry: 0
proxy-url: '{proxy}'
openai-compatibility:
  - {{api-key: a, base-url: '{}', models: [{{id: all}}, {{id: {marker}}}]}}
  - {{api-key: b, base-url: '{}', models: [{{id: own}}], proxy-url: 'socks5h://{}'}}
  - {{api-key: c, base-url: '{}', models: [{{id: direct}}], proxy-url: ''}}
",
            of_all.url(),
            of_entry.url(),
            own.address,
            direct.url(),
        )
    };
    let gate = Gate::start(&file(&format!("http://user:hush@{}", first.address), "m0"));
    let changes = [
        None,
        Some(format!("http://{}", second.address)),
        Some(String::new()),
    ];
    for (at, change) in changes.iter().enumerate() {
        if let Some(proxy) = change {
            std::fs::write(gate.config_path(), file(proxy, &format!("m{at}"))).expect("written");
            until_has(&gate, &format!("m{at}")).await;
        }
        for (model, mock) in [("all", &of_all), ("own", &of_entry), ("direct", &direct)] {
            assert_eq!(
                ask(&gate, model, at == 1).await,
                200,
                "{model}: {}",
                gate.log()
            );
            assert_eq!(calls(mock).len(), at + 1, "{model}");
        }
    }
    let asked = |proxy: &ForwardProxy, mock: &Mock| {
        let name = format!("POST http://{}/v1/chat/completions", mock.addr());
        proxy.log().matches(&name).count()
    };
    until("each of both was used once", || {
        asked(&first, &of_all) == 1 && asked(&second, &of_all) == 1
    })
    .await;
    for proxy in [&first, &second] {
        for mock in [&of_entry, &direct] {
            assert!(
                !proxy.log().contains(&mock.addr().to_string()),
                "{}",
                proxy.log()
            );
        }
    }
    let log = own.log();
    assert!(
        log.contains(&format!("connected to {}", of_entry.addr())),
        "{log}"
    );
    assert!(
        !log.contains(&of_all.addr().to_string()) && !log.contains(&direct.addr().to_string()),
        "{log}"
    );
}
