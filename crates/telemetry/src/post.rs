//! The way to whoever is told: one request, and whether it is worth another.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use polygate_core::Secret;
use polygate_engine::config::{Encoding, Langfuse, Otlp};
use polygate_engine::transport::{Transport, UpstreamBody};
use prost::Message;

use crate::export::What;

/// No more of an answer is read.
const ANSWER: usize = 64 * 1024;

/// Langfuse shows at once what comes with this, and after minutes what does not.
const INGESTION: (HeaderName, HeaderValue) = (
    HeaderName::from_static("x-langfuse-ingestion-version"),
    HeaderValue::from_static("4"),
);

/// Where and how.
pub(crate) struct Post {
    transport: Arc<Transport>,
    uri: Uri,
    headers: HeaderMap,
    encoding: Encoding,
    timeout: Duration,
}

/// What is sent, written down.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    bytes: Bytes,
    is_traces: bool,
}

/// Why it was not taken.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It may be taken later, after this time where that was said.
    Later {
        why: String,
        after: Option<Duration>,
    },
    /// It never will.
    Never(String),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Later { why, .. } | Trouble::Never(why) => f.write_str(why),
        }
    }
}

impl Post {
    /// To this address.
    pub(crate) fn new(transport: Arc<Transport>, uri: Uri) -> Self {
        let mut headers = HeaderMap::new();
        let agent = concat!("polygate/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        Self {
            transport,
            uri,
            headers,
            encoding: Encoding::Protobuf,
            timeout: Duration::from_secs(10),
        }
    }

    /// As a collector wants it.
    pub(crate) fn of(mut self, otlp: &Otlp) -> Self {
        for (name, value) in &otlp.headers {
            if let Some(value) = secret(value.reveal()) {
                self.headers.insert(name.clone(), value);
            }
        }
        self.encoding = otlp.encoding;
        self.timeout = otlp.timeout;
        self
    }

    /// As Langfuse wants it.
    pub(crate) fn of_langfuse(mut self, own: &Langfuse) -> Self {
        let pair = Secret::new(format!("{}:{}", own.public_key, own.secret_key.reveal()));
        if let Some(value) = secret(&format!("Basic {}", STANDARD.encode(pair.reveal()))) {
            self.headers.insert(AUTHORIZATION, value);
        }
        let (name, version) = INGESTION;
        self.headers.insert(name, version);
        self.timeout = own.timeout;
        self
    }

    /// Whom it goes to.
    pub(crate) fn host(&self) -> &str {
        self.uri.host().unwrap_or_default()
    }

    /// What is sent, written down.
    pub(crate) fn body(&self, what: &What) -> Body {
        let bytes = match (self.encoding, what) {
            (Encoding::Protobuf, What::Traces(request)) => request.encode_to_vec(),
            (Encoding::Protobuf, What::Metrics(request)) => request.encode_to_vec(),
            (Encoding::Json, What::Traces(request)) => json(request),
            (Encoding::Json, What::Metrics(request)) => json(request),
        };
        Body {
            bytes: bytes.into(),
            is_traces: matches!(what, What::Traces(_)),
        }
    }

    /// Sends it once; how many of its spans or measurements were refused.
    pub(crate) async fn send(&self, body: Body) -> Result<u64, Trouble> {
        let answered = tokio::time::timeout(self.timeout, self.exchange(body));
        answered.await.unwrap_or_else(|_| {
            Err(Trouble::Later {
                why: "there was no answer in time".to_owned(),
                after: None,
            })
        })
    }

    async fn exchange(&self, body: Body) -> Result<u64, Trouble> {
        let mut request = Request::new(UpstreamBody::from(body.bytes));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let kind = match self.encoding {
            Encoding::Protobuf => "application/x-protobuf",
            Encoding::Json => "application/json",
        };
        let kind = HeaderValue::from_static(kind);
        request.headers_mut().insert(CONTENT_TYPE, kind);
        let later = |why: String| Trouble::Later { why, after: None };
        let sent = self.transport.send(request).await;
        let (head, answer) = sent.map_err(|failure| later(failure.message))?.into_parts();
        let answer = Limited::new(answer, ANSWER).collect().await;
        let answer = answer.map(|answer| answer.to_bytes()).unwrap_or_default();
        if head.status.is_success() {
            return Ok(self.refused(&answer, body.is_traces));
        }
        let why = format!("it answered {}", head.status);
        Err(match head.status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Trouble::Later {
                why,
                after: seconds(&head.headers),
            },
            _ => Trouble::Never(why),
        })
    }

    fn refused(&self, answer: &[u8], is_traces: bool) -> u64 {
        let of_traces = |answer: ExportTraceServiceResponse| {
            answer.partial_success.map(|some| some.rejected_spans)
        };
        let of_metrics = |answer: ExportMetricsServiceResponse| {
            answer.partial_success.map(|some| some.rejected_data_points)
        };
        let refused = match (self.encoding, is_traces) {
            (Encoding::Protobuf, true) => Message::decode(answer).ok().and_then(of_traces),
            (Encoding::Protobuf, false) => Message::decode(answer).ok().and_then(of_metrics),
            (Encoding::Json, _) => refused_in_json(answer),
        };
        u64::try_from(refused.unwrap_or_default()).unwrap_or_default()
    }
}

/// Numbers of 64 bits are texts in protobuf's JSON; not everybody knows.
fn refused_in_json(answer: &[u8]) -> Option<i64> {
    let answer: serde_json::Value = serde_json::from_slice(answer).ok()?;
    let partial = answer.get("partialSuccess")?;
    let mut names = ["rejectedSpans", "rejectedDataPoints"].iter();
    let said = names.find_map(|name| partial.get(name))?;
    said.as_i64().or_else(|| said.as_str()?.parse().ok())
}

fn json(request: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(request).unwrap_or_default()
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn seconds(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_json_may_be_texts() {
        for (answer, refused) in [
            (r#"{"partialSuccess":{"rejectedSpans":"2"}}"#, Some(2)),
            (r#"{"partialSuccess":{"rejectedDataPoints":3}}"#, Some(3)),
            (r#"{"partialSuccess":{}}"#, None),
            ("", None),
        ] {
            assert_eq!(refused_in_json(answer.as_bytes()), refused, "{answer}");
        }
    }
}
