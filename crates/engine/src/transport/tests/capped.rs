//! No more connections than there may be, and who waits for one.

use super::*;

/// At most so many connections; who waits for one gives up after so long.
fn capped(most: usize, connect: Duration) -> Arc<Transport> {
    let reach = reach(Trust::Anyone);
    Arc::new(Transport::new(Reach {
        connect,
        most: Some(most),
        ..reach
    }))
}

fn spawn(transport: &Arc<Transport>, uri: &str) -> tokio::task::JoinHandle<Result<u16, Failure>> {
    let (transport, uri) = (transport.clone(), uri.to_owned());
    tokio::spawn(async move { ask(&transport, &uri).await })
}

async fn waiting(transport: &Transport, count: i64) {
    let start = Instant::now();
    while transport.counts().waiting != count {
        assert!(start.elapsed() < LONG, "{transport:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_connections_are_opened_than_there_may_be() {
    for (most, protocol) in [(1, "http/1.1"), (3, "http/1.1"), (2, "h2")] {
        let identity = Identity::new(protocol);
        let (place, seen) = match protocol {
            "h2" => h2(identity, 5, |_| Act::Answer).await,
            _ => secure(identity).await,
        };
        let (transport, uri) = (capped(most, LONG), format!("https://{place}/"));
        let calls: Vec<_> = (0..200).map(|_| spawn(&transport, &uri)).collect();
        for call in calls {
            assert_eq!(call.await.unwrap().unwrap(), 200);
        }
        assert!(seen.connections() <= most, "{protocol}: {transport:?}");
        let counts = transport.counts();
        assert_eq!((counts.waiting, counts.refused), (0, 0), "{protocol}");
    }
}

#[tokio::test]
async fn who_finds_no_connection_free_is_told_so_and_others_are_not_slowed() {
    let (silent, seen) = listen(|mut stream, _, seen| async move {
        seen.note(read_head(&mut stream).await?);
        std::future::pending().await
    })
    .await;
    let (place, _) = plain(LONG, "").await;
    let full = capped(1, Duration::from_millis(200));
    let held = spawn(&full, &format!("http://{silent}/"));
    seen.until(|seen| seen.heads().len() == 1).await;
    let second = spawn(&full, &format!("http://{silent}/"));
    waiting(&full, 1).await;
    let (other, uri) = (capped(1, LONG), format!("http://{place}/"));
    assert_eq!(ask(&other, &uri).await.unwrap(), 200);
    let failure = second.await.unwrap().unwrap_err();
    assert_eq!(
        (failure.kind, failure.status, failure.ambiguous),
        (Kind::Full, 503, false)
    );
    assert!(failure.try_next());
    assert_eq!(full.counts().refused, 1);
    assert_eq!(seen.connections(), 1);
    held.abort();
}

#[tokio::test]
async fn those_who_wait_go_in_order_and_who_leaves_the_line_takes_nothing() {
    let (place, seen) = listen(|mut stream, _, seen| async move {
        loop {
            let head = read_head(&mut stream).await?;
            let is_held = head.starts_with("GET /held");
            seen.note(head);
            if is_held {
                seen.until(|seen| seen.heads().len() == 2).await;
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer)
                .await
                .ok()?;
        }
    })
    .await;
    let transport = capped(1, LONG);
    let uri = |path: &str| format!("http://{place}/{path}");
    let held = spawn(&transport, &uri("held"));
    seen.until(|seen| seen.heads().len() == 1).await;
    let mut line = Vec::new();
    for path in ["gone", "one", "two", "lost", "three"] {
        line.push(spawn(&transport, &uri(path)));
        waiting(&transport, line.len() as i64).await;
    }
    // The first in line, and one behind it.
    line.remove(3).abort();
    line.remove(0).abort();
    waiting(&transport, 3).await;
    seen.note("go on");
    assert_eq!(held.await.unwrap().unwrap(), 200);
    for call in line {
        assert_eq!(call.await.unwrap().unwrap(), 200);
    }
    let heads = seen.heads();
    let asked = heads.iter().filter_map(|head| head.split(' ').nth(1));
    let asked: Vec<_> = asked.collect();
    assert_eq!(asked, ["/held", "on", "/one", "/two", "/three"]);
    assert_eq!(seen.connections(), 1);
}

#[tokio::test]
async fn a_place_comes_back_when_its_call_is_dropped_or_its_connection_fails() {
    let (silent, seen) = listen(|mut stream, number, seen| async move {
        seen.note(read_head(&mut stream).await?);
        if number % 2 == 0 {
            std::future::pending::<()>().await;
        }
        None
    })
    .await;
    let (transport, uri) = (capped(1, LONG), format!("http://{silent}/"));
    for round in 0..3 {
        let held = spawn(&transport, &uri);
        seen.until(|seen| seen.heads().len() == 2 * round + 1).await;
        held.abort();
        let cut = ask(&transport, &uri).await.unwrap_err();
        assert_eq!(cut.kind, Kind::Broken);
        assert_eq!(
            ask(&transport, "http://127.0.0.1:1/")
                .await
                .unwrap_err()
                .kind,
            Kind::Connect
        );
    }
}
