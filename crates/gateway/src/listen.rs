//! Listening sockets: bound here, given by systemd (socket activation), or by the process that this one takes over from.

use std::io::{IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use anyhow::Context;
use listenfd::ListenFd;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::config::env::Environment;

/// Set for a process that takes over: its standard input is the socket to the one before it.
pub const TAKES_OVER: &str = "POLYGATE_TAKES_OVER";

/// How many connections may wait to be accepted.
const QUEUE: i32 = 1024;

/// The most listeners that are handed over.
const MOST: usize = 16;

/// What a new process says when it serves.
const READY: &[u8] = b"ready";

/// Sockets that were there before this process.
#[derive(Default)]
pub struct Given {
    listeners: Vec<TcpListener>,
    earlier: Option<UnixStream>,
}

impl Given {
    /// Takes what is given. Before there are threads: systemd's variables are removed, so that no other process believes them.
    pub fn take(environment: &Environment) -> anyhow::Result<Self> {
        if environment.get(TAKES_OVER).is_some() {
            return Self::from_earlier().context(
                "the sockets of the process before this one cannot be taken over (POLYGATE_TAKES_OVER is not for use by hand)",
            );
        }
        let mut descriptors = ListenFd::from_env();
        let mut listeners = Vec::new();
        for at in 0..descriptors.len() {
            let listener = descriptors
                .take_tcp_listener(at)
                .with_context(|| format!("socket {at} that systemd gave is no TCP listener"))?;
            listeners.extend(listener);
        }
        Ok(Self {
            listeners,
            earlier: None,
        })
    }

    fn from_earlier() -> anyhow::Result<Self> {
        let earlier = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let mut data = [IoSliceMut::new(&mut byte)];
        recvmsg(&earlier, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let listeners: Vec<TcpListener> = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
                _ => None,
            })
            .flatten()
            .map(TcpListener::from)
            .collect();
        anyhow::ensure!(!listeners.is_empty(), "it gave none");
        Ok(Self {
            listeners,
            earlier: Some(earlier),
        })
    }

    /// The sockets to serve: those given, else one bound to this address.
    pub fn listeners(&mut self, address: SocketAddr) -> anyhow::Result<Vec<TcpListener>> {
        let mut listeners = std::mem::take(&mut self.listeners);
        if listeners.is_empty() {
            listeners.push(bind(address).with_context(|| format!("cannot listen on {address}"))?);
        } else {
            warn_of_others(&listeners, address);
        }
        for listener in &listeners {
            listener.set_nonblocking(true)?;
        }
        Ok(listeners)
    }

    /// Tells the process before this one that it may go.
    pub fn say_ready(&mut self) {
        if let Some(mut earlier) = self.earlier.take() {
            // If it is gone already, the sockets are ours all the same.
            let _ = earlier.write_all(READY);
        }
    }
}

/// Gives sockets to the process at the other end.
pub fn give(listeners: &[TcpListener], to: &UnixStream) -> std::io::Result<()> {
    let sockets: Vec<BorrowedFd<'_>> = listeners.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(std::io::Error::other("too many sockets to hand over"));
    }
    sendmsg(to, &[IoSlice::new(&[0])], &mut control, SendFlags::empty())?;
    Ok(())
}

/// With a longer queue than the standard library asks for: connections that find it full wait for seconds.
fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    rustix::net::listen(&listener, QUEUE)?;
    Ok(listener)
}

fn warn_of_others(listeners: &[TcpListener], address: SocketAddr) {
    let is_there = listeners
        .iter()
        .filter_map(|listener| listener.local_addr().ok())
        .any(|given| given.port() == address.port() || address.port() == 0);
    if !is_there {
        tracing::warn!(configured = %address, "the sockets that were given listen elsewhere than the configuration says; they are used");
    }
}
