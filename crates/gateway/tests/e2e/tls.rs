//! TLS on the listening port: both protocols, and certificates that change while connections live.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use polygate_mock_provider::Mock;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{Gate, chat, mock, until};

/// A certificate with its key.
struct Pair {
    der: CertificateDer<'static>,
    cert: String,
    key: String,
}

fn pair(is_over: bool) -> Pair {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    if is_over {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    }
    let key = KeyPair::generate().expect("a key");
    let cert = params.self_signed(&key).expect("a certificate");
    Pair {
        der: cert.der().clone(),
        cert: cert.pem(),
        key: key.serialize_pem(),
    }
}

fn write(dir: &Path, cert: &str, key: &str) {
    std::fs::write(dir.join("key.pem"), key).expect("written");
    std::fs::write(dir.join("cert.pem"), cert).expect("written");
}

fn start(mock: &Mock, first: &Pair) -> Gate {
    let dir = tempfile::tempdir().expect("a directory");
    let pems = dir.path().join("pems");
    std::fs::create_dir(&pems).expect("a directory");
    write(&pems, &first.cert, &first.key);
    let config = format!(
        "server: {{tls: {{cert: pems/cert.pem, key: pems/key.pem}}, handshake_timeout: 300ms}}\nproviders: [{{name: p, type: mock, api_base: '{}', api_key: k, model_mapping: [m]}}]\nhealth_check: {{enabled: false}}",
        mock.url()
    );
    std::fs::write(dir.path().join("config.yaml"), config).expect("written");
    Gate::start_in(dir, &["--port", "0"], &[])
}

async fn connect(
    gate: &Gate,
    trusted: &[&Pair],
    protocol: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for pair in trusted {
        roots.add(pair.der.clone()).expect("a root");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let socket = TcpStream::connect(gate.address()).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await
}

fn request() -> Request<Full<Bytes>> {
    Request::post("https://localhost/v1/chat/completions")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(chat("m", false).to_string())))
        .expect("a request")
}

#[tokio::test]
async fn both_protocols_are_spoken_and_slow_handshakes_end() {
    let mock = mock("p").await;
    let first = pair(false);
    let gate = start(&mock, &first);
    assert!(gate.url.starts_with("https://"), "{}", gate.url);
    let socket = connect(&gate, &[&first], b"h2").await.expect("TLS");
    assert_eq!(socket.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
        .await
        .expect("HTTP/2");
    tokio::spawn(connection);
    let answer = send.send_request(request()).await.expect("an answer");
    assert_eq!(
        (answer.version(), answer.status().as_u16()),
        (Version::HTTP_2, 200)
    );
    let socket = connect(&gate, &[&first], b"http/1.1").await.expect("TLS");
    let (mut send, connection) = http1::handshake(TokioIo::new(socket))
        .await
        .expect("HTTP/1.1");
    tokio::spawn(connection);
    assert_eq!(
        send.send_request(request())
            .await
            .expect("an answer")
            .status(),
        200
    );
    let mut silent = TcpStream::connect(gate.address())
        .await
        .expect("a connection");
    let mut byte = [0];
    let closed = timeout(Duration::from_secs(5), silent.read(&mut byte)).await;
    assert!(matches!(closed.expect("in time"), Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_new_pair_is_taken_for_new_connections_and_a_bad_one_is_not() {
    let mock = mock("p").await;
    let (first, second, other, over) = (pair(false), pair(false), pair(false), pair(true));
    let gate = start(&mock, &first);
    let pems = gate.dir().join("pems");
    let socket = connect(&gate, &[&first], b"h2").await.expect("TLS");
    let (mut send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
        .await
        .expect("HTTP/2");
    tokio::spawn(connection);
    // Seen by itself; what lies between the two writes does not fit and is refused.
    write(&pems, &second.cert, &second.key);
    until("it is in force", || {
        gate.log().contains("a new certificate is in force")
    })
    .await;
    connect(&gate, &[&second], b"h2")
        .await
        .expect("the new one");
    assert!(connect(&gate, &[&first], b"h2").await.is_err());
    assert_eq!(
        send.send_request(request())
            .await
            .expect("it lives")
            .status(),
        200
    );
    let bad = [
        (&*second.cert, &*other.key, "is not that of the certificate"),
        (&over.cert, &over.key, "has expired"),
        ("nonsense", &second.key, "holds no certificate"),
        (&second.cert, "nonsense", "holds no private key"),
    ];
    for (cert, key, said) in bad {
        write(&pems, cert, key);
        gate.signal("HUP");
        until(said, || {
            let log = gate.log();
            log.contains(said) && log.contains("the new certificate is refused")
        })
        .await;
        connect(&gate, &[&second], b"h2")
            .await
            .expect("the old one");
    }
    let log = gate.log();
    for pair in [&first, &second, &other, &over] {
        let secret = pair.key.lines().nth(1).expect("a line of the key");
        assert!(!log.contains(secret));
    }
}

#[tokio::test]
async fn a_pair_that_cannot_be_used_at_the_start_is_said_in_one_line() {
    let mock = mock("p").await;
    let dir = tempfile::tempdir().expect("a directory");
    let config = format!(
        "server: {{port: 0, tls: {{cert: none.pem, key: none.pem}}}}\nproviders: [{{name: p, type: mock, api_base: '{}', api_key: k}}]",
        mock.url()
    );
    std::fs::write(dir.path().join("config.yaml"), config).expect("written");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_polygate"))
        .current_dir(dir.path())
        .env_clear()
        .env("ADMIN_KEY", crate::support::ADMIN_KEY)
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("polygate: none.pem cannot be read"), "{said}");
    assert!(output.stdout.is_empty());
}
