//! Request bodies: read to the limit, or refused early, readably.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use http::{HeaderMap, Request};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use polygate_core::{Failure, Kind};
use polygate_engine::InboundBody;
use polygate_engine::transport::UpstreamBody;
use tokio::time::{Instant, timeout_at};

use crate::upload::{Refusal, Upload};

/// What a body must bring on average, in bytes a second, beyond the patience that each has: one that drips would never end.
pub(crate) const SLOWEST: u64 = 4 * 1024;

/// How much of a refused body is read so that the client, still sending, gets to read the refusal; and for how long.
const DRAIN: usize = 64 * 1024 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Uploads of the generic proxy up to this size are held, so that they can be sent again.
const HELD: u64 = 1024 * 1024;

/// The whole body of a JSON endpoint.
pub async fn read_json(
    request: Request<Incoming>,
    limit: usize,
    patience: Duration,
) -> Result<(HeaderMap, Bytes), Failure> {
    let (head, body) = request.into_parts();
    check_type(&head.headers)?;
    let body = read(&head.headers, body, limit, patience).await?;
    Ok((head.headers, body))
}

/// The body of a proxied call: held where it is short, passing where it is long, and then refused on its way.
pub async fn read_proxied(
    request: Request<Incoming>,
    limit: usize,
    patience: Duration,
) -> Result<(HeaderMap, InboundBody, Refusal), Failure> {
    let (head, body) = request.into_parts();
    if declared(&head.headers).is_some_and(|length| length > limit as u64) {
        return Err(refuse(&head.headers, body, limit).await);
    }
    let is_short = body
        .size_hint()
        .exact()
        .is_some_and(|length| length <= HELD);
    if is_short || may_be_json(&head.headers) {
        let bytes = read(&head.headers, body, limit, patience).await?;
        return Ok((head.headers, InboundBody::Whole(bytes), Refusal::default()));
    }
    let (upload, refusal) = Upload::new(body, limit, patience);
    Ok((
        head.headers,
        InboundBody::Passing(UpstreamBody::Passing(Box::pin(upload)), refusal.why()),
        refusal,
    ))
}

/// What is no file may be JSON, which rules, cloaks and guards have to see: it is held as elsewhere.
fn may_be_json(headers: &HeaderMap) -> bool {
    const FILES: [&str; 5] = ["multipart/", "audio/", "image/", "video/", "application/"];
    const JSON: [&str; 2] = ["application/json", "+json"];
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().trim().to_ascii_lowercase();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let is_json = kind.starts_with(JSON[0]) || kind.ends_with(JSON[1]);
    is_json || !FILES.iter().any(|file| kind.starts_with(file))
}

fn check_type(headers: &HeaderMap) -> Result<(), Failure> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &http::HeaderValue| value.to_str().ok())
    };
    if let Some(encoding) =
        text(CONTENT_ENCODING).filter(|encoding| !encoding.eq_ignore_ascii_case("identity"))
    {
        let shown: String = encoding.chars().take(40).collect();
        return Err(Failure::new(
            Kind::UnsupportedMedia,
            format!("the body's content-encoding '{shown}' is not taken here: send it plain"),
        ));
    }
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let kind = value
        .to_str()
        .unwrap_or("?")
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if kind.is_empty()
        || kind == "application/json"
        || kind == "text/json"
        || kind.ends_with("+json")
    {
        return Ok(());
    }
    let shown: String = kind.chars().take(60).collect();
    Err(Failure::new(
        Kind::UnsupportedMedia,
        format!("the body's content-type is '{shown}'; 'application/json' is needed"),
    ))
}

async fn read(
    headers: &HeaderMap,
    mut body: Incoming,
    limit: usize,
    patience: Duration,
) -> Result<Bytes, Failure> {
    let began = Instant::now();
    let declared = declared(headers);
    if declared.is_some_and(|length| length > limit as u64) {
        return Err(refuse(headers, body, limit).await);
    }
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    loop {
        let brought = (first.len() + all.len()) as u64;
        let slowest = began + patience + Duration::from_secs(brought / SLOWEST);
        let due = slowest.min(Instant::now() + patience);
        let piece = match timeout_at(due, body.frame()).await {
            Err(_) => {
                return Err(too_slow());
            }
            Ok(Some(Err(_))) => {
                return Err(Failure::new(Kind::InvalidRequest, "the body broke off"));
            }
            Ok(None) => break,
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        };
        if first.is_empty() && all.is_empty() {
            first = piece;
        } else {
            if all.is_empty() {
                all.reserve(declared.map_or(first.len() * 4, |length| length as usize));
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&piece);
        }
        if first.len() + all.len() > limit {
            return Err(refuse(headers, body, limit).await);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What a client that takes its time is told.
pub(crate) fn too_slow() -> Failure {
    Failure::new(Kind::ClientTimeout, "the body did not come in time")
}

/// What a client that sends too much is told.
pub(crate) fn too_large(limit: usize) -> Failure {
    Failure::new(
        Kind::TooLarge,
        format!("the body is over the limit of {limit} bytes"),
    )
}

/// Too large. A client that still sends would lose the answer to a reset, so some of the rest is read and thrown away.
async fn refuse(headers: &HeaderMap, mut body: Incoming, limit: usize) -> Failure {
    let failure = too_large(limit);
    if headers.contains_key(EXPECT) {
        return failure;
    }
    let deadline = Instant::now() + DRAIN_TIME;
    let mut drained = 0;
    while let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await {
        drained += frame.data_ref().map_or(0, Bytes::len);
        if drained > DRAIN {
            break;
        }
    }
    failure
}
