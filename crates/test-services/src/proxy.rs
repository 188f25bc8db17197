//! Forward proxies, from Debian's packages, unpacked by `./test`: Tinyproxy speaks HTTP, Microsocks SOCKS 5.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::debian;
use crate::process::{Process, free_port};

/// A proxy that lets connections through.
#[derive(Debug)]
pub struct ForwardProxy {
    /// `host:port`.
    pub address: String,
    log: PathBuf,
    _folder: TempDir,
    _process: Process,
}

/// User and password.
pub type Login<'a> = Option<(&'a str, &'a str)>;

impl ForwardProxy {
    /// Tinyproxy; `None` where it is not installed.
    pub fn http(login: Login<'_>) -> Option<Self> {
        let program = debian("proxies", "tinyproxy")?;
        Some(Self::start(|port, folder| {
            let auth = login.map(|(user, password)| format!("BasicAuth {user} {password}\n"));
            let config = format!(
                "Port {port}\nListen 127.0.0.1\nLogLevel Connect\n{}",
                auth.unwrap_or_default()
            );
            let file = folder.path().join("tinyproxy.conf");
            std::fs::write(&file, config).expect("it is written");
            let mut command = Command::new(program);
            command.arg("-d").arg("-c").arg(file);
            command
        }))
    }

    /// Microsocks; `None` where it is not installed.
    pub fn socks(login: Login<'_>) -> Option<Self> {
        let program = debian("proxies", "microsocks")?;
        Some(Self::start(|port, _| {
            let mut command = Command::new(program);
            command.args(["-i", "127.0.0.1", "-p", &port.to_string()]);
            if let Some((user, password)) = login {
                command.args(["-u", user, "-P", password]);
            }
            command
        }))
    }

    /// What it was asked to reach, and by whom, in its own words.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn start(command: impl FnOnce(u16, &TempDir) -> Command) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let port = free_port();
        let mut command = command(port, &folder);
        let file = File::create(&log).expect("a log");
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a handle"))
            .stderr(file);
        let process = Process::start(&mut command, port);
        Self {
            address: format!("127.0.0.1:{port}"),
            log,
            _folder: folder,
            _process: process,
        }
    }
}
