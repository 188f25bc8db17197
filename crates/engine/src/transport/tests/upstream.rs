//! Small upstreams and proxies that do to connections what real ones do.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

/// What an upstream saw.
#[derive(Default)]
pub struct Seen {
    pub connections: AtomicUsize,
    /// Heads of requests, or frames.
    pub heads: Mutex<Vec<String>>,
    pub changed: Notify,
}

impl Seen {
    pub fn note(&self, head: impl Into<String>) {
        self.heads.lock().unwrap().push(head.into());
        self.changed.notify_waiters();
    }

    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How often each first line came.
    pub fn counts(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for head in self.heads() {
            let line = head.lines().next().unwrap_or_default().to_owned();
            *counts.entry(line).or_default() += 1;
        }
        counts
    }

    /// Waits until this holds; the test's own limit is ten seconds.
    pub async fn until(&self, is: impl Fn(&Self) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if is(self) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait)
            .await
            .expect("in time");
    }
}

/// A certificate for localhost and what a server shows it with.
pub struct Identity {
    pub certificate: CertificateDer<'static>,
    acceptor: TlsAcceptor,
}

impl Identity {
    pub fn new(protocol: &str) -> Self {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        server.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Self {
            certificate,
            acceptor: TlsAcceptor::from(Arc::new(server)),
        }
    }
}

/// Accepts for ever; each connection is given its number.
pub async fn listen<F>(
    each: impl Fn(TcpStream, usize, Arc<Seen>) -> F + Send + 'static,
) -> (String, Arc<Seen>)
where
    F: Future<Output = Option<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(Seen::default());
    let counted = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let number = counted.connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(each(stream, number, counted.clone()));
        }
    });
    (place, seen)
}

/// Answers everything over HTTP/1.1, with these headers; closes connections that are silent for so long.
pub async fn plain(idle: Duration, headers: &'static str) -> (String, Arc<Seen>) {
    listen(move |stream, _, seen| answer_all(stream, seen, idle, headers)).await
}

/// The same over TLS.
pub async fn secure(identity: Identity) -> (String, Arc<Seen>) {
    let acceptor = identity.acceptor;
    listen(move |stream, _, seen| {
        let acceptor = acceptor.clone();
        async move {
            let stream = acceptor.accept(stream).await.ok()?;
            answer_all(stream, seen, Duration::from_secs(60), "").await
        }
    })
    .await
}

async fn answer_all(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    seen: Arc<Seen>,
    idle: Duration,
    headers: &'static str,
) -> Option<()> {
    loop {
        let head = tokio::time::timeout(idle, read_head(&mut stream)).await;
        seen.note(head.ok()??);
        let answer = format!("HTTP/1.1 200 OK\r\n{headers}content-length: 2\r\n\r\nok");
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

/// A head, without bodies: the tests send none.
pub async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// What an HTTP/2 upstream does when a stream opens.
#[derive(Clone, Copy)]
pub enum Act {
    Answer,
    /// `REFUSED_STREAM`.
    Refuse,
    /// `GOAWAY` after this stream, then the end.
    GoAway(u32),
    /// Answers all once so many streams are open in all.
    AnswerAllAt(usize),
    Nothing,
}

const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const RST_STREAM: u8 = 3;
const HEADERS: u8 = 1;

/// HTTP/2 by hand: `streams` at a time, and what is done by the number of the connection.
pub async fn h2(identity: Identity, streams: u32, act: fn(usize) -> Act) -> (String, Arc<Seen>) {
    let acceptor = identity.acceptor;
    listen(move |stream, number, seen| {
        let acceptor = acceptor.clone();
        async move {
            let stream = acceptor.accept(stream).await.ok()?;
            speak_h2(stream, streams, act(number), seen).await
        }
    })
    .await
}

async fn speak_h2(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    streams: u32,
    act: Act,
    seen: Arc<Seen>,
) -> Option<()> {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.ok()?;
    let mut most = vec![0, 3];
    most.extend(streams.to_be_bytes());
    write(&mut stream, SETTINGS, 0, 0, &most).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.ok()?;
        match head[3] {
            SETTINGS if head[4] == 0 => write(&mut stream, SETTINGS, 1, 0, &[]).await?,
            RST_STREAM => seen.note("reset"),
            HEADERS => {
                seen.note("stream");
                acted(&mut stream, id, act, &seen).await?;
            }
            _ => {}
        }
    }
}

async fn acted(
    stream: &mut (impl AsyncWrite + Unpin),
    id: u32,
    act: Act,
    seen: &Seen,
) -> Option<()> {
    match act {
        Act::Nothing => Some(()),
        Act::Answer => answer_h2(stream, id).await,
        Act::AnswerAllAt(count) => {
            seen.until(|seen| seen.heads().len() >= count).await;
            answer_h2(stream, id).await
        }
        Act::Refuse => write(stream, RST_STREAM, 0, id, &7_u32.to_be_bytes()).await,
        Act::GoAway(last) => {
            let mut payload = last.to_be_bytes().to_vec();
            payload.extend([0; 4]);
            write(stream, GOAWAY, 0, 0, &payload).await?;
            None
        }
    }
}

/// `:status: 200` is number 8 of the static table.
async fn answer_h2(stream: &mut (impl AsyncWrite + Unpin), id: u32) -> Option<()> {
    write(stream, HEADERS, 5, id, &[0x88]).await
}

async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    kind: u8,
    flags: u8,
    id: u32,
    payload: &[u8],
) -> Option<()> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(id.to_be_bytes());
    frame.extend(payload);
    stream.write_all(&frame).await.ok()?;
    stream.flush().await.ok()
}

