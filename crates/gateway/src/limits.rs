//! What the process bears: the limit of open files, raised as far as it goes.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files that are neither a client's nor a provider's: listeners, logs, the runtime's own.
const OWN: u64 = 64;

/// More than this nobody means.
const MOST: u64 = 1 << 20;

/// How many connections, and how many calls, there is room for: each may need a second file on the provider's side.
pub fn bearable() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let open_files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let room = open_files.unwrap_or(u64::MAX).saturating_sub(OWN) / 2;
    usize::try_from(room.clamp(1, MOST)).unwrap_or(1)
}
