//! One entry of `model_list`: the provider that it is a part of, and its place in a group.

use polygate_providers::base::Base;
use polygate_providers::row_named;
use polygate_wire::Format;
use serde_json::{Map, Value, json};

use super::address::address;
use super::defaults::{self, Defaults};
use super::model_name::{
    COMPATIBLE, is_thinking, parts_of_name, row, row_of_azure_ai, split, variable_of_base,
    variable_of_key,
};
use super::price::Price;
use super::{info, is_on, is_reference, number, text, time};
use crate::config::env::Environment;
use crate::import::{At, Notes, problems};

/// Parameters that have a word of their own, and none here.
const WORDS: [(&str, &str); 16] = [
    (
        "max_retries",
        "retries are those of all models: retry.max_retries",
    ),
    (
        "num_retries",
        "retries are those of all models: retry.max_retries",
    ),
    (
        "drop_params",
        "what a provider does not take is left out and named in x-polygate-dropped anyway",
    ),
    (
        "additional_drop_params",
        "a rule of payload.filter takes members out",
    ),
    (
        "allowed_openai_params",
        "what a provider does not take is left out and named in x-polygate-dropped anyway",
    ),
    (
        "mock_response",
        "`polygate mock` is a provider that simulates answers",
    ),
    (
        "tags",
        "a model's routes lead calls elsewhere by tags of their keys: when: {tags: […]}",
    ),
    (
        "guardrails",
        "a guard's `when: {models: […]}` says for which models it is",
    ),
    (
        "configurable_clientside_auth_params",
        "nothing that a caller sends chooses an address or a key",
    ),
    (
        "metadata",
        "LiteLLM keeps it for its logs, and sends it to nobody",
    ),
    (
        "cooldown_time",
        "rests are those of all providers: retry.cooldown_…",
    ),
    (
        "max_budget",
        "set the provider's limits: {usd_per_month: …}",
    ),
    (
        "budget_duration",
        "set the provider's limits: {usd_per_month: …}",
    ),
    ("stream", "clients say whether they want a stream"),
    ("aws_profile_name", "AWS is asked with keys, by no profile"),
    ("aws_role_name", "AWS is asked with keys, by no role"),
];

/// What is taken of a named credential.
const OF_CREDENTIALS: [&str; 10] = [
    "api_key",
    "api_base",
    "base_url",
    "api_version",
    "custom_llm_provider",
    "aws_region_name",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "aws_bedrock_runtime_endpoint",
];

/// Of any other.
const UNKNOWN: &str = "it is not known here: if its provider is to get it, write it into payload.default, at the place that it has there";

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
    /// What it gives to calls that do not say it themselves.
    pub defaults: Defaults,
    /// It is one of OpenAI's models that think.
    is_thinking: bool,
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
    let info = entry.get("model_info");
    let reader = Reader {
        params: &params,
        credential,
        info: info.as_ref(),
    };
    let mut deployment = reader.deployment(group, &model, notes)?;
    let mut price = Price::default();
    reader.others(&mut deployment, &mut price, notes);
    if let Some(info) = &info {
        info::read(info, &deployment.word, &mut price, notes);
    }
    deployment.price = price.finish(entry, notes);
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
    /// Reads what it gives to calls, in the words that its provider speaks.
    fn defaults(&self) -> defaults::Reader {
        let Some(row) = row_named(&self.word) else {
            return defaults::Reader::new(&[], false, false);
        };
        let said = self.provider.get("wire_api").and_then(Value::as_str);
        let only = |format: &Format| match said {
            Some("responses") => *format == Format::OpenaiResponses,
            _ => true,
        };
        let formats: Vec<Format> = row.formats.iter().copied().filter(only).collect();
        defaults::Reader::new(&formats, row.quirks.max_completion_tokens, self.is_thinking)
    }

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
    for (key, at) in values.iter().flat_map(At::entries) {
        if !OF_CREDENTIALS.contains(&key) {
            notes.once(
                &at,
                "nothing of a credential but its address and keys is read",
            );
        }
    }
    values
}

