//! Who is told of calls: `otlp` and `langfuse` of the file, and the variables that OpenTelemetry and Langfuse know.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};
use polygate_core::Secret;
use polygate_engine::config::{Encoding, Langfuse, Otlp, Telemetry};

use super::overrides::Variables;
use super::pieces::{headers, set};
use super::reader::Section;
use super::values;

/// How OTLP may be written.
const PROTOCOLS: [(&str, Encoding); 2] = [
    ("http/protobuf", Encoding::Protobuf),
    ("http/json", Encoding::Json),
];

/// What an address has to be.
const ADDRESS: &str = "must be an address: http://host:port or https://host";
const PART: &str = "must be a number from 0 to 1";

/// `otlp`.
pub fn otlp(section: Section<'_>, telemetry: &mut Telemetry) {
    let mut otlp = Otlp::default();
    let is_on = section.boolean("enabled") != Some(false);
    let address = |key: &'static str, path: &str| {
        let item = section.item(key)?;
        item.parsed(ADDRESS, |text| uri(text, path))
    };
    let (traces, metrics) = (
        address("endpoint", "v1/traces"),
        address("endpoint", "v1/metrics"),
    );
    otlp.traces = traces.filter(|_| section.boolean("traces") != Some(false));
    otlp.metrics = metrics.filter(|_| section.boolean("metrics") != Some(false));
    if section.required("endpoint").is_none() {
        otlp.traces = None;
    }
    for (name, value) in headers(&section, "headers") {
        match HeaderName::try_from(&name) {
            Ok(name) if HeaderValue::try_from(&value).is_ok() => {
                otlp.headers.push((name, Secret::new(value)));
            }
            _ => section.error("headers", format!("'{name}' is no header that can be sent")),
        }
    }
    set(&mut otlp.encoding, section.word("protocol", &PROTOCOLS));
    set(&mut otlp.sample, part(&section, "sample_rate"));
    set(&mut otlp.every, section.patience("metrics_interval"));
    set(&mut otlp.timeout, section.patience("timeout"));
    set(&mut otlp.content, section.boolean("content"));
    set(&mut otlp.service, section.text("service_name"));
    if let Some(attributes) = section.section("attributes") {
        let entries = attributes.entries().into_iter();
        let texts = entries.filter_map(|(key, item)| Some((key.to_owned(), item.text()?)));
        otlp.attributes = texts.collect();
    }
    section.finish();
    telemetry.otlp = Some(otlp).filter(|_| is_on);
}

/// `langfuse`.
pub fn langfuse(section: Section<'_>, telemetry: &mut Telemetry) {
    let is_on = section.boolean("enabled") != Some(false);
    let key = |name| {
        let item = section.item(name).filter(|_| is_on);
        item.and_then(|item| item.secret())
    };
    let (public, secret) = (key("public_key"), key("secret_key"));
    if is_on {
        section.required("public_key");
        section.required("secret_key");
    }
    let public = public.map_or_else(String::new, |key| key.reveal().to_owned());
    let secret = secret.unwrap_or_else(|| Secret::new(String::new()));
    let mut langfuse = Langfuse::new(public, secret);
    let host = section.item("host");
    let host = host.and_then(|item| item.parsed(ADDRESS, |text| uri(text, "")));
    set(&mut langfuse.host, host);
    set(&mut langfuse.sample, part(&section, "sample_rate"));
    set(&mut langfuse.flush, section.patience("flush_interval"));
    set(&mut langfuse.timeout, section.patience("timeout"));
    set(&mut langfuse.content, section.boolean("content"));
    langfuse.environment = section.text("environment");
    langfuse.release = section.text("release");
    section.finish();
    telemetry.langfuse = Some(langfuse).filter(|_| is_on);
}

fn part(section: &Section<'_>, key: &'static str) -> Option<f64> {
    section.item(key)?.parsed(PART, fraction)
}

fn fraction(text: &str) -> Option<f64> {
    let part: f64 = text.trim().parse().ok()?;
    (0.0..=1.0).contains(&part).then_some(part)
}

/// An address with this path behind it.
fn uri(text: &str, path: &str) -> Option<Uri> {
    let text = text.trim().trim_end_matches('/');
    let whole = match path {
        "" => text.to_owned(),
        path => format!("{text}/{path}"),
    };
    let uri: Uri = whole.parse().ok()?;
    let is_known = matches!(uri.scheme_str(), Some("http" | "https"));
    (is_known && uri.host().is_some_and(|host| !host.is_empty())).then_some(uri)
}

/// What variables say over the file.
pub fn variables(variables: &mut Variables<'_>, telemetry: &mut Telemetry) {
    variables.otlp(telemetry);
    variables.langfuse(telemetry);
}

