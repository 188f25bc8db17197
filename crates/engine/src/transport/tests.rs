//! Connections against small upstreams: kept, shared, lost at every moment, through proxies.

mod capped;
mod upstream;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use http_body_util::BodyExt;
use polygate_core::{Failure, Kind};
use tokio::net::TcpStream;

use super::{AnswerBody, Counts, Keeping, Proxy, Reach, Transport, UpstreamBody};
use crate::tls::{Profiles, Trust};
use upstream::{
    Act, Identity, h2, http_proxy, https_proxy, listen, plain, read_head, secure, socks,
};

const LONG: Duration = Duration::from_secs(60);

fn reach(trust: Trust) -> Reach {
    Reach {
        proxy: None,
        tls: Profiles::default().get(trust, None).expect("a profile"),
        connect: Duration::from_secs(5),
        keeping: Keeping {
            idle: LONG,
            lifetime: LONG,
        },
        most: None,
    }
}

fn direct() -> Transport {
    Transport::new(reach(Trust::Anyone))
}

fn through(proxy: &str) -> Transport {
    Transport::new(Reach {
        proxy: Some(Proxy::parse(proxy).expect("a proxy")),
        ..reach(Trust::Anyone)
    })
}

fn get(uri: &str) -> Request<UpstreamBody> {
    let mut request = Request::new(UpstreamBody::Whole(None));
    *request.uri_mut() = uri.parse().expect("an address");
    request
}

async fn ask(transport: &Transport, uri: &str) -> Result<u16, Failure> {
    let answer = transport.send(get(uri)).await?;
    read(answer).await
}

async fn read(answer: Response<AnswerBody>) -> Result<u16, Failure> {
    let status = answer.status().as_u16();
    let whole = answer.into_body().collect().await;
    whole.map_err(|_| Failure::new(Kind::Broken, "its body broke"))?;
    Ok(status)
}

#[tokio::test]
async fn a_connection_is_used_again_and_counted() {
    let (place, seen) = plain(LONG, "").await;
    let transport = direct();
    for _ in 0..3 {
        assert_eq!(
            ask(&transport, &format!("http://{place}/a?b"))
                .await
                .unwrap(),
            200
        );
    }
    assert_eq!(seen.connections(), 1);
    let expected = Counts {
        open: 1,
        idle: 1,
        connects: 1,
        reuses: 2,
        ..Counts::default()
    };
    assert_eq!(transport.counts(), expected);
    let head = seen.heads().remove(0).to_ascii_lowercase();
    assert!(
        head.starts_with("get /a?b http/1.1\r\n") && head.contains(&format!("host: {place}\r\n")),
        "{head}"
    );
}

#[tokio::test]
async fn what_the_peer_says_of_its_patience_is_heeded() {
    let (place, seen) = plain(LONG, "keep-alive: max=5, timeout=0\r\n").await;
    let transport = direct();
    for _ in 0..3 {
        ask(&transport, &format!("http://{place}/")).await.unwrap();
    }
    assert_eq!(seen.connections(), 3);
}

#[tokio::test]
async fn an_old_connection_takes_no_more_requests() {
    let (place, seen) = plain(LONG, "").await;
    let mut reach = reach(Trust::Anyone);
    reach.keeping.lifetime = Duration::ZERO;
    let transport = Transport::new(reach);
    for _ in 0..2 {
        ask(&transport, &format!("http://{place}/")).await.unwrap();
    }
    assert_eq!(seen.connections(), 2);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let (place, _) = plain(LONG, "").await;
    let mut reach = reach(Trust::Anyone);
    reach.keeping.idle = Duration::from_millis(10);
    let transport = Transport::new(reach);
    ask(&transport, &format!("http://{place}/")).await.unwrap();
    let start = Instant::now();
    while transport.counts().open > 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "it stays open");
        tokio::task::yield_now().await;
    }
}

