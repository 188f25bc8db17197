//! One entry of `model_list`: the provider that it is a part of, and its place in a group.

use polygate_providers::base::Base;
use polygate_providers::row_named;
use serde_json::{Map, Value, json};

use super::{is_on, is_reference, number, text, time};
use crate::config::env::Environment;
use crate::import::{At, Notes, problems};

/// LiteLLM's names of providers that have another one here.
const ROWS: [(&str, &str); 19] = [
    ("text-completion-openai", "openai"),
    ("azure_text", "azure"),
    ("bedrock_converse", "bedrock"),
    ("together_ai", "together"),
    ("fireworks_ai", "fireworks"),
    ("ollama_chat", "ollama"),
    ("hosted_vllm", "vllm"),
    ("lm_studio", "lmstudio"),
    ("nvidia_nim", "nvidia"),
    ("cohere_chat", "cohere"),
    ("friendliai", "friendli"),
    ("meta_llama", "llama"),
    ("azure_ai", COMPATIBLE),
    ("custom_openai", COMPATIBLE),
    ("openai_like", COMPATIBLE),
    ("litellm_proxy", COMPATIBLE),
    ("llamafile", COMPATIBLE),
    ("infinity", COMPATIBLE),
    ("xinference", COMPATIBLE),
];

const COMPATIBLE: &str = "openai-compatible";

/// Names of models that LiteLLM takes for a provider's without being told.
const BARE: [(&str, &str); 12] = [
    ("gpt-", "openai"),
    ("chatgpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("text-embedding-", "openai"),
    ("omni-moderation", "openai"),
    ("dall-e", "openai"),
    ("whisper", "openai"),
    ("tts-", "openai"),
    ("claude-", "anthropic"),
    ("deepseek-", "deepseek"),
];

/// What an entry says.
#[derive(Debug)]
pub struct Deployment {
    /// The group that it is in: what clients say.
    pub group: String,
    /// What its provider is called unless that is taken.
    pub word: String,
    /// The provider, but for its name and what it serves.
    pub provider: Map<String, Value>,
    /// The model's name there.
    pub model: String,
    /// Its share, by each of the keys that LiteLLM shares calls out by, the strongest first.
    pub weights: [Option<Value>; 3],
    /// Its tier.
    pub priority: Option<Value>,
    /// What it costs.
    pub price: Option<Value>,
}

/// Reads an entry; `None` where there is nothing here that it could be.
pub fn read(entry: &At<'_>, top: &At<'_>, notes: &mut Notes) -> Option<Deployment> {
    let Some(group) = entry.get("model_name").and_then(|at| text(&at)) else {
        notes.missing(entry, "it has no model_name, so it is left out");
        return None;
    };
    // Names are keys in a native file, where no variable is looked up.
    if group.contains('$') {
        notes.missing(
            entry,
            "a model's name has no dollar sign here, so it is left out",
        );
        return None;
    }
    let params = entry.get("litellm_params");
    let model = params.as_ref().and_then(|params| params.get("model"));
    let Some((params, model)) = params.zip(model) else {
        notes.missing(entry, "it has no litellm_params.model, so it is left out");
        return None;
    };
    let credential = credential(&params, top, notes);
    let reader = Reader {
        params: &params,
        credential,
    };
    let mut deployment = reader.deployment(group, &model, notes)?;
    reader.others(&mut deployment, notes);
    if let Some(info) = entry.get("model_info") {
        model_info(&info, &mut deployment, notes);
    }
    for (key, at) in entry.entries() {
        if !["model_name", "litellm_params", "model_info"].contains(&key) {
            notes.missing(&at, "Polygate has none of this");
        }
    }
    match deployment.problem() {
        Some(problem) => {
            let message = format!("its provider cannot be: {problem}; it is left out");
            notes.missing(entry, message);
            None
        }
        None => Some(deployment),
    }
}

impl Deployment {
    /// What keeps its provider from being served, whatever variables say.
    fn problem(&self) -> Option<String> {
        let mut provider = self.provider.clone();
        provider.insert("name".to_owned(), self.word.as_str().into());
        let document = json!({"providers": [provider]});
        let problems = problems(&document, &Environment::default());
        problems.first().map(|problem| problem.message.clone())
    }
}

/// The member of `credential_list` that an entry names.
fn credential<'a>(params: &At<'a>, top: &At<'a>, notes: &mut Notes) -> Option<At<'a>> {
    let named = params.get("litellm_credential_name")?;
    let name = named.text()?;
    let list = top.get("credential_list");
    let mut list = list.iter().flat_map(At::items);
    let found = list.find(|item| {
        let said = item.get("credential_name");
        said.is_some_and(|said| said.text() == Some(name))
    });
    let values = found.and_then(|found| found.get("credential_values"));
    if values.is_none() {
        notes.missing(&named, "credential_list has none of this name: set api_key");
    }
    values
}

/// The provider's word and the model's name of LiteLLM's `provider/model`.
fn split(model: &str, said: Option<&str>, has_base: bool) -> Option<(String, String)> {
    if let Some(word) = said {
        let bare = model
            .strip_prefix(word)
            .and_then(|rest| rest.strip_prefix('/'));
        return Some((word.to_owned(), bare.unwrap_or(model).to_owned()));
    }
    if let Some((word, rest)) = model.split_once('/')
        && !rest.is_empty()
        && (row(word).is_some() || !has_base)
    {
        return Some((word.to_owned(), rest.to_owned()));
    }
    let known = BARE.iter().find(|(begin, _)| model.starts_with(begin));
    let word = known.map(|(_, word)| *word);
    let word = word.or(has_base.then_some("openai"))?;
    Some((word.to_owned(), model.to_owned()))
}

/// The row of the provider table that LiteLLM's word means.
fn row(word: &str) -> Option<&'static str> {
    let renamed = ROWS.iter().find(|(theirs, _)| *theirs == word);
    let ours = renamed.map_or(word, |(_, ours)| *ours);
    let row = row_named(ours).or_else(|| row_named(&ours.replace('_', "-")));
    row.map(|row| row.name.as_str())
}

