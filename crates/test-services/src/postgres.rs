//! PostgreSQL.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rustix::process::{Signal, geteuid};
use tempfile::TempDir;

use crate::installed;
use crate::process::{Process, free_port};

/// Who runs it where the test is root, whom PostgreSQL refuses: `nobody`.
const NOBODY: u32 = 65534;

/// A PostgreSQL server with one empty database.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    port: u16,
    folder: TempDir,
    process: Process,
}

impl Postgres {
    /// Starts one; `None` where it is not installed.
    pub fn start() -> Option<Self> {
        let programs = programs()?;
        let folder = tempfile::tempdir().expect("a folder");
        own(folder.path());
        let data = folder.path().join("data");
        let made = command(&programs.join("initdb"))
            .args(["--auth=trust", "--username=polygate", "--encoding=UTF8"])
            .args(["--no-sync", "--locale=C", "-D"])
            .arg(&data)
            .stdout(Stdio::null())
            .status()
            .expect("initdb starts");
        assert!(made.success(), "initdb: {made}");
        let port = free_port();
        let process = Process::start(&mut server(&programs, &data, port), port);
        let postgres = Self {
            programs,
            port,
            folder,
            process,
        };
        postgres.wait();
        Some(postgres)
    }

    /// The address of its database.
    pub fn url(&self) -> String {
        format!("postgres://polygate@127.0.0.1:{}/postgres", self.port)
    }

    /// Makes a further, empty database; its address.
    pub fn database(&self, name: &str) -> String {
        self.sql(&format!("CREATE DATABASE {name}"));
        format!("postgres://polygate@127.0.0.1:{}/{name}", self.port)
    }

    /// Runs a statement in its first database; what it answers, plainly.
    pub fn sql(&self, statement: &str) -> String {
        let done = command(&self.programs.join("psql"))
            .args(["-v", "ON_ERROR_STOP=1", "-At", "-c", statement])
            .arg(self.url())
            .output()
            .expect("psql starts");
        assert!(
            done.status.success(),
            "{statement}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Ends it at once, with all of its children, as a crash of the machine does.
    pub fn crash(&mut self) {
        // The children see that their parent has gone and end; the next start recovers what was committed.
        self.process.kill();
    }

    /// Starts it again on the same port, with its data.
    pub fn restart(&mut self) {
        self.process.kill();
        let data = self.folder.path().join("data");
        // Children of the one that was killed may take a moment to see it.
        while data.join("postmaster.pid").exists() && !self.is_gone() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let _ = std::fs::remove_file(data.join("postmaster.pid"));
        self.process = Process::start(&mut server(&self.programs, &data, self.port), self.port);
        self.wait();
    }

    /// Freezes all of its processes, so that connections stay and nothing is answered.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        for pid in processes_of(&self.folder.path().join("data")) {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, signal);
            }
        }
    }

    fn is_gone(&self) -> bool {
        processes_of(&self.folder.path().join("data")).is_empty()
    }

    fn wait(&self) {
        let ready = || {
            command(&self.programs.join("pg_isready"))
                .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
                .status()
                .is_ok_and(|status| status.success())
        };
        while !ready() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.thaw();
        // Asked first: killed, it would leave its shared memory behind.
        self.process.signal(Signal::INT);
        for _ in 0..100 {
            if self.is_gone() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// Processes whose working directory is this: a server and its children.
fn processes_of(data: &Path) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|process| {
            std::fs::read_link(process.path().join("cwd")).is_ok_and(|folder| folder == data)
        })
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .collect()
}

fn server(programs: &Path, data: &Path, port: u16) -> Command {
    let mut command = command(&programs.join("postgres"));
    command
        .arg("-D")
        .arg(data)
        .args(["-p", &port.to_string()])
        .args(["-c", "listen_addresses=127.0.0.1"])
        .args(["-c", "unix_socket_directories="])
        .args(["-c", "max_connections=200"])
        // A crash of the process loses nothing by it, and tests are quicker.
        .args(["-c", "fsync=off"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/");
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn own(folder: &Path) {
    if geteuid().is_root() {
        chown(folder, Some(NOBODY), Some(NOBODY)).expect("root may");
    }
}

/// Where its programs are. Where the test is root, a copy that `nobody` may run: folders of packages may be private.
fn programs() -> Option<PathBuf> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    const BIN: &str = "pgserver/pginstall/bin";
    let find = || {
        let packages = installed("pgserver")?.parent()?.to_owned();
        if !geteuid().is_root() {
            return Some(packages.join(BIN));
        }
        let there = std::env::temp_dir().join("polygate-test-postgres");
        if !there.join(BIN).exists() {
            let copy = tempfile::tempdir().expect("a folder");
            let whole = copy.path().join("whole");
            std::fs::create_dir(&whole).expect("our own");
            // The libraries are found beside it.
            let copied = Command::new("cp")
                .arg("-r")
                .args(["pgserver", "pgserver.libs"].map(|name| packages.join(name)))
                .arg(&whole)
                .status()
                .expect("cp starts");
            assert!(copied.success(), "cp: {copied}");
            std::fs::set_permissions(&whole, std::fs::Permissions::from_mode(0o755))
                .expect("our own");
            // Another test may have been quicker: what is there then is the same.
            let _ = std::fs::rename(&whole, &there);
        }
        Some(there.join(BIN))
    };
    FOUND.get_or_init(find).clone()
}
