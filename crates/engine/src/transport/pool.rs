//! The connections to one origin: HTTP/1.1 ones that rest, newest first, and HTTP/2 ones with their streams counted.
//!
//! A request takes what is at hand, else opens a connection. It waits for another request's connection to come free only where
//! there are as many as there may be.

mod room;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use http::Uri;
use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::TokioTimer;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::connect::{Connector, Opened, Stream};
use super::{BoxError, UpstreamBody};
use room::{Permit, Room};

pub(super) use room::NoRoom;

/// The most of an answer's head, and how many headers.
const HEAD_LIMIT: usize = 64 * 1024;
const HEADERS: usize = 128;
/// hyper reads bodies in pieces as large as this.
const READ_LIMIT: usize = 1024 * 1024;

/// How often connections are looked through that rest.
const SWEEP: Duration = Duration::from_secs(1);
/// How often an HTTP/2 peer is asked whether it is there, and how long it may take to say so.
const PING: Duration = Duration::from_secs(20);
const PONG: Duration = Duration::from_secs(10);
/// How long what was learned of a peer's patience is believed.
const BELIEF: Duration = Duration::from_secs(600);
/// How long an answered connection may take to be ready again: a request's body may still be under way.
const SETTLE: Duration = Duration::from_secs(5);

/// How much earlier than the peer we stop using a connection that rests.
const MARGIN: Duration = Duration::from_secs(1);

/// How long connections are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// Without a request.
    pub idle: Duration,
    /// In all, so that changed addresses are followed.
    pub lifetime: Duration,
}

/// What was opened and used since the start.
#[derive(Debug, Default)]
pub struct Gauge {
    pub(super) open: AtomicI64,
    pub(super) connects: AtomicU64,
    pub(super) reuses: AtomicU64,
    pub(super) waiting: AtomicI64,
    pub(super) refused: AtomicU64,
}

/// The connections to one origin.
pub(super) struct Pool {
    to: Uri,
    connector: Connector,
    keeping: Keeping,
    patience: Duration,
    gauge: Arc<Gauge>,
    /// Whether it may turn out to speak HTTP/2: then one connection is opened at a time, for all who wait may share it.
    may_share: AtomicBool,
    opening: Semaphore,
    shelf: Mutex<Shelf>,
    /// Where connections are counted, so that there are not too many.
    room: Option<Arc<Room>>,
}

#[derive(Default)]
struct Shelf {
    resting: Vec<Resting>,
    shared: Vec<Arc<Shared>>,
    /// After how long a silence this peer closes, and when that was learned.
    peer_idle: Option<(Duration, Instant)>,
}

struct Resting {
    connection: Single,
    since: Instant,
}

/// An HTTP/1.1 connection in the hands of one request.
pub(super) struct Single {
    pub(super) sender: http1::SendRequest<UpstreamBody>,
    born: Instant,
    /// What the peer said it keeps idle connections for.
    pub(super) keep_alive: Option<Duration>,
    /// How long it had rested before this use; `None` = it is new.
    pub(super) rested: Option<Duration>,
    /// True while it rests: an end then is the peer's doing.
    resting: Arc<Mutex<Option<Instant>>>,
}

/// An HTTP/2 connection in the hands of many.
pub(super) struct Shared {
    sender: http2::SendRequest<UpstreamBody>,
    streams: AtomicUsize,
    most: watch::Receiver<usize>,
    born: Instant,
    idle_since: Mutex<Instant>,
    gone: AtomicBool,
    room: Option<Arc<Room>>,
}

/// One stream of an HTTP/2 connection.
pub(super) struct OneStream(Arc<Shared>);

/// A connection to send on.
pub(super) enum Taken {
    Single(Single),
    Stream(OneStream),
}

impl Pool {
    pub(super) fn new(
        to: Uri,
        connector: Connector,
        keeping: Keeping,
        patience: Duration,
        most: Option<usize>,
        gauge: Arc<Gauge>,
    ) -> Arc<Self> {
        let is_tls = to.scheme_str() == Some("https");
        let pool = Arc::new(Self {
            to,
            connector,
            keeping,
            patience,
            gauge,
            may_share: AtomicBool::new(is_tls),
            opening: Semaphore::new(1),
            shelf: Mutex::default(),
            room: most.map(|most| Arc::new(Room::new(most))),
        });
        tokio::spawn(sweep(Arc::downgrade(&pool)));
        pool
    }

