//! Limited amounts.

use std::sync::Arc;

use crate::quota::{Granted, Lease, QuotaStore, QuotaWindow};

fn window(name: &str, began: i64) -> QuotaWindow {
    QuotaWindow {
        name: name.to_owned(),
        began,
        ends: began + 60,
    }
}

fn lease(window: &QuotaWindow, want: i64, cap: i64) -> Lease {
    Lease {
        window: window.clone(),
        want,
        cap,
    }
}

/// Never more than there is; what comes back can be taken again.
pub async fn leases(store: &dyn QuotaStore) {
    let (a, b, later) = (window("a", 0), window("b", 0), window("a", 60));
    let granted = store
        .lease(&[lease(&a, 7, 10), lease(&b, 5, 5), lease(&a, 7, 10)])
        .await
        .unwrap();
    let grant = |granted, taken| Granted { granted, taken };
    assert_eq!(granted, [grant(7, 7), grant(5, 5), grant(3, 10)]);
    let granted = store
        .lease(&[lease(&a, 1, 10), lease(&a, -4, 10), lease(&a, 9, 10)])
        .await
        .unwrap();
    assert_eq!(granted, [grant(0, 10), grant(-4, 6), grant(4, 10)]);
    let granted = store
        .lease(&[lease(&later, 1, 10), lease(&b, -9, 5), lease(&a, 1, 3)])
        .await
        .unwrap();
    assert_eq!(
        granted,
        [grant(1, 1), grant(-5, 0), grant(0, 10)],
        "windows are apart, nothing sinks below none, a smaller cap takes nothing back"
    );
    let taken = store
        .taken(&[a.clone(), b, later.clone(), window("c", 0)])
        .await;
    assert_eq!(taken.unwrap(), [10, 0, 1, 0]);
}

/// Windows that are over are forgotten, and no others.
pub async fn forgetting(store: &dyn QuotaStore) {
    let (a, b, later) = (window("a", 0), window("b", 0), window("a", 60));
    let leases = [lease(&a, 1, 10), lease(&b, 1, 10), lease(&later, 1, 10)];
    store.lease(&leases).await.unwrap();
    assert_eq!(store.forget_windows(61, 10).await.unwrap(), 2);
    assert_eq!(store.taken(&[a, later]).await.unwrap(), [0, 1]);
}

/// However many take at once, no more is given than there is.
pub async fn many_takers<S: QuotaStore + 'static>(store: Arc<S>) {
    let takers = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut got = 0;
            for _ in 0..20 {
                let granted = store
                    .lease(&[lease(&window("w", 0), 3, 100)])
                    .await
                    .unwrap();
                got += granted.iter().map(|granted| granted.granted).sum::<i64>();
            }
            got
        })
    });
    let mut got = 0;
    for taker in takers.collect::<Vec<_>>() {
        got += taker.await.unwrap();
    }
    assert_eq!(got, 100);
}

/// Whatever is asked for, one by one and several at once: what is granted is what the formula says.
pub async fn formula(store: &dyn QuotaStore) {
    let amounts = [0, 1, -1, 3, 10, -7, 50, i64::MAX, -i64::MAX, -2];
    let caps = [10, 0, 100, i64::MAX, 5];
    let mut taken = [0, 0];
    for round in 0..60_usize {
        let several = 1 + round % 3;
        let wishes: Vec<_> = (0..several)
            .map(|n| {
                let which = (round + n) % 2;
                let name = if which == 0 { "a" } else { "b" };
                let (want, cap) = (amounts[(round * 7 + n) % 10], caps[(round + 3 * n) % 5]);
                (which, lease(&window(name, 0), want, cap))
            })
            .collect();
        let leases: Vec<_> = wishes.iter().map(|(_, lease)| lease.clone()).collect();
        let granted = store.lease(&leases).await.unwrap();
        for ((which, lease), granted) in wishes.iter().zip(granted) {
            let expected = Granted::of(taken[*which], lease.want, lease.cap);
            assert_eq!(granted, expected, "{lease:?}");
            taken[*which] = expected.taken;
        }
    }
}
