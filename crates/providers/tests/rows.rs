//! Every row of the provider table: where each operation goes, with which key, and what of the client reaches it.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use polygate_core::Secret;
use polygate_providers::table::Auth;
use polygate_providers::{Operation, Outbound, Row, Settings, build, row_at, row_named, table};
use polygate_wire::Format;

fn settings(row: &Row, api_base: Option<&str>) -> Settings {
    let own = row.base.is_none().then(|| example_base(row));
    Settings {
        kind: row.name.clone(),
        name: "p".to_owned(),
        api_base: api_base.map(str::to_owned).or(own),
        ..Settings::default()
    }
}

/// An address for rows whose users each have their own.
fn example_base(row: &Row) -> String {
    let host = row
        .hosts
        .first()
        .map_or("llm.example.com".to_owned(), |host| format!("res.{host}"));
    format!("https://{host}")
}

async fn request(settings: &Settings, operation: Operation<'_>) -> Request<Bytes> {
    let provider = build(settings).expect("the row builds");
    let mut client_headers = HeaderMap::new();
    for name in [
        "authorization",
        "x-api-key",
        "cookie",
        "x-forwarded-for",
        "anthropic-beta",
        "openai-beta",
        "openai-organization",
    ] {
        client_headers.insert(name, "from-the-client".parse().expect("a value"));
    }
    let outbound = Outbound {
        operation,
        model: "org/model-1",
        client_headers: &client_headers,
        body: Bytes::from_static(b"{}"),
    };
    let mut request = provider.request(&outbound).expect("a request");
    provider
        .authorize(&mut request, &Secret::new("secret-key"))
        .await
        .expect("authorized");
    request
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut cx) {
            return value;
        }
    }
}

/// What the end of an address must be, by format, on a row whose paths are the usual ones.
fn expected_tail(format: Format) -> &'static str {
    match format {
        Format::OpenaiChat => "/chat/completions",
        Format::OpenaiResponses => "/responses",
        Format::AnthropicMessages => "/messages",
        Format::Gemini => "/models/org/model-1:generateContent",
        Format::BedrockConverse => "/model/org%2Fmodel-1/converse",
    }
}

/// How many parts of a path are versions.
fn versions(path: &str) -> usize {
    let is_version = |part: &&str| {
        let rest = part.strip_prefix('v').unwrap_or_default();
        rest.starts_with(|letter: char| letter.is_ascii_digit())
    };
    path.split('/').filter(is_version).count()
}

#[test]
fn every_row_sends_every_format_it_speaks_to_its_own_address_with_its_own_key() {
    for row in table() {
        for &format in &row.formats {
            let settings = settings(row, None);
            let sent = block_on(request(
                &settings,
                Operation::Chat {
                    format,
                    stream: false,
                },
            ));
            let context = format!("{} {} {}", row.name, format.name(), sent.uri());
            assert_eq!(sent.method(), Method::POST, "{context}");
            let base = row.base.clone().unwrap_or_else(|| example_base(row));
            let base = base.replace("{region}", row.region.as_deref().unwrap_or_default());
            let host = base
                .split("//")
                .nth(1)
                .and_then(|rest| rest.split('/').next())
                .expect("a host");
            assert_eq!(
                sent.uri().authority().map(|authority| authority.as_str()),
                Some(host),
                "{context}"
            );
            let path = sent.uri().path();
            assert!(path.ends_with(expected_tail(format)), "{context}");
            assert_eq!(
                versions(path),
                usize::from(!row.version.is_empty() && !path.contains("/deployments/")),
                "one version, {context}"
            );
            let (name, value) = match row.auth {
                Auth::Bearer => ("authorization", "Bearer secret-key"),
                Auth::XApiKey => ("x-api-key", "secret-key"),
                Auth::XGoogApiKey => ("x-goog-api-key", "secret-key"),
                Auth::ApiKey => ("api-key", "secret-key"),
            };
            assert_eq!(
                sent.headers()
                    .get(name)
                    .and_then(|value| value.to_str().ok()),
                Some(value),
                "{context}"
            );
            assert!(
                sent.headers()
                    .get(name)
                    .is_some_and(http::HeaderValue::is_sensitive),
                "{context}"
            );
            let from_client: Vec<&str> = sent
                .headers()
                .iter()
                .filter(|(_, value)| *value == "from-the-client")
                .map(|(name, _)| name.as_str())
                .collect();
            assert!(
                from_client.iter().all(|name| row
                    .forward
                    .rules()
                    .iter()
                    .any(|rule| rule.name == *name)),
                "{context}: {from_client:?}"
            );
        }
    }
}