    /// A connection: one at hand, else a new one.
    pub(super) async fn take(self: &Arc<Self>, only_fresh: bool) -> Result<Taken, BoxError> {
        let is_first = self.room.as_ref().is_none_or(|room| room.is_free());
        if !only_fresh
            && is_first
            && let Some(taken) = self.at_hand()
        {
            return Ok(taken);
        }
        let permit = match &self.room {
            Some(room) => match self.turn(room, only_fresh).await? {
                Turn::Taken(taken) => return Ok(taken),
                Turn::Open(permit) => Some(permit),
            },
            None => None,
        };
        let opened = tokio::time::timeout(self.patience, self.open(only_fresh, permit)).await;
        opened.map_err(|_| BoxError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)))?
    }

    /// In the order of coming: a connection that came free, or leave to open one.
    async fn turn(&self, room: &Arc<Room>, only_fresh: bool) -> Result<Turn, BoxError> {
        if only_fresh {
            // What rests is not trusted, and stands in the way.
            self.shelf().clear();
        }
        let _waiting = room::Waiting::new(room.clone(), self.gauge.clone());
        let wait = async {
            let _turn = room.turn().await?;
            loop {
                if !only_fresh && let Some(taken) = self.at_hand() {
                    return Ok(Turn::Taken(taken));
                }
                if let Some(permit) = room.permit_or_news().await {
                    return Ok(Turn::Open(permit));
                }
            }
        };
        let waited = tokio::time::timeout(self.patience, wait).await;
        waited.unwrap_or_else(|_| {
            self.gauge.refused.fetch_add(1, Ordering::Relaxed);
            Err(NoRoom.into())
        })
    }

    /// How many connections rest, and are shared without a stream.
    pub(super) fn idle(&self) -> usize {
        let shelf = self.shelf();
        let unused = shelf.shared.iter().filter(|shared| shared.load() == 0);
        shelf.resting.len() + unused.count()
    }

    /// Whether a forwarding proxy stands between, which wants whole addresses.
    pub(super) fn is_forwarded(&self) -> bool {
        matches!(self.connector, Connector::Forward(..))
    }

    /// The peer closed a connection that was silent for so long: the next is not used as late.
    pub(super) fn learn(&self, silence: Duration) {
        let mut shelf = self.shelf();
        let known = shelf.peer_idle(Instant::now());
        if known.is_none_or(|known| silence < known) {
            shelf.peer_idle = Some((silence, Instant::now()));
        }
    }

    /// Takes back a connection whose answer has been read to its end.
    pub(super) fn give_back(self: &Arc<Self>, single: Single) {
        if single.sender.is_ready() {
            return self.rest(single);
        }
        let pool = Arc::downgrade(self);
        let mut single = single;
        tokio::spawn(async move {
            let ready = tokio::time::timeout(SETTLE, single.sender.ready()).await;
            if let (Ok(Ok(())), Some(pool)) = (ready, pool.upgrade()) {
                pool.rest(single);
            }
        });
    }

    fn rest(&self, connection: Single) {
        let since = Instant::now();
        if since >= connection.born + self.keeping.lifetime {
            return;
        }
        *lock(&connection.resting) = Some(since);
        self.shelf().resting.push(Resting { connection, since });
        room::tell(self.room.as_ref());
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        lock(&self.shelf)
    }

    fn at_hand(&self) -> Option<Taken> {
        let now = Instant::now();
        let mut shelf = self.shelf();
        let taken = shelf.stream(now, self.keeping).map(Taken::Stream);
        let taken = taken.or_else(|| shelf.single(now, self.keeping).map(Taken::Single));
        drop(shelf);
        if taken.is_some() {
            self.gauge.reuses.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    async fn open(
        self: &Arc<Self>,
        only_fresh: bool,
        permit: Option<Permit>,
    ) -> Result<Taken, BoxError> {
        let mut turn = None;
        if self.may_share.load(Ordering::Relaxed) {
            turn = Some(self.opening.acquire().await?);
            if !only_fresh && let Some(taken) = self.at_hand() {
                return Ok(taken);
            }
        }
        let opened = self.connector.connect(self.to.clone()).await?;
        self.gauge.connects.fetch_add(1, Ordering::Relaxed);
        self.may_share.store(opened.is_h2, Ordering::Relaxed);
        let taken = match opened {
            Opened { stream, is_h2 } if is_h2 => Taken::Stream(self.share(stream, permit).await?),
            Opened { stream, .. } => Taken::Single(self.single(stream, permit).await?),
        };
        drop(turn);
        Ok(taken)
    }

    async fn single(
        self: &Arc<Self>,
        stream: Box<dyn Stream>,
        permit: Option<Permit>,
    ) -> Result<Single, BoxError> {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(READ_LIMIT)
            .max_header_size(HEAD_LIMIT)
            .max_headers(HEADERS)
            .handshake(stream)
            .await?;
        let resting = Arc::new(Mutex::new(None::<Instant>));
        let (pool, silence) = (Arc::downgrade(self), resting.clone());
        let open = Open::new(self.gauge.clone(), permit);
        tokio::spawn(async move {
            let _open = open;
            let _ = connection.await;
            let since = lock(&silence).take();
            if let (Some(since), Some(pool)) = (since, pool.upgrade()) {
                pool.learn(since.elapsed());
            }
        });
        Ok(Single {
            sender,
            born: Instant::now(),
            keep_alive: None,
            rested: None,
            resting,
        })
    }

    /// Opens the connection's first stream; the others find it on the shelf.
    async fn share(
        self: &Arc<Self>,
        stream: Box<dyn Stream>,
        permit: Option<Permit>,
    ) -> Result<OneStream, BoxError> {
        let reader = Reader::default();
        let (sender, mut connection) = http2::Builder::new(reader.clone())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PONG)
            .keep_alive_while_idle(true)
            .adaptive_window(true)
            .max_header_list_size(HEAD_LIMIT as u32)
            // None until the peer has said how many it takes: it says so in its first frame.
            .initial_max_send_streams(0)
            .handshake(stream)
            .await?;
        let (told, mut most) = watch::channel(0);
        let room = self.room.clone();
        let open = Open::new(self.gauge.clone(), permit);
        tokio::spawn(async move {
            let _open = open;
            let _ = std::future::poll_fn(|cx| {
                reader.listen(cx);
                let polled = std::pin::Pin::new(&mut connection).poll(cx);
                let most = connection.current_max_send_streams();
                reader.is_known.store(most > 0, Ordering::Relaxed);
                if told.send_if_modified(|told| std::mem::replace(told, most) != most) {
                    room::tell(room.as_ref());
                }
                polled
            })
            .await;
        });
        most.wait_for(|most| *most > 0).await?;
        let shared = Arc::new(Shared {
            sender,
            streams: AtomicUsize::new(1),
            most,
            born: Instant::now(),
            idle_since: Mutex::new(Instant::now()),
            gone: AtomicBool::new(false),
            room: self.room.clone(),
        });
        self.shelf().shared.push(shared.clone());
        room::tell(self.room.as_ref());
        Ok(OneStream(shared))
    }
}