struct Reader<'a> {
    params: &'a At<'a>,
    credential: Option<At<'a>>,
}

impl<'a> Reader<'a> {
    /// A parameter, or what the named credential says.
    fn get(&self, key: &str) -> Option<At<'a>> {
        let named = || self.credential.as_ref()?.get(key);
        self.params.get(key).or_else(named)
    }

    fn text(&self, key: &str) -> Option<String> {
        text(&self.get(key)?)
    }

    fn deployment(&self, group: String, model: &At<'_>, notes: &mut Notes) -> Option<Deployment> {
        let full = text(model)?;
        let base = self.text("api_base").or_else(|| self.text("base_url"));
        let base = base.or_else(|| self.text("aws_bedrock_runtime_endpoint"));
        let said = self.text("custom_llm_provider");
        let Some((word, mut name)) = split(&full, said.as_deref(), base.is_some()) else {
            let message = "no provider is named and none is known by the model: write 'provider/model'; left out";
            notes.missing(model, message);
            return None;
        };
        let row = match (row(&word), &base) {
            (Some(row), _) => row,
            (None, Some(_)) => {
                let message = format!(
                    "'{word}' is unknown here: taken for a provider that speaks OpenAI's format"
                );
                notes.changed(model, message);
                COMPATIBLE
            }
            (None, None) => {
                let message = format!(
                    "there is no provider '{word}' here, so it is left out; with an api_base that speaks OpenAI's format it can stay"
                );
                notes.missing(model, message);
                return None;
            }
        };
        let mut provider = Map::new();
        // OpenAI's word with another address is whoever is there.
        if !(row == "openai" && base.is_some()) {
            provider.insert("type".to_owned(), row.into());
        }
        let has_base = row_named(row).is_some_and(|row| row.base.is_some());
        if row != "azure" && !has_base && base.is_none() {
            notes.missing(
                model,
                format!("'{word}' needs an api_base, so it is left out"),
            );
            return None;
        }
        if let Some(base) = &base {
            if !is_reference(base) && Base::parse(base, "").is_err() {
                notes.missing(model, "its api_base is no address, so it is left out");
                return None;
            }
            provider.insert("api_base".to_owned(), base.as_str().into());
        } else if row == "azure" {
            let variable = "${AZURE_API_BASE}";
            notes.changed(
                model,
                format!("it has no api_base: {variable} is asked, as by LiteLLM"),
            );
            provider.insert("api_base".to_owned(), variable.into());
        }
        parts_of_name(row, &mut name, &mut provider);
        if let Some(key) = self.key(row, model, notes) {
            provider.insert("api_key".to_owned(), key.into());
        }
        for (theirs, ours) in [
            ("api_version", "api_version"),
            ("aws_region_name", "region"),
        ] {
            if let Some(text) = self.text(theirs) {
                provider.insert(ours.to_owned(), text.into());
            }
        }
        Some(Deployment {
            group,
            word: row.to_owned(),
            provider,
            model: name,
            weights: [None, None, None],
            priority: None,
            price: None,
        })
    }

    /// The key: said, or that of the variable that LiteLLM looks into.
    fn key(&self, row: &str, model: &At<'_>, notes: &mut Notes) -> Option<String> {
        if let Some(key) = self.get("api_key")
            && let Some(said) = text(&key)
        {
            literal(&key, &said, notes);
            return Some(said);
        }
        if row == "bedrock" {
            return Some(self.aws_key(model, notes));
        }
        let variable = row_named(row)?.env.first()?;
        let message = format!("it has no api_key: ${{{variable}}} is used, as by LiteLLM");
        notes.changed(model, message);
        Some(format!("${{{variable}}}"))
    }

    /// AWS's keys are one key here.
    fn aws_key(&self, model: &At<'_>, notes: &mut Notes) -> String {
        const PARTS: [(&str, &str); 2] = [
            ("aws_access_key_id", "AWS_ACCESS_KEY_ID"),
            ("aws_secret_access_key", "AWS_SECRET_ACCESS_KEY"),
        ];
        let mut is_said = false;
        let mut parts: Vec<String> = Vec::new();
        for (key, variable) in PARTS {
            let said = self.get(key).and_then(|at| {
                let said = text(&at)?;
                literal(&at, &said, notes);
                Some(said)
            });
            is_said |= said.is_some();
            parts.push(said.unwrap_or_else(|| format!("${{{variable}}}")));
        }
        parts.extend(self.text("aws_session_token"));
        if !is_said {
            let message = "it has no keys: ${AWS_ACCESS_KEY_ID} and ${AWS_SECRET_ACCESS_KEY} are used; profiles and roles are not asked";
            notes.changed(model, message);
        }
        parts.join(":")
    }

    /// What else an entry may say.
    fn others(&self, deployment: &mut Deployment, notes: &mut Notes) {
        let mut timeouts = Map::new();
        for (key, at) in self.params.entries() {
            if at.node.is_null() {
                continue;
            }
            match key {
                "model"
                | "api_base"
                | "base_url"
                | "api_key"
                | "api_version"
                | "custom_llm_provider"
                | "aws_region_name"
                | "aws_access_key_id"
                | "aws_secret_access_key"
                | "aws_session_token"
                | "aws_bedrock_runtime_endpoint"
                | "litellm_credential_name" => {}
                "timeout" => {
                    timeouts.extend(time(&at, notes).map(|time| ("request".to_owned(), time)));
                }
                "stream_timeout" => {
                    let time = time(&at, notes);
                    timeouts.extend(time.map(|time| ("first_event".to_owned(), time)));
                }
                "weight" | "rpm" | "tpm" => share(&at, key, deployment, notes),
                "order" => deployment.priority = number(&at, notes),
                "organization" => header(deployment, "openai-organization", &at),
                "extra_headers" | "headers" => headers(deployment, &at, notes),
                "max_parallel_requests" => concurrency(deployment, &at, notes),
                "ssl_verify" => {
                    let verify = is_on(&at).unwrap_or(true);
                    deployment
                        .provider
                        .insert("verify_ssl".to_owned(), verify.into());
                }
                "input_cost_per_token" | "output_cost_per_token" => {
                    price(deployment, key, &at, notes)
                }
                "max_retries" | "num_retries" => {
                    notes.missing(&at, "retries are those of all models: retry.max_retries");
                }
                "drop_params" | "additional_drop_params" => {
                    notes.missing(&at, "what a provider does not take is left out and named in x-polygate-dropped anyway");
                }
                "mock_response" => {
                    notes.missing(&at, "`polygate mock` is a provider that simulates answers")
                }
                _ => notes.missing(
                    &at,
                    "Polygate adds no parameters of its own to requests: clients send them",
                ),
            }
        }
        if !timeouts.is_empty() {
            deployment
                .provider
                .insert("timeouts".to_owned(), Value::Object(timeouts));
        }
    }
}

