//! A server's process: can be killed and frozen, and ends with its owner.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take to come up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server under way.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts it and waits until somebody listens on its port.
    pub fn start(command: &mut Command, port: u16) -> Self {
        let mut process = Self(command.spawn().expect("the server's program starts"));
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = process.0.try_wait().expect("a child") {
                panic!("the server ended at once: {status}");
            }
            assert!(start.elapsed() < PATIENCE, "the server does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        process
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        self.thaw();
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Stops it where it stands: it answers nothing, and its connections stay.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nobody has just now.
pub fn free_port() -> u16 {
    let socket = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    socket.local_addr().expect("an address").port()
}