/// What a request's turn comes to.
enum Turn {
    Taken(Taken),
    Open(Permit),
}

impl Shelf {
    /// Lets go of all that is not in use.
    fn clear(&mut self) {
        for resting in self.resting.drain(..) {
            resting.connection.let_go();
        }
        self.shared.retain(|shared| shared.load() > 0);
    }

    fn peer_idle(&self, now: Instant) -> Option<Duration> {
        let (silence, learned) = self.peer_idle?;
        (now < learned + BELIEF).then_some(silence)
    }

    /// How long a connection may rest and still be used: well before the peer closes it.
    fn bearable(&self, now: Instant, keeping: Keeping, said: Option<Duration>) -> Duration {
        let learned = self.peer_idle(now).map_or(keeping.idle, well_before);
        learned.min(kept(keeping, said))
    }

    /// A connection that rested for so long and is still open: a peer that once closed one sooner (it was restarted, say) is not
    /// as impatient as it seemed.
    fn disprove(&mut self, rested: Duration) {
        let is_wrong = |(silence, _): (Duration, Instant)| rested > silence * 2;
        if self.peer_idle.is_some_and(is_wrong) {
            self.peer_idle = None;
        }
    }

    fn single(&mut self, now: Instant, keeping: Keeping) -> Option<Single> {
        while let Some(Resting { connection, since }) = self.resting.pop() {
            let mut single = connection;
            let rested = now.saturating_duration_since(since);
            if single.sender.is_ready() {
                self.disprove(rested);
            }
            let bearable = self.bearable(now, keeping, single.keep_alive);
            let is_young = now < single.born + keeping.lifetime;
            if is_young && rested < bearable && single.sender.is_ready() {
                *lock(&single.resting) = None;
                single.rested = Some(rested);
                return Some(single);
            }
            single.let_go();
        }
        None
    }

