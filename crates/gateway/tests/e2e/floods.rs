//! HTTP/2 frames that cost their sender nothing: such a connection ends, memory stays, and other clients are served meanwhile.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Gate, chat, mock};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const PRIORITY: u8 = 2;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `GET /` and `POST /v1/chat/completions`, of host `x`.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'x'];
const POST: &[u8] = b"\x83\x86\x41\x01x\x04\x14/v1/chat/completions";

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Reads to the first frame of an answer.
async fn answer_begins(socket: &mut TcpStream) {
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await.expect("a frame");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        socket.read_exact(&mut payload).await.expect("all of it");
        if head[3] == HEADERS {
            return;
        }
    }
}

/// A connection on which one thing was asked and answered.
async fn connect(gate: &Gate) -> TcpStream {
    let mut socket = TcpStream::connect(gate.address())
        .await
        .expect("a connection");
    let begin = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &frame(SETTINGS, 0, 0, &[])[..],
        &frame(HEADERS, END_STREAM | END_HEADERS, 1, GET),
    ];
    socket.write_all(&begin.concat()).await.expect("sent");
    answer_begins(&mut socket).await;
    socket
}

/// Memory of the process, in megabytes.
fn memory(gate: &Gate) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gate.pid())).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.expect("a number") / 1024
}

/// Sends all of it as fast as it is taken, and reads what comes if that is wanted, until the other side closes.
async fn pour(gate: &Gate, flood: &[Vec<u8>], reads: bool) {
    let mut socket = connect(gate).await;
    let (mut input, mut output) = socket.split();
    let ended = async {
        let mut buffer = [0; 4096];
        while let Ok(1..) = input.read(&mut buffer).await {}
    };
    let sent = async {
        for piece in flood.chunks(100) {
            if output.write_all(&piece.concat()).await.is_err() {
                return;
            }
        }
        // All of it may lie in the sockets: what comes after it finds out.
        while output.write_all(&frame(PING, 0, 0, &[7; 8])).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if reads {
        tokio::select! {
            () = ended => {}
            () = sent => {}
        }
    } else {
        sent.await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_frames_end_their_connection_and_no_other() {
    let mock = mock("p").await;
    let gate = Gate::start(&format!(
        "server: {{write_timeout: 2}}\nproviders: [{{name: p, type: mock, api_base: '{}', api_key: k, model_mapping: [m]}}]\nhealth_check: {{enabled: false}}",
        mock.url()
    ));
    let call = chat("m", false);
    assert_eq!(gate.post("/v1/chat/completions", &call).await.status, 200);
    let many = |frame: Vec<u8>| vec![frame; 100_000];
    let resets = (0..20_000_u32).map(|number| 2 * number + 3);
    let resets: Vec<Vec<u8>> = resets
        .flat_map(|stream| {
            [
                frame(HEADERS, END_STREAM | END_HEADERS, stream, GET),
                frame(RESET, 0, stream, &8_u32.to_be_bytes()),
            ]
        })
        .collect();
    // A head without an end: every piece of it is a literal header of its own.
    let header = [&[0, 1, b'a', 100][..], &[b'x'; 100]].concat();
    let mut endless = vec![frame(HEADERS, END_STREAM, 3, GET)];
    endless.extend(vec![frame(CONTINUATION, 0, 3, &header); 20_000]);
    let mut nothing = vec![frame(HEADERS, END_HEADERS, 3, POST)];
    nothing.extend(many(frame(DATA, 0, 3, &[])));
    let before = memory(&gate);
    for (name, flood) in [
        ("resets", resets),
        ("continuations", endless),
        ("empty data", nothing),
        (
            "settings",
            many(frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])),
        ),
        ("pings", many(frame(PING, 0, 0, &[7; 8]))),
        ("priorities", many(frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 1]))),
        ("unknown frames", many(frame(200, 0, 0, &[1]))),
    ] {
        for reads in [true, false] {
            let over = timeout(Duration::from_secs(10), pour(&gate, &flood, reads));
            let served = async {
                let began = Instant::now();
                for _ in 0..10 {
                    let other = gate.post("/v1/chat/completions", &call).await;
                    assert_eq!(other.status, 200, "{name}");
                }
                began.elapsed()
            };
            let (over, served) = tokio::join!(over, served);
            assert!(over.is_ok(), "{name} (read: {reads}): it is not closed");
            assert!(served < Duration::from_secs(2), "{name}: {served:?}");
        }
    }
    let after = memory(&gate);
    assert!(after <= before + 24, "{before} -> {after} MB");
}