#[test]
fn a_base_with_and_without_its_version_is_the_same() {
    for row in table().iter().filter(|row| row.auth != Auth::ApiKey) {
        let format = row.formats[0];
        let uri = |base: &str| {
            block_on(request(
                &settings(row, Some(base)),
                Operation::Chat {
                    format,
                    stream: true,
                },
            ))
            .uri()
            .to_string()
        };
        let bare = uri("https://llm.example.com");
        assert_eq!(bare, uri("https://llm.example.com/"), "{}", row.name);
        assert_eq!(
            bare,
            uri(&format!("https://llm.example.com{}", row.version)),
            "{}",
            row.name
        );
        assert_eq!(
            bare,
            uri(&format!("https://llm.example.com{}/", row.version)),
            "{}",
            row.name
        );
    }
}

#[test]
fn rows_are_found_by_name_alias_and_host_and_say_their_variables() {
    for name in [
        "openai",
        "anthropic",
        "claude",
        "gemini",
        "google",
        "azure",
        "deepseek",
        "openrouter",
        "groq",
        "mistral",
        "ollama",
        "openai-compatible",
        "xai",
        "togetherai",
        "fireworks-ai",
        "cerebras",
        "perplexity",
        "dashscope",
        "moonshotai",
        "zhipuai",
        "llama.cpp",
        "vllm",
        "lmstudio",
        "litellm",
    ] {
        assert!(row_named(name).is_some(), "{name}");
    }
    for (host, name) in [
        ("api.openai.com", "openai"),
        ("my-res.openai.azure.com", "azure"),
        ("api.anthropic.com", "anthropic"),
        ("API.Groq.com", "groq"),
        ("api.x.ai", "xai"),
        ("dbc-1.cloud.databricks.com", "databricks"),
    ] {
        assert_eq!(
            row_at(host, "/v1").map(|row| row.name.as_str()),
            Some(name),
            "{host}"
        );
    }
    assert!(
        row_at("evilapi.openai.com.example.com", "").is_none()
            && row_at("notopenai.azure.com", "").is_none()
    );
    for name in [
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "GEMINI_API_KEY",
        "DEEPSEEK_API_KEY",
        "OPENROUTER_API_KEY",
    ] {
        assert!(
            table()
                .iter()
                .any(|row| row.env.iter().any(|variable| variable == name)),
            "{name}"
        );
    }
}

#[test]
fn azure_puts_the_model_and_the_version_where_they_belong() {
    let uri = |base: &str, operation: Operation<'_>| {
        let settings = Settings {
            kind: "azure".to_owned(),
            api_base: Some(base.to_owned()),
            api_version: Some("2025-01-01".to_owned()),
            ..Settings::default()
        };
        block_on(request(&settings, operation)).uri().to_string()
    };
    let chat = Operation::Chat {
        format: Format::OpenaiChat,
        stream: false,
    };
    let dated = "https://r.openai.azure.com/openai/deployments/org/model-1/chat/completions?api-version=2025-01-01";
    for base in [
        "https://r.openai.azure.com",
        "https://r.openai.azure.com/",
        "https://r.openai.azure.com/openai",
    ] {
        assert_eq!(uri(base, chat), dated);
    }
    assert_eq!(
        uri("https://r.openai.azure.com/openai/v1", chat),
        "https://r.openai.azure.com/openai/v1/chat/completions"
    );
    assert_eq!(
        uri("https://r.openai.azure.com", Operation::Models),
        "https://r.openai.azure.com/openai/models?api-version=2025-01-01"
    );
    let tail = Operation::Proxy {
        method: &Method::GET,
        tail: "files/a",
        query: Some("x=1"),
    };
    assert_eq!(
        uri("https://r.openai.azure.com", tail),
        "https://r.openai.azure.com/openai/deployments/org/model-1/files/a?x=1&api-version=2025-01-01"
    );
}

#[test]
fn the_row_is_the_types_else_the_hosts_else_the_names_else_compatible() {
    let row = |kind: &str, name: &str, base: Option<&str>| {
        let settings = Settings {
            kind: kind.to_owned(),
            name: name.to_owned(),
            api_base: base.map(str::to_owned),
            ..Settings::default()
        };
        polygate_providers::registry::row_of(&settings).map(|row| row.name.as_str())
    };
    assert_eq!(
        row("anthropic", "x", Some("https://proxy.example.com")),
        Ok("anthropic")
    );
    assert_eq!(
        row("", "x", Some("https://api.deepseek.com")),
        Ok("deepseek")
    );
    assert_eq!(
        row("", "openai", Some("https://llm.example.com")),
        Ok("openai-compatible")
    );
    assert_eq!(row("", "groq", None), Ok("groq"));
    assert_eq!(
        row("", "whatever", Some("https://llm.example.com")),
        Ok("openai-compatible")
    );
    assert!(row("antropic", "x", None).is_err());
}

