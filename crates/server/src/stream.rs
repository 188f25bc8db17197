//! A client's socket, plain or with TLS, that notes what its connection does.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::Method;
use polygate_engine::Engine;
use polygate_engine::observe::Refused;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::activity::Activity;
use crate::frames::Frames;
use crate::ingress::new_id;
use crate::wordless;

/// A client's socket.
pub struct Stream {
    socket: Socket,
    activity: Arc<Activity>,
    frames: Frames,
    engine: Arc<Engine>,
    /// What is left to be said instead of hyper's wordless refusal.
    words: Bytes,
}

/// With TLS or without.
pub enum Socket {
    /// Bytes as they are.
    Plain(TcpStream),
    /// TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Notes what a socket does.
    pub fn new(socket: Socket, activity: Arc<Activity>, engine: Arc<Engine>) -> Self {
        Self {
            socket,
            engine,
            activity,
            frames: Frames::new(),
            words: Bytes::new(),
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Socket::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Socket::Tls(socket) => Pin::new(socket).poll_write(cx, bytes),
        }
    }

    /// Writes a refusal with words in place of one without; `None` where these bytes are none.
    fn refuse(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Option<Poll<io::Result<usize>>> {
        if self.words.is_empty() {
            self.words = self.words_for(bytes)?;
        }
        while !self.words.is_empty() {
            let words = self.words.clone();
            match self.write(cx, &words) {
                Poll::Ready(Ok(written)) => self.words.advance(written.min(words.len())),
                other => return Some(other),
            }
        }
        Some(Poll::Ready(Ok(bytes.len())))
    }

    /// What is said instead, once it is noted.
    fn words_for(&self, bytes: &[u8]) -> Option<Bytes> {
        let failure = wordless::refusal(bytes)?;
        let request_id = new_id();
        // Nobody knows by which method: nothing of it could be read.
        let unread = Method::from_bytes(b"-").unwrap_or_default();
        self.engine
            .refused(Refused::new(&unread, &request_id, &failure));
        Some(wordless::words(&failure, &request_id))
    }

    /// A write's outcome: that the client takes nothing shows in that it must be waited for.
    fn note<T>(&self, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.activity.wrote(outcome.is_ready());
        outcome
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = match &mut self.socket {
            Socket::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
            Socket::Tls(socket) => Pin::new(socket).poll_read(cx, buffer),
        };
        let new = buffer.filled().get(before..).unwrap_or_default();
        if !new.is_empty() {
            self.activity.heard();
            if !self.frames.heard(new) {
                return Poll::Ready(Err(io::Error::other("a flood of HTTP/2 frames")));
            }
        }
        outcome
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = match self.refuse(cx, bytes) {
            Some(outcome) => outcome,
            None => self.write(cx, bytes),
        };
        self.note(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(first) = pieces.first()
            && let Some(outcome) = self.refuse(cx, first)
        {
            return self.note(outcome);
        }
        let outcome = match &mut self.socket {
            Socket::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, pieces),
            Socket::Tls(socket) => Pin::new(socket).poll_write_vectored(cx, pieces),
        };
        self.note(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Plain(socket) => socket.is_write_vectored(),
            Socket::Tls(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            // Nothing is held back in it.
            Socket::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Socket::Tls(socket) => {
                let outcome = Pin::new(socket).poll_flush(cx);
                self.note(outcome)
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Socket::Tls(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}
