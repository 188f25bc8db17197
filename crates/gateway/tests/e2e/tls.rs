//! TLS on the listening port: both protocols, and certificates that change while connections live.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use polygate_mock_provider::{Behaviour, Mock, Rule};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::readiness::health;
use crate::support::{Gate, chat, mock, signal, until};

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

fn start(mock: &Mock, first: &Pair, handshake: &str) -> Gate {
    let dir = tempfile::tempdir().expect("a directory");
    let pems = dir.path().join("pems");
    std::fs::create_dir(&pems).expect("a directory");
    write(&pems, &first.cert, &first.key);
    let config = format!(
        "server: {{tls: {{cert: pems/cert.pem, key: pems/key.pem}}, handshake_timeout: {handshake}}}\nproviders: [{{name: p, type: mock, api_base: '{}', api_key: k, model_mapping: [m]}}]\nhealth_check: {{enabled: false}}",
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

fn request(stream: bool) -> Request<Full<Bytes>> {
    Request::post("https://localhost/v1/chat/completions")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(chat("m", stream).to_string())))
        .expect("a request")
}

#[tokio::test]
async fn both_protocols_are_spoken_and_slow_handshakes_end() {
    let mock = mock("p").await;
    let first = pair(false);
    let gate = start(&mock, &first, "300ms");
    assert!(gate.url.starts_with("https://"), "{}", gate.url);
    let socket = connect(&gate, &[&first], b"h2").await.expect("TLS");
    assert_eq!(socket.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
        .await
        .expect("HTTP/2");
    tokio::spawn(connection);
    let answer = send.send_request(request(false)).await.expect("an answer");
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
        send.send_request(request(false))
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
async fn the_health_command_needs_no_authority_on_loopback_only() {
    let mock = mock("p").await;
    let first = pair(false);
    let gate = start(&mock, &first, "300ms");
    let (_, port) = gate.address().rsplit_once(':').expect("a port");
    let (line, is_ready) = health(gate.dir(), &["--port", port]);
    assert!(is_ready && line.starts_with("https://127.0.0.1:"), "{line}");
    // The same socket under an address that might be anybody's.
    let url = format!("https://0.0.0.0:{port}");
    let (line, is_ready) = health(gate.dir(), &["--url", &url]);
    assert!(!is_ready && line.contains("TLS handshake failed"), "{line}");
}

#[tokio::test]
async fn a_new_pair_is_taken_for_new_connections_and_a_bad_one_is_not() {
    let mock = mock("p").await;
    let (first, second, other, over) = (pair(false), pair(false), pair(false), pair(true));
    let gate = start(&mock, &first, "300ms");
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
        send.send_request(request(false))
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

/// A connection of either protocol.
enum Way {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Way {
    async fn open(gate: &Gate, pair: &Pair, is_http2: bool) -> Way {
        let protocol = if is_http2 { &b"h2"[..] } else { b"http/1.1" };
        let socket = connect(gate, &[pair], protocol).await;
        let io = TokioIo::new(socket.expect("no connection is refused"));
        if is_http2 {
            let (send, connection) = http2::handshake(TokioExecutor::new(), io)
                .await
                .expect("HTTP/2");
            tokio::spawn(connection);
            return Way::Http2(send);
        }
        let (send, connection) = http1::handshake(io).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        Way::Http1(send)
    }

    /// A whole answer; `None` where the connection was told to end before it was asked.
    async fn ask(&mut self, stream: bool) -> Option<String> {
        let request = request(stream);
        let answer = match self {
            Way::Http1(send) => {
                send.ready().await.ok()?;
                send.try_send_request(request).await
            }
            Way::Http2(send) => {
                send.ready().await.ok()?;
                send.try_send_request(request).await
            }
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.message().is_some() => return None,
            Err(error) => return Some(format!("{:?}", error.into_error())),
        };
        match answer.into_body().collect().await {
            Ok(body) => Some(String::from_utf8_lossy(&body.to_bytes()).into_owned()),
            Err(error) => Some(format!("{error:?}")),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrades_under_load_fail_nothing_on_either_protocol() {
    let mock = mock("p").await;
    mock.script(Rule {
        then: Behaviour {
            token_ms: 10,
            tokens: Some(15),
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let first = pair(false);
    let mut gate = start(&mock, &first, "10");
    let (enough, done, opened) = (
        AtomicBool::new(false),
        [AtomicUsize::new(0), AtomicUsize::new(0)],
        AtomicUsize::new(0),
    );
    let worker = async |number: usize| {
        let is_http2 = number.is_multiple_of(2);
        while !enough.load(Ordering::Relaxed) {
            let mut way = Way::open(&gate, &first, is_http2).await;
            opened.fetch_add(1, Ordering::Relaxed);
            while !enough.load(Ordering::Relaxed) {
                let stream = number % 4 < 2;
                let Some(text) = way.ask(stream).await else {
                    break;
                };
                let is_whole = if stream {
                    text.ends_with("data: [DONE]\n\n") && !text.contains("error")
                } else {
                    text.contains("\"finish_reason\":\"stop\"")
                };
                assert!(is_whole, "{number}: {text}");
                done[usize::from(is_http2)].fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let so_far = || [0, 1].map(|at: usize| done[at].load(Ordering::Relaxed));
    let upgrades = async {
        let mut process = gate.pid();
        for number in 1..=5 {
            let before = so_far();
            until("each of them serves some", || {
                let now = so_far();
                now[0] > before[0] + 8 && now[1] > before[1] + 8
            })
            .await;
            signal(process, "USR2");
            until("the new process serves", || {
                gate.log().matches("a new process serves").count() == number
            })
            .await;
            process = *gate.successors().last().expect("its number");
        }
        enough.store(true, Ordering::Relaxed);
    };
    tokio::join!(join_all((0..12).map(worker)), upgrades);
    assert!(
        opened.load(Ordering::Relaxed) > 12 + 12,
        "connections moved"
    );
    assert_eq!(gate.wait().code(), Some(0));
}