impl Variables<'_> {
    fn otlp(&mut self, telemetry: &mut Telemetry) {
        if self.is_true("OTEL_SDK_DISABLED") {
            telemetry.otlp = None;
            return;
        }
        const BASE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
        let both = |text: &str| uri(text, "v1/traces").zip(uri(text, "v1/metrics"));
        let (traces, metrics) = self.variable(BASE, ADDRESS, both).unzip();
        let whole = |text: &str| uri(text, "");
        let own = self.variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", ADDRESS, whole);
        let traces = own.or(traces);
        let own = self.variable("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", ADDRESS, whole);
        let metrics = own.or(metrics);
        if traces.is_none() && metrics.is_none() && telemetry.otlp.is_none() {
            return;
        }
        const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
        if self.environment.get(PROTOCOL).map(str::trim) == Some("grpc") {
            let why = "is 'grpc', which is not spoken here: nothing is exported; set http/protobuf, and the port for that (4318 as a rule)";
            self.findings.warn(PROTOCOL, why);
            return;
        }
        let mut otlp = telemetry.otlp.take().unwrap_or_default();
        otlp.traces = traces.or(otlp.traces);
        otlp.metrics = metrics.or(otlp.metrics);
        if self.is("OTEL_TRACES_EXPORTER", "none") {
            otlp.traces = None;
        }
        if self.is("OTEL_METRICS_EXPORTER", "none") {
            otlp.metrics = None;
        }
        let known = "must be 'http/protobuf' or 'http/json'";
        let encoding = self.variable(PROTOCOL, known, |text| {
            let found = PROTOCOLS.iter().find(|(word, _)| *word == text);
            found.map(|(_, encoding)| *encoding)
        });
        set(&mut otlp.encoding, encoding);
        let pairs = "must be a list: key=value,key=value";
        let said = self.variable("OTEL_EXPORTER_OTLP_HEADERS", pairs, |text| {
            let header = |(name, value): (String, String)| {
                HeaderValue::try_from(&value).ok()?;
                Some((HeaderName::try_from(name).ok()?, Secret::new(value)))
            };
            list(text)?.into_iter().map(header).collect()
        });
        set(&mut otlp.headers, said);
        let attributes = self.variable("OTEL_RESOURCE_ATTRIBUTES", pairs, list);
        set(&mut otlp.attributes, attributes);
        let at = otlp
            .attributes
            .iter()
            .position(|(key, _)| key == "service.name");
        if let Some(at) = at {
            otlp.service = otlp.attributes.remove(at).1;
        }
        let service = self.environment.get("OTEL_SERVICE_NAME").map(str::to_owned);
        set(&mut otlp.service, service);
        let millis = |text: &str| text.parse().ok().map(Duration::from_millis);
        let number = "must be a number of milliseconds";
        let every = self.variable("OTEL_METRIC_EXPORT_INTERVAL", number, millis);
        set(&mut otlp.every, every);
        let timeout = self.variable("OTEL_EXPORTER_OTLP_TIMEOUT", number, millis);
        set(&mut otlp.timeout, timeout);
        let sample = self.variable("OTEL_TRACES_SAMPLER_ARG", PART, fraction);
        match self.environment.get("OTEL_TRACES_SAMPLER").map(str::trim) {
            Some("always_off" | "parentbased_always_off") => otlp.sample = 0.0,
            Some("traceidratio" | "parentbased_traceidratio") => set(&mut otlp.sample, sample),
            _ => {}
        }
        const CONTENT: &str = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT";
        let content = self.boolean(CONTENT);
        set(&mut otlp.content, content);
        telemetry.otlp = Some(otlp);
    }

    fn langfuse(&mut self, telemetry: &mut Telemetry) {
        const ENABLED: &str = "LANGFUSE_ENABLED";
        let is_on = self.boolean(ENABLED);
        if is_on == Some(false) {
            telemetry.langfuse = None;
        }
        if is_on.is_none() && telemetry.langfuse.is_none() {
            self.without_effect("LANGFUSE_", ENABLED);
        }
        let key = |name| self.environment.get(name).map(|key| key.trim().to_owned());
        let (public, secret) = (key("LANGFUSE_PUBLIC_KEY"), key("LANGFUSE_SECRET_KEY"));
        if is_on == Some(true) && telemetry.langfuse.is_none() {
            let (Some(public), Some(secret)) = (&public, &secret) else {
                let why = "Langfuse is told nothing: LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY are needed";
                self.findings.warn(ENABLED, why);
                return;
            };
            let secret = Secret::new(secret.clone());
            telemetry.langfuse = Some(Langfuse::new(public.clone(), secret));
        }
        let Some(langfuse) = &mut telemetry.langfuse else {
            return;
        };
        set(&mut langfuse.public_key, public);
        set(&mut langfuse.secret_key, secret.map(Secret::new));
        let host = |text: &str| uri(text, "");
        let base = self.variable("LANGFUSE_BASE_URL", ADDRESS, host);
        let host = self.variable("LANGFUSE_HOST", ADDRESS, host);
        set(&mut langfuse.host, host.or(base));
        let sample = self.variable("LANGFUSE_SAMPLE_RATE", PART, fraction);
        set(&mut langfuse.sample, sample);
        let seconds = "must be a number of seconds above zero";
        let patience = |text: &str| values::duration(text).filter(|time| !time.is_zero());
        let flush = self.variable("LANGFUSE_FLUSH_INTERVAL", seconds, patience);
        set(&mut langfuse.flush, flush);
        let content = self.boolean("LANGFUSE_CONTENT");
        set(&mut langfuse.content, content);
        let text = |name| self.environment.get(name).map(str::to_owned);
        let environment = text("LANGFUSE_TRACING_ENVIRONMENT");
        langfuse.environment = environment.or(langfuse.environment.take());
        langfuse.release = text("LANGFUSE_RELEASE").or(langfuse.release.take());
    }

    fn is(&self, name: &str, word: &str) -> bool {
        self.environment.get(name).map(str::trim) == Some(word)
    }

    fn is_true(&self, name: &str) -> bool {
        self.environment.get(name).and_then(values::boolean) == Some(true)
    }
}

/// `key=value,key=value`, with `%20` and the like in values.
fn list(text: &str) -> Option<Vec<(String, String)>> {
    let parts = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    let pair = |part: &str| {
        let (key, value) = part.split_once('=')?;
        let value = percent_encoding::percent_decode_str(value.trim()).decode_utf8();
        Some((key.trim().to_owned(), value.ok()?.into_owned()))
    };
    parts.map(pair).collect()
}