#[test]
fn a_vendors_addresses_are_told_apart_by_their_paths_and_a_type_is_believed() {
    const GOOGLE: &str = "https://generativelanguage.googleapis.com";
    const AZURE: &str = "https://res.services.ai.azure.com";
    for (kind, address, expected) in [
        ("", format!("{GOOGLE}/v1beta/openai/"), "gemini-openai"),
        ("compat", format!("{GOOGLE}/v1beta/openai"), "gemini-openai"),
        ("gemini", format!("{GOOGLE}/v1beta/openai"), "gemini"),
        ("", format!("{GOOGLE}/v1beta"), "gemini"),
        ("", format!("{GOOGLE}/v1beta/openaint"), "gemini"),
        (
            "",
            "https://api.z.ai/api/anthropic".to_owned(),
            "zai-anthropic",
        ),
        ("", "https://api.z.ai/api/paas/v4".to_owned(), "zai"),
        (
            "",
            "https://api.z.ai/api/coding/paas/v4".to_owned(),
            "zai-coding",
        ),
        (
            "",
            "https://api.deepseek.com/anthropic/v1".to_owned(),
            "deepseek-anthropic",
        ),
        (
            "claude",
            "https://api.deepseek.com/anthropic".to_owned(),
            "anthropic",
        ),
        (
            "compat",
            "https://api.deepseek.com/anthropic".to_owned(),
            "openai-compatible",
        ),
        ("compat", "https://api.deepseek.com".to_owned(), "deepseek"),
        (
            "compat",
            "https://api.anthropic.com/v1".to_owned(),
            "openai-compatible",
        ),
        (
            "",
            "https://api.moonshot.cn/anthropic".to_owned(),
            "moonshot-cn-anthropic",
        ),
        ("", format!("{AZURE}/openai/v1"), "azure"),
        ("", format!("{AZURE}/models"), "azure-models"),
        ("compat", format!("{AZURE}/models"), "azure-models"),
        ("", format!("{AZURE}/anthropic"), "azure-anthropic"),
    ] {
        let settings = Settings {
            kind: kind.to_owned(),
            api_base: Some(address.clone()),
            ..Settings::default()
        };
        let row = polygate_providers::registry::row_of(&settings);
        assert_eq!(
            row.map(|row| row.name.as_str()),
            Ok(expected),
            "{kind} {address}"
        );
    }
}

#[test]
fn azure_has_other_makers_models_and_claude_at_addresses_of_their_own() {
    let sent = |address: &str, format| {
        let settings = Settings {
            api_base: Some(format!("https://r.services.ai.azure.com/{address}")),
            ..Settings::default()
        };
        let stream = false;
        block_on(request(&settings, Operation::Chat { format, stream }))
    };
    let models = sent("models/", Format::OpenaiChat);
    assert_eq!(
        models.uri(),
        "https://r.services.ai.azure.com/models/chat/completions?api-version=2024-05-01-preview"
    );
    assert_eq!(models.headers()["api-key"], "secret-key");
    let claude = sent("anthropic", Format::AnthropicMessages);
    assert_eq!(
        claude.uri(),
        "https://r.services.ai.azure.com/anthropic/v1/messages"
    );
    assert_eq!(claude.headers()["x-api-key"], "secret-key");
}

#[test]
fn no_name_no_host_and_no_variable_means_two_rows() {
    let mut seen = BTreeSet::new();
    for row in table() {
        for name in row.aliases.iter().chain([&row.name]) {
            assert!(seen.insert(format!("name {name}")), "{name} twice");
        }
        for host in &row.hosts {
            assert!(seen.insert(format!("host {host}")), "{host} twice");
        }
        for variable in row.env.iter().filter(|_| row.starts) {
            assert!(
                seen.insert(format!("variable {variable}")),
                "{variable} twice"
            );
            assert!(row.base.is_some(), "{}: a key alone does not do", row.name);
        }
    }
}

#[test]
fn an_address_with_the_rows_host_is_that_row() {
    for row in table().iter().filter(|row| !row.hosts.is_empty()) {
        let base = row.base.as_deref().unwrap_or_default();
        let address = base.trim_start_matches("https://");
        let (host, path) = address.split_once('/').unwrap_or((address, ""));
        let host = host.replace("{region}", row.region.as_deref().unwrap_or_default());
        if !host.is_empty() {
            let found = row_at(&host, path).map(|row| row.name.as_str());
            assert_eq!(found, Some(row.name.as_str()), "{base}");
        }
    }
}

#[test]
fn variables_that_are_set_for_other_purposes_start_nothing() {
    let starting = table().iter().filter(|row| row.starts);
    let variables: Vec<&String> = starting.flat_map(|row| &row.env).collect();
    for shared in [
        "GITHUB_TOKEN",
        "HF_TOKEN",
        "WANDB_API_KEY",
        "DATABRICKS_TOKEN",
    ] {
        assert!(
            variables.iter().all(|variable| *variable != shared),
            "{shared}"
        );
    }
    for own in [
        "OPENAI_API_KEY",
        "XAI_API_KEY",
        "TOGETHER_API_KEY",
        "CEREBRAS_API_KEY",
    ] {
        assert!(variables.iter().any(|variable| *variable == own), "{own}");
    }
}
