//! What a service manager is told: systemd's protocol, of which this is all that we need.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::time::{ClockId, clock_gettime};

use crate::config::env::Environment;

/// Where it listens; nowhere, where nobody asked.
pub struct Notifier(Option<(UnixDatagram, SocketAddr)>);

impl Notifier {
    /// That of `NOTIFY_SOCKET`.
    pub fn of(environment: &Environment) -> Self {
        let address = environment.get("NOTIFY_SOCKET").and_then(address);
        let socket = || UnixDatagram::unbound().ok();
        Notifier(address.and_then(|address| Some((socket()?, address))))
    }

    /// It serves, and is the process to watch: after an upgrade that is another one.
    pub fn ready(&self) {
        self.say(&format!("READY=1\nMAINPID={}", std::process::id()));
    }

    /// It reads its configuration again, and says when it is ready.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// It ends.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    fn say(&self, text: &str) {
        if let Some((socket, address)) = &self.0 {
            // Nobody listening is no reason to fail.
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }
}

/// A path, or a name that begins with `@`.
fn address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name).ok(),
        None => SocketAddr::from_pathname(text).ok(),
    }
}
