//! Which database there is, and the secret that its secrets are sealed with.

use std::path::{Path, PathBuf};

use polygate_core::Secret;

use super::check::is_sample;
use super::env::Environment;
use super::problem::{Findings, Report};

/// The shortest secret key.
pub const SHORTEST: usize = 16;

/// Where everything lives that outlives the process.
#[derive(Clone, Debug)]
pub struct Storage {
    /// The database.
    pub database: Database,
    /// `POLYGATE_SECRET_KEY`, or what is in `POLYGATE_SECRET_KEY_FILE`.
    pub secret_key: Option<Secret>,
    /// Where state is kept.
    pub data_dir: PathBuf,
    /// `REDIS_URL`: where replicas lease limits from; there may be a password in it.
    pub redis: Option<Secret>,
}

/// `DB_URL`.
#[derive(Clone, Debug)]
pub enum Database {
    /// SQLite, embedded.
    File {
        /// The file.
        path: PathBuf,
        /// Nobody asked for it.
        is_default: bool,
    },
    /// PostgreSQL, by its address; there may be a password in it.
    Server(Secret),
    /// Nothing outlives the process.
    Memory,
}

/// Reads the variables; notes what is wrong with them.
pub fn read(environment: &Environment, directory: &Path, findings: &mut Findings) -> Storage {
    let data_dir = environment
        .get("POLYGATE_DATA_DIR")
        .unwrap_or("polygate-data");
    let data_dir = directory.join(data_dir.trim());
    let database = match environment.get("DB_URL").map(str::trim) {
        None => Some(Database::File {
            path: data_dir.join("polygate.db"),
            is_default: true,
        }),
        Some(url) => database(url, directory),
    };
    let database = database.unwrap_or_else(|| {
        // What it says may have a password in it.
        let message =
            "must be 'postgres://…', 'sqlite:FILE' or 'none'; unset: a file in the data directory";
        findings.error("DB_URL", message);
        Database::Memory
    });
    let secret_key = secret_key(environment, directory, findings);
    let is_set = ["POLYGATE_SECRET_KEY", "POLYGATE_SECRET_KEY_FILE"]
        .iter()
        .any(|name| environment.raw(name).is_some());
    if matches!(database, Database::Server(_)) && !is_set {
        let message = "is required with a PostgreSQL database: set it, or POLYGATE_SECRET_KEY_FILE, to one secret for all replicas";
        findings.error("POLYGATE_SECRET_KEY", message);
    }
    Storage {
        database,
        secret_key,
        data_dir,
        redis: redis(environment, findings),
    }
}

fn redis(environment: &Environment, findings: &mut Findings) -> Option<Secret> {
    let url = environment.get("REDIS_URL")?.trim();
    if url.is_empty() || is_redis(url) {
        return (!url.is_empty()).then(|| Secret::new(url));
    }
    // What it says may have a password in it.
    findings.error("REDIS_URL", NO_REDIS);
    None
}

/// What is said of an address that is not Redis's.
pub const NO_REDIS: &str = "must be 'redis://…', or 'rediss://…' for TLS";

