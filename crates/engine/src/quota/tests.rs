//! Amounts are exact, whoever asks at once and whatever becomes of it.

use proptest::prelude::*;

use super::*;

fn allowance(measure: Measure, period: Period, most: u64) -> Allowance {
    Allowance {
        measure,
        period,
        most,
    }
}

fn quota_in(book: &Book, allowances: &[Allowance]) -> Arc<Quota> {
    let subject = Subject::new(SubjectKind::Key, "one");
    Quota::new(&subject, allowances, book).expect("allowances")
}

fn quota(allowances: &[Allowance]) -> Arc<Quota> {
    quota_in(&Book::default(), allowances)
}

fn amounts(tokens: u64) -> Amounts {
    Amounts {
        requests: 1,
        tokens,
        money: 0,
    }
}

fn taken(quota: &Quota, now: u64) -> Vec<u64> {
    let meters = quota.meters.iter();
    let taken = |meter: &Meter| {
        let window = meter.allowance.period.window(now);
        meter.tally.taken(window.number)
    };
    meters.map(taken).collect()
}

fn reserve(quota: &Arc<Quota>, tokens: u64, now: u64) -> Result<Reservation, Spent> {
    let mut reservation = Reservation::default();
    quota.reserve(amounts(tokens), now, &mut reservation)?;
    Ok(reservation)
}

#[test]
fn what_is_reserved_is_settled_by_what_was_used() {
    let quota = quota(&[
        allowance(Measure::Requests, Period::Minute, 2),
        allowance(Measure::Tokens, Period::Day, 100),
    ]);
    let first = reserve(&quota, 60, 0).expect("enough");
    assert_eq!(taken(&quota, 0), [1, 60]);
    let spent = reserve(&quota, 41, 1).expect_err("too much");
    assert_eq!((spent.allowance.measure, spent.left), (Measure::Tokens, 40));
    assert_eq!(spent.wait, Some(Duration::from_secs(86_399)));
    assert_eq!(taken(&quota, 1), [1, 60], "a refusal takes nothing");
    first.settle(amounts(25));
    assert_eq!(taken(&quota, 1), [1, 25]);
    drop(reserve(&quota, 75, 1).expect("enough"));
    assert_eq!(taken(&quota, 1), [1, 25], "a call that never was");
    reserve(&quota, 75, 1).expect("enough").settle(amounts(90));
    assert_eq!(taken(&quota, 1), [2, 115], "what was used was used");
    let spent = reserve(&quota, 0, 30).expect_err("no call is left");
    assert_eq!(spent.allowance.measure, Measure::Requests);
    assert_eq!(spent.wait, Some(Duration::from_secs(30)));
    assert_eq!(taken(&quota, 60), [0, 115], "the next minute");
}

#[test]
fn what_was_taken_in_an_old_window_is_not_given_back_to_a_new_one() {
    let quota = quota(&[allowance(Measure::Tokens, Period::Minute, 100)]);
    let old = reserve(&quota, 80, 59).expect("enough");
    reserve(&quota, 70, 60).expect("enough").settle(amounts(70));
    drop(old);
    assert_eq!(taken(&quota, 60), [70]);
}

#[test]
fn nothing_is_allowed_where_nothing_is_and_what_is_never_enough_is_said_to_be_so() {
    let none = quota(&[allowance(Measure::Requests, Period::Total, 0)]);
    let spent = reserve(&none, 0, 0).expect_err("blocked");
    assert_eq!((spent.left, spent.wait), (0, None));
    let blocked = quota(&[allowance(Measure::Money, Period::Day, 0)]);
    assert!(reserve(&blocked, 0, 0).is_err(), "even what costs nothing");
    let few = quota(&[allowance(Measure::Tokens, Period::Minute, 10)]);
    assert_eq!(reserve(&few, 11, 0).expect_err("too much").wait, None);
    assert!(reserve(&few, u64::MAX, 0).is_err());
}

