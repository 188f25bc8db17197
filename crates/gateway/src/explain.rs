//! `polygate explain`: why a call would go where it goes, of the gateway that runs or of a configuration alone; and why one went where
//! it went.

mod text;

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt, Limited};
use polygate_core::{Secret, SystemClock};
use polygate_engine::Engine;
use polygate_engine::observe::{Metrics, Recorders};
use polygate_engine::transport::UpstreamBody;
use polygate_server::admin::supposed;
use polygate_wire::RawObject;
use polygate_wire::raw::{Edit, quote};
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::cli::Explain;
use crate::config::Loaded;
use crate::health;

/// How long a gateway may take to answer, and how much.
const PATIENCE: Duration = Duration::from_secs(10);
const LONGEST: usize = 16 << 20;

/// Explains by a configuration, without a gateway: nothing rests there, and nobody has called.
pub async fn offline(args: &Explain, loaded: Loaded) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::new());
    let (recorders, _, _) = Recorders::new(metrics.clone());
    let clock = Arc::new(SystemClock::default());
    let engine = Engine::new(loaded.config, clock, metrics, recorders);
    let engine = engine.map_err(|problems| anyhow::anyhow!(problems.join("\n")))?;
    let explained = supposed(&engine, call(args)?).await;
    let explanation = explained.map_err(|problem| anyhow::anyhow!("{problem}"))?;
    print(args, &serde_json::to_value(explanation)?)
}

/// Asks a gateway, as who has this key.
pub async fn online(args: &Explain, url: &Uri, key: &Secret) -> anyhow::Result<()> {
    let (method, path, body) = match &args.id {
        Some(id) => (
            Method::GET,
            format!("/admin/v1/explain/{}", encoded(id)),
            Bytes::new(),
        ),
        None => {
            let body = call(args)?;
            (Method::POST, "/admin/v1/explain".to_owned(), body)
        }
    };
    let request = Request::builder()
        .method(method)
        .uri(health::below(url, &path).map_err(anyhow::Error::msg)?)
        .header(header::AUTHORIZATION, format!("Bearer {}", key.reveal()))
        .header(header::CONTENT_TYPE, "application/json")
        .body(UpstreamBody::from(body))
        .context("the key is nothing that a header can carry")?;
    let asked = tokio::time::timeout(PATIENCE, answer(url, request)).await;
    let answer = asked.with_context(|| format!("{url} does not answer"))??;
    print(args, &answer)
}

async fn answer(url: &Uri, request: Request<UpstreamBody>) -> anyhow::Result<Value> {
    let transport = health::transport(url).map_err(anyhow::Error::msg)?;
    let sent = transport.send(request).await;
    let (head, body) = sent
        .map_err(|failure| anyhow::anyhow!("{url} cannot be asked: {}", failure.message))?
        .into_parts();
    let body = Limited::new(body, LONGEST).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?;
    let value: Value = serde_json::from_slice(&body.to_bytes())
        .with_context(|| format!("{url} is no gateway of this kind: the answer is no JSON"))?;
    if !head.status.is_success() {
        let message = value["error"]["message"].as_str().unwrap_or_default();
        bail!("{}: {message}", head.status);
    }
    Ok(value)
}

/// The admin key that the gateway here has: of the variable, or of the data directory. None is made.
pub fn admin_key(loaded: &Loaded) -> anyhow::Result<Secret> {
    if let Some(key) = &loaded.admin_key {
        return Ok(key.clone());
    }
    let path = loaded.storage.data_dir.join("admin-key");
    let key = std::fs::read_to_string(&path)
        .with_context(|| format!("ADMIN_KEY is not set, and there is no {}", path.display()))?;
    Ok(Secret::new(key.trim()))
}

/// The call that is described; its body as it is in the file, byte by byte.
fn call(args: &Explain) -> anyhow::Result<Bytes> {
    let body = match &args.body {
        Some(path) => read(path)?,
        None => r#"{"messages": [{"role": "user", "content": "Hello"}]}"#.to_owned(),
    };
    let Ok(object) = RawObject::parse(body.into()) else {
        bail!("the body of a call is a JSON object");
    };
    let body = match &args.model {
        Some(model) => object.edit(&[Edit::Set("model", &quote(model))]),
        None => object.bytes().clone(),
    };
    let body: &RawValue = serde_json::from_slice(&body)?;
    let mut headers = Map::new();
    for header in &args.headers {
        let (name, value) = header
            .split_once(':')
            .with_context(|| format!("'{header}' is no header: name: value"))?;
        headers.insert(name.trim().to_owned(), value.trim().into());
    }
    let called = Called {
        endpoint: &args.endpoint,
        key: args.key.as_deref(),
        headers,
        body,
    };
    Ok(serde_json::to_vec(&called)?.into())
}

/// What the admin API is asked.
#[derive(Serialize)]
struct Called<'a> {
    endpoint: &'a str,
    key: Option<&'a str>,
    headers: Map<String, Value>,
    body: &'a RawValue,
}

fn read(path: &Path) -> anyhow::Result<String> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.with_context(|| path.display().to_string())?;
    let is_json: Result<IgnoredAny, _> = serde_json::from_str(&text);
    is_json.with_context(|| format!("{} is no JSON", path.display()))?;
    Ok(text)
}

/// An id in a path.
fn encoded(id: &str) -> String {
    percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn print(args: &Explain, explanation: &Value) -> anyhow::Result<()> {
    let text = match args.json {
        true => format!("{explanation:#}\n"),
        false => text::of(explanation),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
