//! Joins the parts: configuration, engine, probes, reload, server, and their end.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use polygate_core::{Clock, Secret, SystemClock};
use polygate_engine::Engine;
use polygate_engine::admit::SharedKeys;
use polygate_engine::config::{self, Config, Credential, Provider, Tls};
use polygate_engine::observe::{Build, Metrics, Recorders};
use polygate_engine::probe;
use polygate_engine::quota::Book;
use polygate_mock_provider::{Behaviour, Mock, Options, Rule};
use polygate_server::tls::Certificates;
use polygate_server::{Admin, Life, Server, State, Stop};
use polygate_store_redis::RedisStore;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::cache::SharedCache;
use crate::cli;
use crate::config::database::Database;
use crate::config::documents::Base;
use crate::config::{Dialect, Flags, Loaded};
use crate::follow::Follower;
use crate::kept;
use crate::last_good::LastGood;
use crate::ledger;
use crate::listen::Given;
use crate::live::Live;
use crate::price_list::Prices;
use crate::quotas::{self, Keeper};
use crate::reload::{Merge, Reloader, Renewal};
use crate::retention;
use crate::signals::Sharing;
use crate::storage::{Opened, is_unwritable};
use crate::systemd::Notifier;
use crate::telling::Telling;
use crate::upgrade::{Program, Upgrader};

/// The delay between two words of the demo, so that a stream looks like one.
const DEMO_TOKEN_MS: u64 = 15;

/// How long the end waits for what is taken of limits to be kept.
const KEEPING: Duration = Duration::from_secs(2);

/// How long the end waits for answers that other replicas may be asked for.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// How the process was started.
pub struct Start {
    /// What the command line said.
    pub flags: Flags,
    /// Where.
    pub directory: PathBuf,
    /// The sockets that were there before.
    pub given: Given,
    /// Who wants to know how it goes.
    pub notifier: Notifier,
    /// How many connections, and how many calls, there is room for.
    pub bearable: usize,
}

