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
