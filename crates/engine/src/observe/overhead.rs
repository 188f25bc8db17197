//! How much of a call's time was the gateway's own.

use std::time::Duration;

use super::record::CallRecord;

impl CallRecord {
    /// The gateway's own time until now: all but what it waited for upstreams in its attempts. Those that were under way at once are waited
    /// for once; what it worked itself while one was, on bodies of requests and answers, is its own.
    pub(crate) fn overhead(&self, now: Duration) -> Duration {
        let mut spans: Vec<(Duration, Duration)> = self
            .attempts
            .iter()
            .map(|attempt| (attempt.started, attempt.started + attempt.duration))
            .collect();
        spans.sort_unstable();
        let mut waited = Duration::ZERO;
        let mut until = self.started;
        for (from, to) in spans {
            waited += to.saturating_sub(from.max(until));
            until = until.max(to);
        }
        let own: Duration = self.attempts.iter().map(|attempt| attempt.own).sum();
        let all = now.saturating_sub(self.started);
        all.saturating_sub(waited.saturating_sub(own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::AttemptRecord;
    use crate::observe::charge::tests::{asked, call};

    const BEGAN: Duration = Duration::from_secs(5);

    fn attempt(from: u64, took: u64, own: u64) -> AttemptRecord {
        AttemptRecord {
            started: BEGAN + Duration::from_millis(from),
            duration: Duration::from_millis(took),
            own: Duration::from_millis(own),
            ..asked()
        }
    }

    #[test]
    fn what_is_waited_for_upstreams_is_not_the_gateways_own() {
        for (what, attempts, own) in [
            ("nobody was asked", vec![], 100),
            ("one", vec![attempt(10, 80, 0)], 20),
            ("its body was made meanwhile", vec![attempt(10, 80, 5)], 25),
            (
                "two in turn",
                vec![attempt(10, 20, 0), attempt(50, 40, 0)],
                40,
            ),
            (
                "one beside another",
                vec![attempt(10, 80, 0), attempt(30, 60, 0)],
                20,
            ),
            (
                "one within another",
                vec![attempt(10, 80, 0), attempt(30, 10, 0)],
                20,
            ),
        ] {
            let record = call(attempts);
            let overhead = record.overhead(BEGAN + Duration::from_millis(100));
            assert_eq!(overhead, Duration::from_millis(own), "{what}");
        }
    }
}