/// Serves until told to stop.
pub async fn serve(mut loaded: Loaded, mut start: Start) -> anyhow::Result<()> {
    for warning in &loaded.warnings {
        tracing::warn!(%warning, "configuration");
    }
    let opened = Arc::new(Opened::open(&loaded.storage).await?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let redis = loaded.storage.redis.as_ref();
    let redis = redis.or(loaded.config.redis_url.as_ref());
    let redis = redis.map(RedisStore::new).transpose()?.map(Arc::new);
    let limits = quotas::Place::of(&opened, redis.as_ref());
    let (book, calls) = Book::new(limits.keeping);
    let book = Arc::new(book);
    let keys = Arc::new(SharedKeys::new(book.clone()));
    let last_good = LastGood::new(&loaded.storage.data_dir, opened.sealer.check());
    let base = Base::of(&loaded, demo(&loaded).await?);
    let follower = Follower::start(opened.clone(), last_good, keys.clone(), &base).await?;
    let data_dir = &loaded.storage.data_dir;
    let prices = Prices::new(data_dir, loaded.config.price_list.as_ref());
    let documents = follower.documents();
    let mut merge = Merge::new(base, documents, prices.listed(), opened.sealer.clone());
    let (config, in_force) = merge.merged();
    merge.told.send_replace(in_force);
    loaded.config = config;
    let is_demo = loaded
        .config
        .providers
        .iter()
        .any(|one| merge.base.is_demo(one));
    let server = loaded.config.server.clone();
    let model = example_model(&loaded.config, is_demo);
    let metrics = Arc::new(Metrics::of(cli::BUILD));
    let (recorders, mut pump, flush) = Recorders::recounting(metrics.clone());
    let telling = Telling::start(&loaded.config, &metrics, &mut pump)?;
    let engine = Engine::new(loaded.config, clock.clone(), metrics, recorders)
        .map_err(|problems| anyhow::anyhow!(problems.join("\n")))?;
    let ledger = ledger::open(
        &opened,
        &loaded.storage.data_dir,
        &engine.snapshot().config,
        start.bearable,
    )?;
    let mut engine = engine.sharing(opened.sealer.pepper(), keys.clone());
    if let Some(ledger) = &ledger {
        engine = engine.recording(ledger.clone());
    }
    let words = Sharing::place(&opened, redis.as_ref());
    let kept = words.as_ref().filter(|_| opened.is_shared).map(|words| {
        let (answers, writer) = kept::shared(&opened.store, words, &opened.sealer);
        (answers, tokio::spawn(writer.run()))
    });
    if let Some((answers, _)) = &kept {
        engine = engine.keeping(answers.clone());
    }
    if let Some(redis) = &redis {
        engine.answers().share(SharedCache::start(redis));
    }
    let engine = Arc::new(engine);
    let sharing = words.map(|store| Sharing::start(&engine, &store));
    let pump = tokio::spawn(pump.run());
    let keeper = Keeper::start(quotas::Parts {
        book,
        store: limits.store,
        clock,
        calls,
    })
    .await;
    let certificates = certificates(&server)?;
    let sockets = start
        .given
        .listeners(SocketAddr::new(server.host, server.port))?;
    let address = match sockets.first() {
        Some(socket) => socket.local_addr()?,
        None => SocketAddr::new(server.host, server.port),
    };
    let listeners = listeners(&sockets)?;
    let admin_key = match loaded.admin_key {
        Some(key) => key,
        None => match admin_key(&loaded.storage.data_dir) {
            Err(error) if is_unwritable(&error) => {
                tracing::warn!(error = %format!("{error:#}"), "no admin key can be kept here, so nobody has one: set ADMIN_KEY");
                Secret::new(new_admin_key())
            }
            made => made?,
        },
    };
    // Taken before anyone knows that the gateway runs: untaken, they end the process.
    let hangup = signal(SignalKind::hangup())?;
    let (tell, stop) = watch::channel(None);
    let tell = Arc::new(tell);
    let notifier = Arc::new(start.notifier);
    stop_signals(&engine, &tell, &notifier)?;
    let upgrader = Upgrader {
        asked: signal(SignalKind::user_defined2())?,
        listeners: sockets,
        program: Program::own(&start.directory),
        engine: engine.clone(),
        stop: tell,
    };
    let upgrader = tokio::spawn(upgrader.run());
    let scheme = if certificates.is_some() {
        "https"
    } else {
        "http"
    };
    let probes = tokio::spawn(probe::run(engine.clone()));
    let prices = tokio::spawn(prices.run(engine.clone(), merge.told.subscribe()));
    let acceptor = certificates.as_ref().map(|(_, tls)| tls.acceptor());
    let acceptor = acceptor.transpose()?;
    let (reload, asked) = mpsc::channel(1);
    let live = Live {
        engine: engine.clone(),
        documents: follower.documents(),
        followed: follower.followed(),
        keys: follower.book(),
        in_force: merge.told.subscribe(),
        sealer: opened.sealer.clone(),
        reload,
    };
    let reloader = Reloader {
        engine: engine.clone(),
        flags: start.flags,
        directory: start.directory,
        path: loaded.path,
        hangup,
        text: loaded.text,
        refused: None,
        pair: certificates.map(|(files, certificates)| Renewal::new(files, certificates)),
        notifier: notifier.clone(),
        merge,
        asked,
        book: follower.book(),
        keys,
    };
    let follower = tokio::spawn(follower.run());
    let reloader = tokio::spawn(reloader.run());
    let forgetter = tokio::spawn(retention::forget(opened.clone(), engine.clone()));
    announce(
        Listening {
            address,
            scheme,
            dialect: loaded.dialect,
            is_demo,
            model: &model,
        },
        &engine,
    );
    let state = State {
        engine: engine.clone(),
        flush: flush.clone(),
        admin_key,
        admin: Arc::new(Admin::new(
            opened.store.clone(),
            opened.sealer.clone(),
            Arc::new(live),
        )),
        life: Life::new(),
        calls: Arc::default(),
        bearable: start.bearable,
    };
    // What connects from here on waits in the sockets' queues, if only for a moment.
    start.given.say_ready();
    notifier.ready();
    let cut = Server::new(listeners, acceptor, state).run(stop).await;
    if cut > 0 {
        tracing::warn!(cut, "the grace period is over: what was still open is cut");
    }
    upgrader.abort();
    probes.abort();
    prices.abort();
    reloader.abort();
    follower.abort();
    forgetter.abort();
    drop(sharing);
    engine.end_shadows().await;
    flush.end().await;
    keeper.stop(KEEPING).await;
    if let Some((answers, writer)) = kept {
        answers.flush(LAST_ANSWERS).await;
        writer.abort();
    }
    pump.abort();
    let _ = pump.await;
    telling.end().await;
    if let Some(ledger) = ledger {
        ledger::end(ledger, engine.snapshot().config.server.shutdown_grace).await;
    }
    Ok(())
}

/// The pair of certificate and key, with its files.
fn certificates(server: &config::Server) -> anyhow::Result<Option<(Tls, Certificates)>> {
    let Some(files) = &server.tls else {
        return Ok(None);
    };
    let certificates = Certificates::read(&files.cert, &files.key)?;
    if let Some(complaint) = certificates.complaint() {
        tracing::error!(%complaint, cert = %files.cert.display(), "served all the same; clients may refuse it");
    }
    Ok(Some((files.clone(), certificates)))
}

/// Copies that the runtime watches; the originals are for whoever takes over.
fn listeners(sockets: &[std::net::TcpListener]) -> std::io::Result<Vec<TcpListener>> {
    sockets
        .iter()
        .map(|socket| TcpListener::from_std(socket.try_clone()?))
        .collect()
}

/// Runs the simulated provider alone.
pub async fn mock(args: cli::Mock) -> anyhow::Result<()> {
    let options = Options {
        addr: Some(SocketAddr::new(args.host, args.port)),
        name: Some(args.name),
        models: args.models,
        api_key: args.api_key,
        idle: args.idle_ms.map(std::time::Duration::from_millis),
        keep_bodies: args.keep_bodies,
    };
    let mock = Mock::start(options)
        .await
        .with_context(|| format!("cannot listen on {}:{}", args.host, args.port))?;
    if args.latency_ms > 0 || args.token_ms > 0 {
        let then = Behaviour {
            latency_ms: args.latency_ms,
            token_ms: args.token_ms,
            ..Behaviour::default()
        };
        mock.script(Rule {
            then,
            ..Rule::default()
        });
    }
    say(&format!(
        "simulated provider on {} (rules: POST /_mock/script, ledger: GET /_mock/ledger)",
        mock.url()
    ));
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        () = mock.serve() => {}
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
}

/// With nothing configured, a simulated provider inside, so that the very first request is answered.
async fn demo(loaded: &Loaded) -> anyhow::Result<Option<Provider>> {
    // Who names a database fills it.
    let may_start = matches!(
        loaded.storage.database,
        Database::Memory
            | Database::File {
                is_default: true,
                ..
            }
    );
    if loaded.dialect != Dialect::Zero || !loaded.config.providers.is_empty() || !may_start {
        return Ok(None);
    }
    let mock = Mock::start(Options {
        name: Some("polygate-demo".to_owned()),
        ..Options::default()
    })
    .await?;
    mock.script(Rule {
        then: Behaviour {
            token_ms: DEMO_TOKEN_MS,
            ..Behaviour::default()
        },
        ..Rule::default()
    });
    let mut provider = Provider::new("demo", "mock");
    provider.api_base = Some(mock.url());
    let key = Credential::new("demo", Secret::new(""));
    provider.credentials.push(key);
    tokio::spawn(mock.serve());
    Ok(Some(provider))
}

/// A model's name for the `curl` line.
fn example_model(config: &Config, is_demo: bool) -> String {
    if is_demo {
        return "demo".to_owned();
    }
    let mapped = config
        .providers
        .iter()
        .filter(|provider| !provider.disabled)
        .find_map(|provider| {
            let mapping = provider
                .models
                .iter()
                .find(|mapping| mapping.pattern.is_exact())?;
            Some(format!(
                "{}{}",
                provider.prefix.as_deref().unwrap_or_default(),
                mapping.pattern.source()
            ))
        });
    let named = config.models.first().map(|model| model.name.clone());
    let vendors = || {
        const EXAMPLES: [(&str, &str); 5] = [
            ("openai", "gpt-4o-mini"),
            ("anthropic", "claude-sonnet-4-5"),
            ("gemini", "gemini-2.5-flash"),
            ("deepseek", "deepseek-chat"),
            ("openrouter", "openai/gpt-4o-mini"),
        ];
        let kinds: Vec<&str> = config
            .providers
            .iter()
            .map(|provider| provider.kind.as_str())
            .collect();
        EXAMPLES
            .iter()
            .find(|(kind, _)| kinds.contains(kind))
            .map(|(_, model)| (*model).to_owned())
    };
    named
        .or(mapped)
        .or_else(vendors)
        .unwrap_or_else(|| "MODEL".to_owned())
}

/// What there is to say of a gateway that listens.
struct Listening<'a> {
    address: SocketAddr,
    scheme: &'static str,
    dialect: Dialect,
    is_demo: bool,
    model: &'a str,
}

