//! Slows those who try keys: each address has a few wrong ones, then one now and then.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Wrong keys that an address may show one after the other.
const BURST: u32 = 10;

/// Between two more.
const INTERVAL: Duration = Duration::from_secs(6);

/// Between two notes of what the same one was refused.
const SILENCE: Duration = Duration::from_secs(10);

/// Addresses that are known at a time. Beyond them the one that is nearest to being forgiven is forgotten.
const MOST: usize = 4096;

/// What addresses did.
#[derive(Debug, Default)]
pub struct Brake {
    /// The moment at which all of an address's failures are forgiven (GCRA).
    due: Mutex<HashMap<IpAddr, Duration>>,
    /// Whose refusals are not noted again before this.
    noted: Mutex<HashMap<String, Duration>>,
}

impl Brake {
    /// How long this address has to wait before another key of it is looked at.
    pub fn wait(&self, peer: IpAddr, now: Duration) -> Option<Duration> {
        let due = *self.due().get(&network(peer))?;
        let free = now + INTERVAL * (BURST - 1);
        (due > free).then(|| due - free)
    }

    /// A wrong key was shown.
    pub fn failed(&self, peer: IpAddr, now: Duration) {
        let mut due = self.due();
        let place = network(peer);
        if !due.contains_key(&place) && due.len() >= MOST {
            due.retain(|_, due| *due > now);
            if due.len() >= MOST {
                let first = due.iter().min_by_key(|(_, due)| **due);
                let first = first.map(|(peer, _)| *peer);
                first.map(|first| due.remove(&first));
            }
        }
        let of = due.entry(place).or_default();
        *of = (*of).max(now) + INTERVAL;
    }

    /// Whether a refusal of this one is worth noting: the first in a while is.
    pub fn notes(&self, who: &str, now: Duration) -> bool {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.retain(|_, until| *until > now);
        if noted.contains_key(who) || noted.len() >= MOST {
            return false;
        }
        noted.insert(who.to_owned(), now + SILENCE);
        true
    }

    fn due(&self) -> MutexGuard<'_, HashMap<IpAddr, Duration>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is one party: an address, or of IPv6 the network that a party has to itself.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn after_a_few_wrong_keys_an_address_waits() {
        let brake = Brake::default();
        let [peer, other]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        for _ in 0..10 {
            assert_eq!(brake.wait(peer, at(100)), None);
            brake.failed(peer, at(100));
        }
        assert_eq!(brake.wait(peer, at(100)), Some(at(6)));
        assert_eq!(brake.wait(other, at(100)), None);
        assert_eq!(brake.wait(peer, at(105)), Some(at(1)));
        assert_eq!(brake.wait(peer, at(106)), None);
        brake.failed(peer, at(106));
        assert_eq!(brake.wait(peer, at(106)), Some(at(6)));
        assert_eq!(brake.wait(peer, at(200)), None);
    }

    #[test]
    fn a_network_of_ipv6_is_one_party() {
        let brake = Brake::default();
        for host in 0..10_u16 {
            brake.failed(Ipv6Addr::new(1, 2, 3, 4, 0, 0, 0, host).into(), at(1));
        }
        assert!(
            brake
                .wait(Ipv6Addr::new(1, 2, 3, 4, 9, 9, 9, 9).into(), at(1))
                .is_some()
        );
        assert!(
            brake
                .wait(Ipv6Addr::new(1, 2, 3, 5, 0, 0, 0, 0).into(), at(1))
                .is_none()
        );
    }

    #[test]
    fn of_many_refusals_one_now_and_then_is_noted() {
        let brake = Brake::default();
        let noted = |who, second| brake.notes(who, at(second));
        assert!(noted("a GET /x", 0) && noted("b GET /x", 0));
        assert!(!noted("a GET /x", 9));
        assert!(noted("a GET /x", 10));
    }

    #[test]
    fn what_it_knows_is_bounded() {
        let brake = Brake::default();
        let worst: IpAddr = [9, 9, 9, 9].into();
        for _ in 0..20 {
            brake.failed(worst, at(1));
        }
        for number in 0..10_000_u32 {
            brake.failed(std::net::Ipv4Addr::from(number).into(), at(1));
        }
        assert!(brake.due().len() <= MOST);
        assert!(
            brake.wait(worst, at(1)).is_some(),
            "the worst is not forgotten"
        );
    }
}