/// Takes CONNECT, and answers whole addresses itself.
pub async fn http_proxy() -> (String, Arc<Seen>) {
    listen(|stream, _, seen| forward(stream, seen)).await
}

/// The same over TLS.
pub async fn https_proxy(identity: Identity) -> (String, Arc<Seen>) {
    let acceptor = identity.acceptor;
    listen(move |stream, _, seen| {
        let acceptor = acceptor.clone();
        async move { forward(acceptor.accept(stream).await.ok()?, seen).await }
    })
    .await
}

async fn forward(mut stream: impl AsyncRead + AsyncWrite + Unpin, seen: Arc<Seen>) -> Option<()> {
    let head = read_head(&mut stream).await?;
    seen.note(head.clone());
    let Some(rest) = head.strip_prefix("CONNECT ") else {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        stream.write_all(answer).await.ok()?;
        return stream.flush().await.ok();
    };
    let mut upstream = TcpStream::connect(rest.split(' ').next()?).await.ok()?;
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
    let copied = tokio::io::copy_bidirectional(&mut stream, &mut upstream).await;
    copied.ok().map(drop)
}

/// SOCKS 5 with a password; every name leads to this place.
pub async fn socks(place: String) -> (String, Arc<Seen>) {
    listen(move |mut stream, _, seen| {
        let place = place.clone();
        async move {
            let mut head = [0; 2];
            stream.read_exact(&mut head).await.ok()?;
            stream
                .read_exact(&mut vec![0; head[1] as usize])
                .await
                .ok()?;
            stream.write_all(&[5, 2]).await.ok()?;
            let _version = stream.read_u8().await.ok()?;
            let (user, password) = (text(&mut stream).await?, text(&mut stream).await?);
            stream.write_all(&[1, 0]).await.ok()?;
            let mut asked = [0; 4];
            stream.read_exact(&mut asked).await.ok()?;
            let name = match asked[3] {
                3 => text(&mut stream).await?,
                _ => format!("{:?}", stream.read_u32().await.ok()?.to_be_bytes()),
            };
            let port = stream.read_u16().await.ok()?;
            seen.note(format!("{user} {password} {name} {port}"));
            let mut upstream = TcpStream::connect(place).await.ok()?;
            stream
                .write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])
                .await
                .ok()?;
            let copied = tokio::io::copy_bidirectional(&mut stream, &mut upstream).await;
            copied.ok().map(drop)
        }
    })
    .await
}

async fn text(stream: &mut TcpStream) -> Option<String> {
    let mut text = vec![0; stream.read_u8().await.ok()? as usize];
    stream.read_exact(&mut text).await.ok()?;
    String::from_utf8(text).ok()
}