fn announce(listening: Listening<'_>, engine: &Engine) {
    let Listening {
        address,
        scheme,
        dialect,
        is_demo,
        model,
    } = listening;
    let shown = if address.ip().is_unspecified() {
        SocketAddr::from(([127, 0, 0, 1], address.port()))
    } else {
        address
    };
    let snapshot = engine.snapshot();
    let providers: Vec<&str> = snapshot
        .upstreams
        .iter()
        .map(|upstream| &*upstream.name)
        .collect();
    let Build { version, commit } = engine.metrics().build();
    tracing::info!(%address, version, commit, configuration = dialect.name(), providers = providers.join(","), "listening");
    if providers.is_empty() {
        tracing::warn!("no provider is configured: every call will be refused");
    }
    let needs_key = engine.keys().needs_key();
    if !needs_key {
        tracing::warn!(
            "no keys are configured: callers on loopback and private addresses need none"
        );
    }
    let key = if needs_key {
        " -H 'Authorization: Bearer YOUR_KEY'"
    } else {
        ""
    };
    let note = if is_demo {
        " (no provider keys found: a simulated provider answers)"
    } else {
        ""
    };
    say(&format!(
        "Polygate listens on {scheme}://{shown}{note}. Try:\n\n  curl {scheme}://{shown}/v1/chat/completions{key} -H 'Content-Type: application/json' -d '{{\"model\": \"{model}\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'\n"
    ));
}

