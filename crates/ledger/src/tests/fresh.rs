//! What is at hand is what the log holds behind a place, or nothing is.

use proptest::prelude::*;

use super::stand_in::row;
use crate::fresh::{Fresh, Place};

const MOST: usize = 6;

/// The frame number so and so ends here: three to a segment.
fn place(number: u64) -> Place {
    Place {
        segment: number / 3,
        offset: (number % 3 + 1) * 10,
    }
}

/// What happens to it.
#[derive(Clone, Debug)]
enum Step {
    /// So many rows are written together.
    Write(u64),
    /// So many are taken.
    Take(usize),
    /// So many are read from the log.
    Read(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1..=5_u64).prop_map(Step::Write),
        (1..=4_usize).prop_map(Step::Take),
        (1..=9_u64).prop_map(Step::Read),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #[test]
    fn nothing_is_missed_and_nothing_comes_twice(steps in steps()) {
        let fresh = Fresh::new(MOST);
        let (mut written, mut seen) = (0, 0);
        let mut at = Place::default();
        for step in steps {
            match step {
                Step::Write(count) => {
                    let numbers: Vec<u64> = (written..written + count).collect();
                    fresh.put(numbers.into_iter().map(|n| (place(n), row(&n.to_string()))));
                    written += count;
                }
                Step::Take(most) => {
                    let Some((rows, end)) = fresh.take(at, most) else {
                        prop_assert!(written - seen > 0, "there is nothing to read");
                        continue;
                    };
                    let left = usize::try_from(written - seen).expect("few");
                    prop_assert_eq!(rows.len(), most.min(left));
                    for row in rows {
                        prop_assert_eq!(row.id, seen.to_string());
                        seen += 1;
                        at = place(seen - 1);
                    }
                    prop_assert_eq!(at, end);
                }
                Step::Read(count) if seen < written => {
                    seen = (seen + count).min(written);
                    at = place(seen - 1);
                }
                Step::Read(_) => {}
            }
        }
    }
}

#[test]
fn what_comes_out_of_order_is_read() {
    let fresh = Fresh::new(MOST);
    for number in [0, 2, 1] {
        fresh.put(std::iter::once((place(number), row("call"))));
    }
    assert_eq!(fresh.take(place(0), 9), None);
    assert_eq!(fresh.take(place(2), 9), Some((vec![], place(2))));
}
