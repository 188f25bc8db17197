//! Least busy: the fewest calls in flight for the weight; of equals in turn.

use super::{Cursor, Standing, Turn};

/// Where the next turn begins.
#[derive(Debug, Default)]
pub struct LeastBusy(Cursor);

impl LeastBusy {
    /// The least busy of the available ones: by its key's calls, then by its model's.
    pub fn pick(&self, standings: &[Standing], available: &[usize], turn: Turn) -> Option<usize> {
        let start = self.0.step(turn).checked_rem(available.len())?;
        let (before, after) = available.split_at(start);
        let in_turn = after.iter().chain(before);
        in_turn
            .copied()
            .min_by_key(|at| standings.get(*at).map(load))
    }
}

/// Calls in flight for a weight, in fixed point so that it can be compared.
fn load(one: &Standing) -> (u64, u64) {
    let share = |calls: u32| (u64::from(calls) << 24) / u64::from(one.weight.max(1));
    (share(one.target.account_load()), share(one.target.load()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::standings;
    use super::*;

    #[test]
    fn calls_in_flight_follow_weights_and_equals_take_turns() {
        let standings = standings(&[3, 1, 2]);
        let busy = LeastBusy::default();
        let idle: Vec<_> = (0..4)
            .filter_map(|_| busy.pick(&standings, &[0, 1, 2], Turn::Taken))
            .collect();
        assert_eq!(idle, [0, 1, 2, 0], "all idle");
        let mut flights = Vec::new();
        for _ in 0..60 {
            let at = busy.pick(&standings, &[0, 1, 2], Turn::Taken).expect("one");
            flights.push(standings[at].target.begin(None));
        }
        let loads: Vec<u32> = standings.iter().map(|one| one.target.load()).collect();
        assert_eq!(loads, [30, 10, 20]);
    }

    #[test]
    fn models_of_one_key_are_told_apart() {
        let mut standings = standings(&[1, 1]);
        let pulses = crate::pulse::Pulses::default();
        standings[0].target = pulses.target("a");
        standings[1].target = pulses.target("b");
        let _flight = standings[0].target.begin(None);
        let busy = LeastBusy::default();
        for _ in 0..4 {
            assert_eq!(busy.pick(&standings, &[0, 1], Turn::Taken), Some(1));
        }
    }
}
