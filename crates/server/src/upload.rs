//! Uploads that pass to a provider as they come, within their limit and our patience. What is wrong with one is the client's doing:
//! it ends the call from outside, and the provider never looks as if it had failed.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use polygate_core::{Failure, Kind};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::body::{SLOWEST, too_large, too_slow};

/// The body of a request on its way.
pub struct Upload<B> {
    body: B,
    limit: usize,
    brought: usize,
    patience: Duration,
    /// How long the client was waited for in all; a provider that takes its time is not the client's fault.
    waited: Duration,
    waits_since: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    refused: Option<oneshot::Sender<Failure>>,
    /// The same for the call's record.
    why: Arc<OnceLock<Failure>>,
    /// It was refused, and who waits for the call knows.
    is_over: bool,
}

/// What is wrong with an upload, as soon as something is.
#[derive(Default)]
pub struct Refusal {
    told: Option<oneshot::Receiver<Failure>>,
    why: Arc<OnceLock<Failure>>,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl<B> Upload<B> {
    /// An upload, and what will be wrong with it.
    pub fn new(body: B, limit: usize, patience: Duration) -> (Self, Refusal) {
        let (refused, told) = oneshot::channel();
        let why = Arc::default();
        let refusal = Refusal {
            told: Some(told),
            why: Arc::clone(&why),
        };
        let upload = Self {
            body,
            limit,
            brought: 0,
            patience,
            waited: Duration::ZERO,
            waits_since: None,
            timer: Box::pin(sleep_until(Instant::now())),
            refused: Some(refused),
            why,
            is_over: false,
        };
        (upload, refusal)
    }

    /// Whoever waits for the call hears of it and drops the call, and this with it: until then it stands still. If nobody waits, the
    /// provider answered early, and the upload breaks off.
    fn refuse(&mut self, failure: Failure) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(refused) = self.refused.take() {
            let _ = self.why.set(failure.clone());
            self.is_over = refused.send(failure).is_ok();
        }
        if self.is_over {
            return Poll::Pending;
        }
        Poll::Ready(Some(Err("the upload was refused".into())))
    }

    /// By when the next piece must have come.
    fn due(&self, now: Instant) -> Instant {
        let earned = Duration::from_secs(self.brought as u64 / SLOWEST);
        let left = (self.patience + earned).saturating_sub(self.waited);
        now + left.min(self.patience)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Upload<B>
where
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Pending;
        }
        let Poll::Ready(piece) = Pin::new(&mut this.body).poll_frame(cx) else {
            if this.waits_since.is_none() {
                let now = Instant::now();
                this.waits_since = Some(now);
                let due = this.due(now);
                this.timer.as_mut().reset(due);
            }
            ready!(this.timer.as_mut().poll(cx));
            return this.refuse(too_slow());
        };
        if let Some(since) = this.waits_since.take() {
            this.waited += since.elapsed();
        }
        let Some(piece) = piece else {
            return Poll::Ready(None);
        };
        let piece = match piece {
            Ok(piece) => piece,
            Err(_) => {
                let broken = Failure::new(Kind::InvalidRequest, "the body broke off");
                return this.refuse(broken);
            }
        };
        this.brought += piece.data_ref().map_or(0, Bytes::len);
        if this.brought > this.limit {
            return this.refuse(too_large(this.limit));
        }
        Poll::Ready(Some(Ok(piece)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Refusal {
    /// Waits until something is wrong with the upload; for ever, if nothing is.
    pub async fn told(&mut self) -> Failure {
        if let Some(told) = &mut self.told
            && let Ok(failure) = told.await
        {
            return failure;
        }
        self.told = None;
        std::future::pending().await
    }

    /// Where it says what is wrong, once something is.
    pub fn why(&self) -> Arc<OnceLock<Failure>> {
        self.why.clone()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};
    use http_body_util::{BodyExt, StreamBody};
    use tokio::time::sleep;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn drip(every: Duration, piece: &'static [u8]) -> impl Body<Data = Bytes, Error = BoxError> {
        let pieces = stream::repeat(()).then(move |()| async move {
            sleep(every).await;
            Ok(Frame::data(Bytes::from_static(piece)))
        });
        StreamBody::new(pieces.boxed())
    }

    /// Reads until it is refused; what came, the seconds, and why.
    async fn outcome(
        body: impl Body<Data = Bytes, Error = BoxError> + Unpin,
        limit: usize,
    ) -> (usize, u64, Kind) {
        let began = Instant::now();
        let (mut upload, mut refusal) = Upload::new(body, limit, PATIENCE);
        let mut came = 0;
        let read = async {
            while let Some(piece) = upload.frame().await {
                came += piece.expect("no error").data_ref().map_or(0, Bytes::len);
            }
        };
        let failure = tokio::select! {
            () = read => panic!("it is never over"),
            failure = refusal.told() => failure,
        };
        (came, began.elapsed().as_secs(), failure.kind)
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_nothing_or_drips_is_too_slow() {
        let silent = drip(Duration::from_secs(100), b"x");
        assert_eq!(outcome(silent, 100).await, (0, 10, Kind::ClientTimeout));
        let dripping = drip(Duration::from_secs(3), b"x");
        assert_eq!(outcome(dripping, 100).await, (3, 10, Kind::ClientTimeout));
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_at_a_walk_may_go_on_to_the_limit() {
        let walking = drip(Duration::from_secs(9), &[0; 40 * 1024]);
        let (came, seconds, kind) = outcome(walking, 1024 * 1024).await;
        assert_eq!((came, kind), (25 * 40 * 1024, Kind::TooLarge));
        assert_eq!(seconds, 26 * 9);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_provider_is_not_the_clients_fault() {
        let (mut upload, _refusal) = Upload::new(drip(Duration::from_secs(1), b"x"), 100, PATIENCE);
        for _ in 0..5 {
            assert!(matches!(upload.frame().await, Some(Ok(_))));
            sleep(Duration::from_secs(1000)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_breaks_off_when_nobody_waits_for_the_call_any_more() {
        let (mut upload, refusal) =
            Upload::new(drip(Duration::from_secs(100), b"x"), 100, PATIENCE);
        drop(refusal);
        assert!(matches!(upload.frame().await, Some(Err(_))));
    }
}