#[test]
fn other_allowances_keep_what_is_taken() {
    let book = Book::default();
    let one = quota_in(&book, &[allowance(Measure::Tokens, Period::Day, 100)]);
    reserve(&one, 60, 0).expect("enough").settle(amounts(60));
    let less = quota_in(
        &book,
        &[
            allowance(Measure::Tokens, Period::Minute, 9),
            allowance(Measure::Tokens, Period::Day, 50),
        ],
    );
    assert_eq!(taken(&less, 1), [0, 60]);
    assert_eq!(reserve(&less, 1, 1).expect_err("spent").left, 0);
}

#[test]
fn no_more_is_given_than_there_is_however_many_ask() {
    let quota = quota(&[
        allowance(Measure::Requests, Period::Day, 500),
        allowance(Measure::Tokens, Period::Month, 1000),
    ]);
    let given: usize = std::thread::scope(|scope| {
        let ask = || {
            let calls = (0..200).filter(|_| {
                let reserved = reserve(&quota, 3, 100);
                reserved.map(|held| held.settle(amounts(3))).is_ok()
            });
            calls.count()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        let counts = threads.into_iter().map(|thread| thread.join());
        counts.map(|count| count.expect("a count")).sum()
    });
    assert_eq!(given, 333);
    assert_eq!(taken(&quota, 100), [333, 999], "refusals gave all back");
}

proptest! {
    #[test]
    fn what_is_taken_is_what_was_settled_and_is_held(
        steps in prop::collection::vec((0_u64..200, 0_u64..200, any::<bool>(), 0_u64..30), 1..60)
    ) {
        let most = 1000;
        let quota = quota(&[allowance(Measure::Tokens, Period::Minute, most)]);
        let (mut now, mut minute, mut used) = (0, 0, 0);
        for (wanted, took, settles, later) in steps {
            now += later;
            if now / 60 != minute {
                (minute, used) = (now / 60, 0);
            }
            match reserve(&quota, wanted, now) {
                Ok(held) => {
                    prop_assert!(used + wanted <= most);
                    prop_assert_eq!(taken(&quota, now), vec![used + wanted]);
                    if settles {
                        held.settle(amounts(took));
                        used += took;
                    }
                }
                Err(spent) => {
                    prop_assert!(used + wanted > most);
                    prop_assert_eq!(spent.left, most.saturating_sub(used));
                }
            }
            prop_assert_eq!(taken(&quota, now), vec![used]);
        }
    }
}

#[test]
fn whose_lease_is_late_goes_on_where_there_is_plenty_and_only_a_little() {
    for (most, amount, goes_on) in [
        (1_000_000, 1, true),
        (300, 1, false),
        (1_000_000, 400, false),
    ] {
        let (book, _calls) = Book::new(Keeping::Leased);
        book.set_replicas(3);
        let quota = quota_in(&book, &[allowance(Measure::Tokens, Period::Total, most)]);
        let take = || reserve(&quota, amount, 100);
        let spent = take().expect_err("nothing is leased");
        let tally = spent.more.expect("more may come");
        tally.is_late();
        let first = take();
        assert_eq!(first.is_ok(), goes_on, "{amount} of {most}");
        if !goes_on {
            continue;
        }
        let mut held: Vec<_> = first.into_iter().collect();
        held.extend(std::iter::from_fn(|| take().ok()));
        assert_eq!(held.len(), 1000, "a little, once");
        // The keeper finds out that it is away: then there is the share.
        book.set_away(true);
        held.extend(std::iter::from_fn(|| take().ok()));
        assert_eq!(held.len() as u64, 1000 + most / 3);
        // It is heard again: what was taken beyond is known, and the next late lease has a little again.
        book.set_away(false);
        tally.end_share();
        tally.hear(0, held.len() as u64, 101);
        tally.is_late();
        assert!(take().is_ok());
    }
}
