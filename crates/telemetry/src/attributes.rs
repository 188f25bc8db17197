//! Attributes by the names of OpenTelemetry's conventions: those for generative AI are still in development, so they stand here only.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use polygate_engine::config::Otlp;

/// The conventions that names are of.
pub(crate) const SCHEMA: &str = "https://opentelemetry.io/schemas/1.37.0";

pub(crate) const OPERATION: &str = "gen_ai.operation.name";
pub(crate) const PROVIDER: &str = "gen_ai.provider.name";
pub(crate) const REQUEST_MODEL: &str = "gen_ai.request.model";
pub(crate) const RESPONSE_MODEL: &str = "gen_ai.response.model";
pub(crate) const TEMPERATURE: &str = "gen_ai.request.temperature";
pub(crate) const TOP_P: &str = "gen_ai.request.top_p";
pub(crate) const MAX_TOKENS: &str = "gen_ai.request.max_tokens";
pub(crate) const SEED: &str = "gen_ai.request.seed";
pub(crate) const FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
pub(crate) const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
pub(crate) const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
pub(crate) const CACHE_READ: &str = "gen_ai.usage.cache_read.input_tokens";
pub(crate) const CACHE_WRITE: &str = "gen_ai.usage.cache_creation.input_tokens";
pub(crate) const REASONING: &str = "gen_ai.usage.reasoning.output_tokens";
pub(crate) const SYSTEM: &str = "gen_ai.system_instructions";
pub(crate) const INPUT: &str = "gen_ai.input.messages";
pub(crate) const OUTPUT: &str = "gen_ai.output.messages";
pub(crate) const TOKEN_TYPE: &str = "gen_ai.token.type";
pub(crate) const ERROR: &str = "error.type";
pub(crate) const METHOD: &str = "http.request.method";
pub(crate) const STATUS: &str = "http.response.status_code";
pub(crate) const ROUTE: &str = "http.route";
pub(crate) const USER: &str = "user.id";
pub(crate) const SESSION: &str = "session.id";
pub(crate) const CONVERSATION: &str = "gen_ai.conversation.id";

/// What somebody says of a span, a measurement or this process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes(Vec<KeyValue>);

impl Attributes {
    /// A text, unless it is empty.
    pub(crate) fn text(&mut self, key: &str, text: impl Into<String>) {
        let text = text.into();
        if !text.is_empty() {
            self.put(key, Value::StringValue(text));
        }
    }

    /// A number.
    pub(crate) fn number(&mut self, key: &str, number: impl TryInto<i64>) {
        self.put(key, Value::IntValue(number.try_into().unwrap_or(i64::MAX)));
    }

    /// A number with a fraction.
    pub(crate) fn fraction(&mut self, key: &str, number: f64) {
        self.put(key, Value::DoubleValue(number));
    }

    /// Yes or no.
    pub(crate) fn flag(&mut self, key: &str, flag: bool) {
        self.put(key, Value::BoolValue(flag));
    }

    /// Several texts; nothing where there are none.
    pub(crate) fn list<'a>(&mut self, key: &str, texts: impl Iterator<Item = &'a str>) {
        let values = texts.map(|text| any(Value::StringValue(text.to_owned())));
        let values: Vec<_> = values.collect();
        if !values.is_empty() {
            self.put(key, Value::ArrayValue(ArrayValue { values }));
        }
    }

    /// These as well.
    pub(crate) fn extend(&mut self, others: &Attributes) {
        self.0.extend(others.0.iter().cloned());
    }

    /// As OTLP has them.
    pub(crate) fn into_vec(self) -> Vec<KeyValue> {
        self.0
    }

    fn put(&mut self, key: &str, value: Value) {
        self.0.push(KeyValue {
            key: key.to_owned(),
            value: Some(any(value)),
            ..KeyValue::default()
        });
    }
}

fn any(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

/// What is said of this process.
pub(crate) fn resource(otlp: &Otlp) -> Resource {
    let mut attributes = Attributes::default();
    attributes.text("service.name", otlp.service.as_str());
    attributes.text("service.version", env!("CARGO_PKG_VERSION"));
    for (key, value) in &otlp.attributes {
        attributes.text(key, value.as_str());
    }
    of(attributes)
}

/// A resource that this is said of.
pub(crate) fn of(attributes: Attributes) -> Resource {
    Resource {
        attributes: attributes.into_vec(),
        ..Resource::default()
    }
}

/// Who says all this.
pub(crate) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "polygate".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

/// What a call asks of a model, as the conventions call it, by its route.
pub(crate) fn operation(endpoint: &str) -> &'static str {
    const TABLE: [(&str, &str); 6] = [
        ("/v1/chat/completions", "chat"),
        ("/v1/responses", "chat"),
        ("/v1/messages", "chat"),
        ("/v1/completions", "text_completion"),
        ("/v1/embeddings", "embeddings"),
        ("/v1beta/models:generateContent", "generate_content"),
    ];
    let known = TABLE.iter().find(|(route, _)| *route == endpoint);
    known.map_or("other", |(_, name)| name)
}

/// The vendor of a row of the provider table, as the conventions call it.
pub(crate) fn vendor(row: &str) -> &str {
    const TABLE: [(&str, &str); 6] = [
        ("gemini", "gcp.gemini"),
        ("azure", "azure.ai.openai"),
        ("bedrock", "aws.bedrock"),
        ("mistral", "mistral_ai"),
        ("xai", "x_ai"),
        ("perplexity-agent", "perplexity"),
    ];
    let known = TABLE.iter().find(|(known, _)| *known == row);
    known.map_or(row, |(_, name)| name)
}
