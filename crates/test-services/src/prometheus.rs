//! Prometheus, from Debian's package, unpacked by `./test`.

use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::debian;
use crate::process::{Process, free_port};

/// A Prometheus server.
#[derive(Debug)]
pub struct Prometheus {
    port: u16,
    _folder: TempDir,
    _process: Process,
}

impl Prometheus {
    /// Starts one with this configuration; `None` where it is not installed.
    pub fn start(config: &str) -> Option<Self> {
        let program = debian("prometheus", "prometheus")?;
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("it is written");
        let port = free_port();
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=error")
            .stdout(Stdio::null());
        let process = Process::start(&mut command, port);
        Some(Self {
            port,
            _folder: folder,
            _process: process,
        })
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// What its own tool says of files: whether they are good, and its words. `None` where it is not installed.
pub fn promtool(args: &[&str]) -> Option<(bool, String)> {
    let output = Command::new(debian("prometheus", "promtool")?)
        .args(args)
        .output();
    let output = output.expect("it runs");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    Some((output.status.success(), text))
}