/// Whether this is the address of a Redis.
pub fn is_redis(url: &str) -> bool {
    ["redis://", "rediss://"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
}

/// The same, for who needs nothing else of the configuration.
pub fn storage(environment: &Environment, directory: &Path) -> Result<Storage, Report> {
    let mut findings = Findings::default();
    let storage = read(environment, directory, &mut findings);
    if findings.errors.is_empty() {
        Ok(storage)
    } else {
        Err(Report::new(None, findings.errors))
    }
}

fn database(url: &str, directory: &Path) -> Option<Database> {
    if url == "none" {
        return Some(Database::Memory);
    }
    if let Some(file) = url.strip_prefix("sqlite:") {
        let file = file.strip_prefix("//").unwrap_or(file);
        let file = file.split_once('?').map_or(file, |(file, _)| file);
        let is_file = !file.is_empty() && file != ":memory:";
        return is_file.then(|| Database::File {
            path: directory.join(file),
            is_default: false,
        });
    }
    let schemes = ["postgres://", "postgresql://"];
    let scheme = schemes.iter().find(|scheme| url.starts_with(**scheme))?;
    let rest = url.strip_prefix(scheme)?;
    Some(Database::Server(Secret::new(encoded(scheme, rest))))
}

/// An address whose user and password may have any character in them: the last `@` ends them.
fn encoded(scheme: &str, rest: &str) -> String {
    let Some((who, place)) = rest.rsplit_once('@') else {
        return format!("{scheme}{rest}");
    };
    match who.split_once(':') {
        Some((user, password)) => {
            format!("{scheme}{}:{}@{place}", percent(user), percent(password))
        }
        None => format!("{scheme}{}@{place}", percent(who)),
    }
}

/// Encodes what cannot stand in an address. What is encoded already stays.
fn percent(text: &str) -> String {
    let bytes = text.as_bytes();
    let is_encoded = |at: usize| {
        let digits = bytes.get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    let mut out = String::with_capacity(text.len());
    for (at, byte) in bytes.iter().enumerate() {
        let stays = byte.is_ascii_alphanumeric()
            || b"-._~!$&'()*+,;=".contains(byte)
            || (*byte == b'%' && is_encoded(at));
        if stays {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn secret_key(
    environment: &Environment,
    directory: &Path,
    findings: &mut Findings,
) -> Option<Secret> {
    const NAME: &str = "POLYGATE_SECRET_KEY";
    const FILE: &str = "POLYGATE_SECRET_KEY_FILE";
    match (environment.raw(NAME), environment.raw(FILE)) {
        (Some(_), Some(_)) => {
            findings.error(FILE, format!("{NAME} is set too: keep one"));
            None
        }
        (Some(key), None) => sound(NAME, key, findings),
        (None, Some(file)) => match std::fs::read_to_string(directory.join(file.trim())) {
            Ok(key) => sound(FILE, &key, findings),
            Err(error) => {
                findings.error(FILE, format!("cannot be read: {error}"));
                None
            }
        },
        (None, None) => None,
    }
}

fn sound(name: &str, key: &str, findings: &mut Findings) -> Option<Secret> {
    let problem = unsound(key);
    if let Some(problem) = problem {
        findings.error(name, problem);
        return None;
    }
    Some(Secret::new(key.trim()))
}

/// Why this is no secret key.
pub fn unsound(key: &str) -> Option<String> {
    let key = key.trim();
    let what = if key.is_empty() {
        "is empty".to_owned()
    } else if is_sample(key) {
        "is a sample that everyone knows".to_owned()
    } else if key.len() < SHORTEST {
        format!("is shorter than {SHORTEST} characters")
    } else {
        return None;
    };
    Some(format!("{what}: set a real one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_with(pairs: &[(&str, &str)]) -> Result<Storage, String> {
        storage(&Environment::of(pairs), Path::new("/d")).map_err(|report| report.to_string())
    }

    #[test]
    fn an_address_says_which_database() {
        let shown = |url: &str| match database(url, Path::new("/d")) {
            None => "refused".to_owned(),
            Some(Database::Memory) => "memory".to_owned(),
            Some(Database::File { path, .. }) => path.display().to_string(),
            Some(Database::Server(url)) => url.reveal().to_owned(),
        };
        for (url, expected) in [
            ("none", "memory"),
            ("sqlite:a.db", "/d/a.db"),
            ("sqlite://a.db?mode=rwc", "/d/a.db"),
            ("sqlite:///x/a.db", "/x/a.db"),
            ("sqlite:", "refused"),
            ("sqlite::memory:", "refused"),
            ("mysql://h/d", "refused"),
            ("postgres://h/d", "postgres://h/d"),
            ("postgres://u:p@h/d", "postgres://u:p@h/d"),
            ("postgresql://u@h/d", "postgresql://u@h/d"),
            (
                "postgres://u:p@ss/w:rd?#%@h:1/d?sslmode=disable",
                "postgres://u:p%40ss%2Fw%3Ard%3F%23%25@h:1/d?sslmode=disable",
            ),
            ("postgres://u:a%40b@h/d", "postgres://u:a%40b@h/d"),
        ] {
            assert_eq!(shown(url), expected, "{url}");
        }
    }

    #[test]
    fn a_server_wants_a_real_secret_key() {
        let url = ("DB_URL", "postgres://u:hush@h/d");
        let error = |pairs: &[(&str, &str)]| read_with(pairs).expect_err("refused");
        assert!(error(&[url]).contains("POLYGATE_SECRET_KEY: is required"));
        for (key, word) in [
            ("", "empty"),
            ("changeme", "sample"),
            ("0123456789", "shorter"),
        ] {
            assert!(
                error(&[url, ("POLYGATE_SECRET_KEY", key)]).contains(word),
                "{key}"
            );
            assert!(
                error(&[("POLYGATE_SECRET_KEY", key)]).contains(word),
                "{key}"
            );
        }
        assert!(!error(&[("DB_URL", "mysql://u:hush@h/d")]).contains("hush"));
        assert!(read_with(&[url, ("POLYGATE_SECRET_KEY", "0123456789abcdef")]).is_ok());
        assert!(read_with(&[]).is_ok());
    }
}