/// Ten thousand requests, each about when the upstream closes the connection it would use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn around_the_moment_of_the_upstreams_close_nothing_is_lost_or_sent_twice() {
    // Half of it is how late a busy machine may be.
    let idle = Duration::from_millis(200);
    let (place, seen) = plain(idle, "").await;
    let transport = Arc::new(direct());
    let workers = (0..500).map(|worker| {
        let (transport, place) = (transport.clone(), place.clone());
        tokio::spawn(async move {
            for number in 0..20 {
                ask(&transport, &format!("http://{place}/{worker}-{number}")).await?;
                let pause = idle.mul_f64(rand::random_range(0.0..1.5));
                tokio::time::sleep(pause).await;
            }
            Ok::<(), Failure>(())
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap().unwrap();
    }
    let counts = seen.counts();
    assert_eq!(counts.len(), 10_000);
    assert!(counts.values().all(|count| *count == 1), "sent twice");
    assert!(transport.counts().reuses > 1000, "{transport:?}");
}

#[tokio::test]
async fn a_connection_that_was_closed_before_is_not_used() {
    let (place, seen) = listen(|mut stream, _, seen| async move {
        seen.note(read_head(&mut stream).await?);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        tokio::io::AsyncWriteExt::write_all(&mut stream, answer)
            .await
            .ok()
    })
    .await;
    let transport = direct();
    for _ in 0..100 {
        assert_eq!(
            ask(&transport, &format!("http://{place}/")).await.unwrap(),
            200
        );
    }
    assert_eq!(seen.heads().len(), 100);
}

#[tokio::test]
async fn what_may_have_been_processed_is_not_sent_again() {
    let (place, seen) = listen(|mut stream, _, seen| async move {
        seen.note(read_head(&mut stream).await?);
        None
    })
    .await;
    let failure = ask(&direct(), &format!("http://{place}/"))
        .await
        .unwrap_err();
    assert_eq!((failure.kind, failure.ambiguous), (Kind::Broken, true));
    assert_eq!(seen.heads().len(), 1);
}

#[tokio::test]
async fn a_call_that_is_dropped_ends_at_once() {
    let (place, seen) = listen(|mut stream, _, seen| async move {
        seen.note(read_head(&mut stream).await?);
        let _ = read_head(&mut stream).await;
        seen.note("gone");
        None
    })
    .await;
    let transport = direct();
    let uri = format!("http://{place}/");
    tokio::select! {
        _ = ask(&transport, &uri) => unreachable!("it never answers"),
        () = seen.until(|seen| seen.heads().len() == 1) => {}
    }
    let start = Instant::now();
    seen.until(|seen| seen.heads().len() == 2).await;
    assert!(
        start.elapsed() < Duration::from_millis(250),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn heads_have_bounds() {
    let long: &str = Box::leak(format!("x: {}\r\n", "a".repeat(70_000)).into_boxed_str());
    let many: &str = Box::leak("x: a\r\n".repeat(200).into_boxed_str());
    for headers in [long, many] {
        let (place, _) = plain(LONG, headers).await;
        let failure = ask(&direct(), &format!("http://{place}/"))
            .await
            .unwrap_err();
        assert_eq!(failure.kind, Kind::Broken);
    }
}

#[tokio::test]
async fn who_cannot_be_reached_is_told_so_in_time() {
    let nobody = TcpStream::connect("127.0.0.1:1").await;
    assert!(nobody.is_err(), "port 1 is free");
    // Accepts, and never says a word of TLS.
    let (silent, _) = listen(|stream, _, _| async move {
        let _held = stream;
        std::future::pending().await
    })
    .await;
    let mut reach = reach(Trust::Anyone);
    reach.connect = Duration::from_millis(100);
    let transport = Transport::new(reach);
    for (uri, cause) in [
        ("http://127.0.0.1:1/".to_owned(), "connection refused"),
        ("http://nowhere.invalid/".to_owned(), "resolve"),
        (format!("https://{silent}/"), "timed out"),
    ] {
        let failure = ask(&transport, &uri).await.unwrap_err();
        assert_eq!((failure.kind, failure.ambiguous), (Kind::Connect, false));
        let text = failure.to_string();
        // Without a resolver at hand the question itself may take too long.
        assert!(text.contains(cause) || cause == "resolve", "{text}");
    }
}

#[tokio::test]
async fn only_those_who_are_trusted_are_believed() {
    let identity = Identity::new("http/1.1");
    let own = Trust::Authorities(vec![identity.certificate.clone()]);
    let (place, _) = secure(identity).await;
    let uri = format!("https://{place}/");
    for (trust, is_believed) in [
        (own, true),
        (Trust::Anyone, true),
        (Trust::Authorities(vec![]), false),
    ] {
        let told = format!("{trust:?}");
        let result = ask(&Transport::new(reach(trust)), &uri).await;
        assert_eq!(result.is_ok(), is_believed, "{told}");
        if let Err(failure) = result {
            assert!(
                failure.to_string().contains("TLS handshake failed"),
                "{failure}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_connection_makes_nobody_wait() {
    let (place, seen) = h2(Identity::new("h2"), 1, |_| Act::AnswerAllAt(50)).await;
    let transport = Arc::new(direct());
    let calls = (0..50).map(|_| {
        let (transport, uri) = (transport.clone(), format!("https://{place}/"));
        tokio::spawn(async move { ask(&transport, &uri).await })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap().unwrap(), 200);
    }
    assert_eq!(seen.connections(), 50);
    assert_eq!(transport.counts().idle, 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_with_room_is_shared() {
    let (place, seen) = h2(Identity::new("h2"), 100, |_| Act::Answer).await;
    let transport = Arc::new(direct());
    let calls = (0..50).map(|_| {
        let (transport, uri) = (transport.clone(), format!("https://{place}/"));
        tokio::spawn(async move { ask(&transport, &uri).await })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap().unwrap(), 200);
    }
    assert_eq!(seen.connections(), 1);
}

#[tokio::test]
async fn what_an_http2_peer_did_not_process_goes_again() {
    let acts: [fn(usize) -> Act; 2] = [
        |number| [Act::Refuse, Act::Answer][number.min(1)],
        |number| [Act::GoAway(0), Act::Answer][number.min(1)],
    ];
    for act in acts {
        let (place, seen) = h2(Identity::new("h2"), 100, act).await;
        assert_eq!(
            ask(&direct(), &format!("https://{place}/")).await.unwrap(),
            200
        );
        assert_eq!(seen.heads(), ["stream", "stream"]);
    }
}

#[tokio::test]
async fn what_an_http2_peer_may_have_processed_does_not() {
    let (place, seen) = h2(Identity::new("h2"), 100, |_| Act::GoAway(1)).await;
    let failure = ask(&direct(), &format!("https://{place}/"))
        .await
        .unwrap_err();
    assert_eq!((failure.kind, failure.ambiguous), (Kind::Broken, true));
    assert_eq!(seen.heads(), ["stream"]);
}

#[tokio::test]
async fn a_peer_that_refuses_everything_is_given_up() {
    let (place, seen) = h2(Identity::new("h2"), 100, |_| Act::Refuse).await;
    let failure = ask(&direct(), &format!("https://{place}/"))
        .await
        .unwrap_err();
    assert_eq!((failure.kind, failure.ambiguous), (Kind::Connect, false));
    assert_eq!(seen.heads().len(), super::RESENDS);
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_reset_and_its_connection_goes_on() {
    let (place, seen) = h2(Identity::new("h2"), 100, |_| Act::Nothing).await;
    let (transport, uri) = (direct(), format!("https://{place}/"));
    tokio::select! {
        _ = ask(&transport, &uri) => unreachable!("it never answers"),
        () = seen.until(|seen| seen.heads().len() == 1) => {}
    }
    let start = Instant::now();
    seen.until(|seen| seen.heads().len() == 2).await;
    assert!(
        start.elapsed() < Duration::from_millis(250),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(seen.heads(), ["stream", "reset"]);
    assert_eq!((transport.counts().open, transport.counts().idle), (1, 1));
}

#[tokio::test]
async fn a_forwarding_proxy_is_told_the_whole_address() {
    let (place, seen) = http_proxy().await;
    let transport = through(&format!("http://user:pass@{place}"));
    assert_eq!(
        ask(&transport, "http://nowhere.invalid/a?b").await.unwrap(),
        200
    );
    let head = seen.heads().remove(0).to_ascii_lowercase();
    assert!(
        head.starts_with("get http://nowhere.invalid/a?b http/1.1\r\n"),
        "{head}"
    );
    assert!(head.contains("host: nowhere.invalid\r\n"), "{head}");
    assert!(
        head.contains("proxy-authorization: basic dxnlcjpwyxnz\r\n"),
        "{head}"
    );
}

#[tokio::test]
async fn tls_goes_through_a_tunnel() {
    let identity = Identity::new("h2");
    let trust = Trust::Authorities(vec![identity.certificate.clone()]);
    let (place, upstream) = h2(identity, 100, |_| Act::Answer).await;
    let (proxy, seen) = http_proxy().await;
    let transport = Transport::new(Reach {
        proxy: Some(Proxy::parse(&format!("http://user:pass@{proxy}")).unwrap()),
        ..reach(trust)
    });
    for _ in 0..2 {
        assert_eq!(
            ask(&transport, &format!("https://{place}/")).await.unwrap(),
            200
        );
    }
    assert_eq!((seen.connections(), upstream.connections()), (1, 1));
    let head = seen.heads().remove(0);
    assert!(
        head.starts_with(&format!("CONNECT {place} HTTP/1.1\r\n")),
        "{head}"
    );
    assert!(
        head.to_ascii_lowercase()
            .contains("proxy-authorization: basic dxnlcjpwyxnz"),
        "{head}"
    );
    let told = format!("{transport:?} {:?}", transport.reach());
    assert!(!told.contains("pass"), "{told}");
}

#[tokio::test]
async fn names_are_resolved_by_a_socks_proxy_that_is_asked_to() {
    let (place, _) = plain(LONG, "").await;
    let (proxy, seen) = socks(place).await;
    let transport = through(&format!("socks5h://user:pass@{proxy}"));
    assert_eq!(
        ask(&transport, "http://nowhere.invalid/").await.unwrap(),
        200
    );
    assert_eq!(seen.heads(), ["user pass nowhere.invalid 80"]);
    let transport = through(&format!("socks5://user:pass@{proxy}"));
    assert_eq!(ask(&transport, "http://localhost:81/").await.unwrap(), 200);
    let asked = seen.heads().remove(1);
    assert!(
        !asked.contains("localhost") && asked.ends_with(" 81"),
        "{asked}"
    );
}

#[tokio::test]
async fn a_proxy_may_itself_want_tls() {
    let (upstream, proxy) = (Identity::new("h2"), Identity::new("http/1.1"));
    let both = vec![upstream.certificate.clone(), proxy.certificate.clone()];
    let only_upstream = vec![upstream.certificate.clone()];
    let (place, served) = h2(upstream, 100, |_| Act::Answer).await;
    let (proxy, seen) = https_proxy(proxy).await;
    let through = |trust: Vec<_>| {
        Transport::new(Reach {
            proxy: Some(Proxy::parse(&format!("https://user:pass@{proxy}")).unwrap()),
            ..reach(Trust::Authorities(trust))
        })
    };
    let transport = through(both);
    for _ in 0..2 {
        assert_eq!(
            ask(&transport, &format!("https://{place}/")).await.unwrap(),
            200
        );
    }
    assert_eq!(
        ask(&transport, "http://nowhere.invalid/a").await.unwrap(),
        200
    );
    assert_eq!(served.connections(), 1);
    let heads = seen.heads();
    for (head, line) in heads.iter().zip([
        format!("CONNECT {place} HTTP/1.1\r\n"),
        "GET http://nowhere.invalid/a HTTP/1.1\r\n".to_owned(),
    ]) {
        assert!(head.starts_with(&line), "{head}");
        let head = head.to_ascii_lowercase();
        assert!(
            head.contains("proxy-authorization: basic dxnlcjpwyxnz\r\n"),
            "{head}"
        );
    }
    assert_eq!(heads.len(), 2);
    let failure = ask(&through(only_upstream), &format!("https://{place}/"))
        .await
        .unwrap_err();
    let text = failure.to_string();
    assert_eq!(failure.kind, Kind::Connect, "{text}");
    assert!(!text.contains("pass") && !text.contains(&proxy), "{text}");
    assert_eq!(seen.heads().len(), 2, "it is told nothing");
}

#[test]
fn only_ways_that_are_alike_in_all_share_connections() {
    let own = Trust::Authorities(vec![Identity::new("h2").certificate]);
    let (system, mut before, mut now) = (
        Trust::Authorities(vec![]),
        Profiles::default(),
        Profiles::default(),
    );
    let first = Reach {
        tls: before.get(system.clone(), None).expect("a profile"),
        ..reach(Trust::Anyone)
    };
    let mut tls = |trust| now.get(trust, Some(&before)).expect("a profile");
    let with = |change: &dyn Fn(&mut Reach)| {
        let mut reach = first.clone();
        change(&mut reach);
        reach
    };
    let same = tls(system);
    assert_eq!(with(&|reach| reach.tls = same.clone()), first);
    let (own, anyone) = (tls(own), tls(Trust::Anyone));
    let proxy = |text: &str| Some(Proxy::parse(text).expect("a proxy"));
    let changes: [&dyn Fn(&mut Reach); 6] = [
        &|reach| reach.tls = own.clone(),
        &|reach| reach.tls = anyone.clone(),
        &|reach| reach.proxy = proxy("http://a:b@p"),
        &|reach| reach.connect = LONG,
        &|reach| reach.keeping.idle = Duration::ZERO,
        &|reach| reach.most = Some(1),
    ];
    for change in changes {
        assert_ne!(with(change), first);
    }
    assert_ne!(
        with(&|reach| reach.proxy = proxy("http://a:b@p")),
        with(&|reach| reach.proxy = proxy("http://a:c@p")),
        "the same proxy, another password"
    );
}
