//! Lowest latency: of two by chance the one whose peak-EWMA × (calls in flight + 1) is lower. One of two, because all calls would
//! rush to the single best.

use std::time::Duration;

use super::Standing;

/// One of the available ones; those that nobody measured get a try first, one call at a time.
pub fn pick(
    standings: &[Standing],
    available: &[usize],
    roll: u64,
    now: Duration,
) -> Option<usize> {
    let is_unknown = |at: &usize| {
        standings
            .get(*at)
            .is_some_and(|one| one.target.load() == 0 && one.target.latency(now).is_none())
    };
    let unknown: Vec<usize> = available.iter().copied().filter(is_unknown).collect();
    if !unknown.is_empty() {
        return chosen(&unknown, roll);
    }
    let one = chosen(available, roll)?;
    let rest: Vec<usize> = available.iter().copied().filter(|at| *at != one).collect();
    // The upper half of the roll: the lower one chose the first.
    let Some(other) = chosen(&rest, roll >> 32) else {
        return Some(one);
    };
    let (first, second) = (standings.get(one)?, standings.get(other)?);
    Some(if cost(second, first, now) < cost(first, second, now) {
        other
    } else {
        one
    })
}

fn chosen(among: &[usize], roll: u64) -> Option<usize> {
    let roll = usize::try_from(roll & u64::from(u32::MAX)).ok()?;
    among.get(roll.checked_rem(among.len())?).copied()
}

/// What a call there costs in time. One whose first call is still under way counts as quick as the other.
fn cost(one: &Standing, other: &Standing, now: Duration) -> u128 {
    let latency = one
        .target
        .decayed(now)
        .or_else(|| other.target.decayed(now));
    let calls = u128::from(one.target.load()) + 1;
    latency.unwrap_or_default().as_micros().max(1) * calls
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Dice, standings};
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const MS: Duration = Duration::from_millis(1);

    fn shares(standings: &[Standing], now: Duration) -> Vec<usize> {
        let available: Vec<usize> = (0..standings.len()).collect();
        let mut seen = vec![0; standings.len()];
        for roll in Dice(3).take(3000) {
            seen[pick(standings, &available, roll, now).expect("one")] += 1;
        }
        seen
    }

    #[test]
    fn the_slowest_is_never_the_quicker_of_two() {
        let standings = standings(&[1, 1, 1]);
        for (one, took) in standings.iter().zip([100, 200, 900]) {
            one.target.succeeded(S, took * MS);
        }
        let seen = shares(&standings, S);
        assert_eq!(seen[2], 0);
        assert!(
            (1850..2150).contains(&seen[0]),
            "two pairs of three: {seen:?}"
        );
    }

    #[test]
    fn who_was_never_measured_gets_one_try_first() {
        let standings = standings(&[1, 1, 1]);
        standings[0].target.succeeded(S, 10 * MS);
        let seen = shares(&standings, S);
        assert_eq!(seen[0], 0);
        assert!(seen[1].abs_diff(seen[2]) < 200, "{seen:?}");
        let _flights = [
            standings[1].target.begin(None),
            standings[2].target.begin(None),
        ];
        assert!(
            shares(&standings, S)[0] > 1900,
            "no rush to what nobody knows"
        );
    }

    #[test]
    fn load_outweighs_speed() {
        let standings = standings(&[1, 1]);
        standings[0].target.succeeded(S, 100 * MS);
        standings[1].target.succeeded(S, 250 * MS);
        let _flights: Vec<_> = (0..3).map(|_| standings[0].target.begin(None)).collect();
        assert_eq!(shares(&standings, S), [0, 3000]);
    }

    #[test]
    fn a_target_that_was_slow_once_comes_back() {
        let standings = standings(&[1, 1]);
        standings[1].target.failed(S, S);
        standings[0].target.succeeded(S, 100 * MS);
        assert_eq!(shares(&standings, S)[1], 0);
        standings[0].target.succeeded(40 * S, 100 * MS);
        assert_eq!(shares(&standings, 40 * S)[0], 0, "its peak has sunk");
    }
}