/// What LiteLLM puts between a provider and a model's name.
fn parts_of_name(row: &str, name: &mut String, provider: &mut Map<String, Value>) {
    let strip = |name: &str, part: &str| name.strip_prefix(part).map(str::to_owned);
    if let Some(rest) = strip(name, "responses/") {
        provider.insert("wire_api".to_owned(), "responses".into());
        *name = rest;
    }
    if row != "bedrock" {
        return;
    }
    for part in ["converse/", "invoke/"] {
        if let Some(rest) = strip(name, part) {
            *name = rest;
        }
    }
    let region = name
        .split_once('/')
        .map(|(region, rest)| (region.to_owned(), rest.to_owned()));
    if let Some((region, rest)) = region
        && region.split('-').count() >= 3
        && !region.contains('.')
    {
        provider.insert("region".to_owned(), region.into());
        *name = rest;
    }
}

/// A key that stands in the file as it is.
fn literal(at: &At<'_>, said: &str, notes: &mut Notes) {
    if !is_reference(said) {
        notes.changed(at, "a secret stands in the file, and in the new one: put it into a variable, and ${NAME} here");
    }
}

/// LiteLLM shares calls out by these.
fn share(at: &At<'_>, key: &str, deployment: &mut Deployment, notes: &mut Notes) {
    let Some(number) = number(at, notes) else {
        return;
    };
    if key != "weight" {
        let message = format!(
            "{key} is no limit here: its share of the group's calls, where no stronger key says that"
        );
        notes.changed(at, message);
    }
    let [weight, requests, tokens] = &mut deployment.weights;
    *match key {
        "weight" => weight,
        "rpm" => requests,
        _ => tokens,
    } = Some(number);
}