struct Reader<'a> {
    params: &'a At<'a>,
    credential: Option<At<'a>>,
    info: Option<&'a At<'a>>,
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

    /// What `model_info` says.
    fn info(&self, key: &str) -> Option<&'a str> {
        self.info?.get(key)?.text()
    }

    fn deployment(&self, group: String, model: &At<'_>, notes: &mut Notes) -> Option<Deployment> {
        let full = text(model)?;
        let base = self.text("api_base").or_else(|| self.text("base_url"));
        let base = base.or_else(|| self.text("aws_bedrock_runtime_endpoint"));
        let said = self.text("custom_llm_provider");
        let Some((word, mut name)) = split(&full, said.as_deref(), base.is_some()) else {
            let message = match full.as_str() {
                "*" => {
                    "callers name the provider there: write an entry for each, as model_name 'openai/*' and model 'openai/*'; left out"
                }
                _ => {
                    "no provider is named and none is known by the model: write 'provider/model'; left out"
                }
            };
            notes.missing(model, message);
            return None;
        };
        let row = match (row(&word), &base) {
            _ if word == "azure_ai" => row_of_azure_ai(&name, base.as_deref().unwrap_or_default()),
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
        let variable = variable_of_base(&word, row).filter(|_| base.is_none());
        let base = base.or_else(|| {
            let variable = format!("${{{}}}", variable?);
            let message = format!("it has no api_base: {variable} is asked, as by LiteLLM");
            notes.changed(model, message);
            Some(variable)
        });
        // Where it leads is not known, nor what it lacks.
        if word == "azure_ai" && base.as_deref().is_some_and(is_reference) {
            let end = match row {
                "azure-anthropic" => "what it says has to end in /anthropic",
                _ => "an address of services.ai.azure.com has to end in /models there",
            };
            notes.changed(model, format!("its api_base is a variable's: {end}"));
        }
        let mut provider = Map::new();
        // OpenAI's word with another address is whoever is there.
        if !(row == "openai" && base.is_some()) {
            provider.insert("type".to_owned(), row.into());
        }
        let has_base = row_named(row).is_some_and(|row| row.base.is_some());
        if !has_base && base.is_none() {
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
            let base = address(row, base, &mut name, &mut provider);
            provider.insert("api_base".to_owned(), base.into());
        }
        parts_of_name(row, &mut name, &mut provider);
        let speaks = |format| row_named(row).is_some_and(|row| row.formats.contains(&format));
        if self.info("mode") == Some("responses") && speaks(Format::OpenaiResponses) {
            provider.insert("wire_api".to_owned(), "responses".into());
        }
        if let Some(key) = self.key(&word, row, model, notes) {
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
            defaults: Defaults::default(),
            is_thinking: is_thinking(&full) || self.info("base_model").is_some_and(is_thinking),
        })
    }

    /// The key: said, or that of the variable that LiteLLM looks into.
    fn key(&self, word: &str, row: &str, model: &At<'_>, notes: &mut Notes) -> Option<String> {
        if let Some(key) = self.get("api_key")
            && let Some(said) = text(&key)
        {
            literal(&key, &said, notes);
            return Some(said);
        }
        if row == "bedrock" {
            return Some(self.aws_key(model, notes));
        }
        let variable = variable_of_key(word, row)?;
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
    fn others(&self, deployment: &mut Deployment, price: &mut Price, notes: &mut Notes) {
        let mut timeouts = Map::new();
        let mut defaults = deployment.defaults();
        for (key, at) in self.params.entries() {
            let is_read =
                at.node.is_null() || price.read(key, &at, notes) || defaults.read(key, &at, notes);
            if is_read {
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
                _ => {
                    let word = WORDS.iter().find(|(known, _)| *known == key);
                    let message = word.map_or(UNKNOWN, |(_, message)| message);
                    notes.missing(&at, message);
                }
            }
        }
        deployment.defaults = defaults.finish();
        if !timeouts.is_empty() {
            deployment
                .provider
                .insert("timeouts".to_owned(), Value::Object(timeouts));
        }
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
    let fraction = at.text().and_then(|text| text.parse::<f64>().ok());
    let fraction = fraction.filter(|share| key == "weight" && share.fract() != 0.0 && *share > 0.0);
    let number = match fraction.filter(|share| *share < f64::from(u32::MAX)) {
        Some(share) => Some(share.into()),
        None => number(at, notes),
    };
    let Some(number) = number else {
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
            if is_secret(name) {
                let said = text(&at).unwrap_or_default();
                literal(&at, &said, notes);
            }
            header(deployment, &name.to_ascii_lowercase(), &at);
        } else {
            notes.missing(&at, "no header can be called so or say this");
        }
    }
}

/// Whether a header of this name is a credential, as a rule.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["authorization", "key", "token", "secret", "cookie"]
        .iter()
        .any(|part| name.contains(part))
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