/// For the person at the terminal; logs go to standard error.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody reading is no reason to stop.
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

/// The admin key of the data directory, made at first start.
fn admin_key(data_dir: &Path) -> anyhow::Result<Secret> {
    let path = data_dir.join("admin-key");
    if let Ok(key) = std::fs::read_to_string(&path) {
        anyhow::ensure!(
            key.trim().len() >= 16,
            "{} holds no usable key: remove it to have one made",
            path.display()
        );
        return Ok(Secret::new(key.trim()));
    }
    std::fs::create_dir_all(data_dir)
        .with_context(|| format!("cannot make {}", data_dir.display()))?;
    let key = new_admin_key();
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot make {}", path.display()))?;
    file.write_all(key.as_bytes())?;
    tracing::info!(path = %path.display(), "an admin key was made");
    Ok(Secret::new(key))
}

fn new_admin_key() -> String {
    let random: [u8; 24] = rand::random();
    let start = String::from("pg-admin-");
    random
        .iter()
        .fold(start, |key, byte| format!("{key}{byte:02x}"))
}

/// SIGTERM and SIGINT stop; the second ends what is in flight, the third ends everything at once.
fn stop_signals(
    engine: &Arc<Engine>,
    tell: &Arc<watch::Sender<Option<Stop>>>,
    notifier: &Arc<Notifier>,
) -> anyhow::Result<()> {
    let (engine, tell, notifier) = (engine.clone(), tell.clone(), notifier.clone());
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        next().await;
        notifier.stopping();
        let stop = {
            let server = &engine.snapshot().config.server;
            Stop {
                delay: server.shutdown_delay,
                grace: server.shutdown_grace,
            }
        };
        tracing::info!(
            grace_seconds = stop.grace.as_secs(),
            "stopping: what is in flight may finish"
        );
        tell.send_replace(Some(stop));
        next().await;
        tracing::warn!("stopping now: what is in flight ends");
        tell.send_replace(Some(Stop {
            delay: Duration::ZERO,
            grace: Duration::ZERO,
        }));
        next().await;
        std::process::exit(1);
    });
    Ok(())
}
