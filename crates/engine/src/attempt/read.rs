//! Upstream bodies read to a cap: whole answers that are checked before they are sent, and errors.

use std::collections::VecDeque;
use std::time::Duration;

use crate::transport::AnswerBody;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use polygate_core::{Failure, Kind};
use tokio::time::{Instant, timeout_at};

/// The most of an error's body that is read, and how long that may take.
const ERROR_LIMIT: usize = 64 * 1024;
const ERROR_PATIENCE: Duration = Duration::from_secs(10);

/// A body, read as far as the cap.
pub(crate) enum Read {
    /// All of it.
    Whole(Bytes),
    /// Longer: what was read, and the rest.
    Over {
        head: VecDeque<Bytes>,
        rest: AnswerBody,
    },
}

pub(crate) async fn read_capped(
    mut body: AnswerBody,
    cap: usize,
    idle: Duration,
    deadline: Instant,
) -> Result<Read, Failure> {
    let mut pieces: VecDeque<Bytes> = VecDeque::new();
    let mut total = 0;
    loop {
        let until = deadline.min(Instant::now() + idle);
        match timeout_at(until, body.frame()).await {
            Err(_) => {
                return Err(Failure::new(
                    Kind::Timeout,
                    "the provider did not finish its answer in time",
                )
                .ambiguous());
            }
            Ok(Some(Err(_))) => {
                return Err(Failure::new(
                    Kind::Broken,
                    "the connection to the provider broke in its answer",
                )
                .ambiguous());
            }
            Ok(None) => return Ok(Read::Whole(joined(pieces, total))),
            Ok(Some(Ok(frame))) => {
                if let Ok(piece) = frame.into_data() {
                    total += piece.len();
                    pieces.push_back(piece);
                }
                if total > cap {
                    return Ok(Read::Over {
                        head: pieces,
                        rest: body,
                    });
                }
            }
        }
    }
}

fn joined(mut pieces: VecDeque<Bytes>, total: usize) -> Bytes {
    if pieces.len() <= 1 {
        return pieces.pop_front().unwrap_or_default();
    }
    let mut whole = BytesMut::with_capacity(total);
    for piece in pieces {
        whole.extend_from_slice(&piece);
    }
    whole.freeze()
}

/// An error's body as far as it is worth reading.
pub(crate) async fn read_error(body: AnswerBody) -> Bytes {
    match read_capped(
        body,
        ERROR_LIMIT,
        ERROR_PATIENCE,
        Instant::now() + ERROR_PATIENCE,
    )
    .await
    {
        Ok(Read::Whole(body)) => body,
        _ => Bytes::new(),
    }
}