fn header(deployment: &mut Deployment, name: &str, at: &At<'_>) {
    let Some(value) = text(at) else { return };
    let headers = deployment
        .provider
        .entry("headers")
        .or_insert_with(|| json!({}));
    if let Value::Object(headers) = headers {
        headers.insert(name.to_owned(), value.into());
    }
}

fn headers(deployment: &mut Deployment, at: &At<'_>, notes: &mut Notes) {
    for (name, at) in at.entries() {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let is_sound = at
            .text()
            .is_some_and(|text| !text.chars().any(char::is_control));
        if !name.is_empty() && name.chars().all(is_token) && is_sound {
            header(deployment, &name.to_ascii_lowercase(), &at);
        } else {
            notes.missing(&at, "no header can be called so or say this");
        }
    }
}

fn concurrency(deployment: &mut Deployment, at: &At<'_>, notes: &mut Notes) {
    let Some(number) = number(at, notes).filter(|number| *number != 0) else {
        return;
    };
    notes.changed(at, "it is the provider's here: all of its models together");
    deployment
        .provider
        .insert("max_concurrent".to_owned(), number);
}

/// USD a token → USD a million tokens.
fn price(deployment: &mut Deployment, key: &str, at: &At<'_>, notes: &mut Notes) {
    let rate = at.text().and_then(|text| text.parse::<f64>().ok());
    let rate = rate.map(|rate| (rate * 1e12).round() / 1e6);
    let Some(rate) = rate.filter(|rate| (0.0..1e6).contains(rate)) else {
        notes.missing(at, "no price");
        return;
    };
    let tier = key.split('_').next().unwrap_or_default();
    let price = deployment.price.get_or_insert_with(|| json!({}));
    if let Value::Object(price) = price {
        price.insert(tier.to_owned(), json!(rate));
    }
}

fn model_info(info: &At<'_>, deployment: &mut Deployment, notes: &mut Notes) {
    for (key, at) in info.entries() {
        match key {
            "input_cost_per_token" | "output_cost_per_token" => price(deployment, key, &at, notes),
            // What these say is in the catalogue, or asked of the provider.
            "id" | "mode" | "base_model" | "max_tokens" | "max_input_tokens"
            | "max_output_tokens" => {}
            key if key.starts_with("supports_") => {}
            _ => notes.missing(&at, "Polygate keeps no such word of a model"),
        }
    }
    let is_whole = |price: &Value| price.get("input").is_some() && price.get("output").is_some();
    if deployment
        .price
        .as_ref()
        .is_some_and(|price| !is_whole(price))
    {
        notes.missing(
            info,
            "a price needs both input and output: the catalogue's is used",
        );
        deployment.price = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::litellm::native;

    #[test]
    fn a_provider_is_known_by_its_word_or_by_the_model() {
        let split = |model, said, has_base| {
            split(model, said, has_base).map(|(word, model)| format!("{word} {model}"))
        };
        for (model, said, has_base, expected) in [
            ("azure/my-gpt", None, true, Some("azure my-gpt")),
            ("gpt-4o", None, false, Some("openai gpt-4o")),
            ("claude-3", None, false, Some("anthropic claude-3")),
            (
                "together_ai/meta/llama",
                None,
                false,
                Some("together_ai meta/llama"),
            ),
            ("meta/llama", None, true, Some("openai meta/llama")),
            ("mystery", None, false, None),
            ("mystery", None, true, Some("openai mystery")),
            ("mystery", Some("groq"), false, Some("groq mystery")),
            ("groq/llama", Some("groq"), false, Some("groq llama")),
        ] {
            assert_eq!(split(model, said, has_base).as_deref(), expected, "{model}");
        }
        assert_eq!(row("hosted_vllm"), Some("vllm"));
        assert_eq!(row("nowhere"), None);
        assert_eq!(native("os.environ/A-B"), "${A_B}");
        assert_eq!(native("a$$b ${C}"), "a$$$$b ${C}");
    }
}