    fn stream(&mut self, now: Instant, keeping: Keeping) -> Option<OneStream> {
        self.shared.retain(|shared| shared.is_usable(now, keeping));
        self.shared.iter().find_map(Shared::another)
    }

    fn sweep(&mut self, now: Instant, keeping: Keeping) {
        let resting = std::mem::take(&mut self.resting);
        for each in resting {
            let kept = kept(keeping, each.connection.keep_alive);
            if now < each.since + kept && !each.connection.sender.is_closed() {
                self.resting.push(each);
            } else {
                each.connection.let_go();
            }
        }
        self.shared.retain(|shared| {
            let is_idle = shared.load() == 0 && now >= *lock(&shared.idle_since) + keeping.idle;
            shared.is_usable(now, keeping) && !is_idle
        });
    }
}

/// How long a connection rests before we close it: what was learned of the peer only says how long it is used, so that one that
/// stays open shows more.
fn kept(keeping: Keeping, said: Option<Duration>) -> Duration {
    said.map_or(keeping.idle, |said| well_before(said).min(keeping.idle))
}

fn well_before(peer: Duration) -> Duration {
    peer.saturating_sub(MARGIN).max(peer / 2)
}

impl Single {
    /// Closes it. If the peer had done so before, that has been noted.
    fn let_go(self) {
        if !self.sender.is_closed() {
            *lock(&self.resting) = None;
        }
    }
}

impl Shared {
    fn load(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    fn is_usable(&self, now: Instant, keeping: Keeping) -> bool {
        let is_young = now < self.born + keeping.lifetime;
        is_young && !self.sender.is_closed() && !self.gone.load(Ordering::Relaxed)
    }

    /// One more stream, if the peer takes one more. Called under the shelf's lock.
    fn another(self: &Arc<Self>) -> Option<OneStream> {
        if self.load() >= *self.most.borrow() {
            return None;
        }
        self.streams.fetch_add(1, Ordering::Relaxed);
        Some(OneStream(self.clone()))
    }
}

impl OneStream {
    pub(super) fn sender(&self) -> http2::SendRequest<UpstreamBody> {
        self.0.sender.clone()
    }

    /// The peer takes no more streams on this connection.
    pub(super) fn retire(&self) {
        self.0.gone.store(true, Ordering::Relaxed);
    }
}

impl Drop for OneStream {
    fn drop(&mut self) {
        *lock(&self.0.idle_since) = Instant::now();
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
        room::tell(self.0.room.as_ref());
    }
}

/// Runs what reads an HTTP/2 connection, and wakes who waits for how many streams the peer takes: only the reader sees that come.
#[derive(Clone, Default)]
struct Reader {
    is_known: Arc<AtomicBool>,
    waiting: Arc<AtomicWaker>,
}

impl Reader {
    fn listen(&self, cx: &std::task::Context<'_>) {
        if !self.is_known.load(Ordering::Relaxed) {
            self.waiting.register(cx.waker());
        }
    }
}

impl<F> Executor<F> for Reader
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, reading: F) {
        let reader = self.clone();
        let mut reading = Box::pin(reading);
        tokio::spawn(std::future::poll_fn(move |cx| {
            let polled = reading.as_mut().poll(cx);
            if !reader.is_known.load(Ordering::Relaxed) {
                reader.waiting.wake();
            }
            polled
        }));
    }
}

/// An open connection, counted.
struct Open(
    Arc<Gauge>,
    #[expect(dead_code, reason = "dropping it is its use")] Option<Permit>,
);

impl Open {
    fn new(gauge: Arc<Gauge>, permit: Option<Permit>) -> Self {
        gauge.open.fetch_add(1, Ordering::Relaxed);
        Self(gauge, permit)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(pool) = pool.upgrade() else {
            return;
        };
        pool.shelf().sweep(Instant::now(), pool.keeping);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
