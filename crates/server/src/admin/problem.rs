//! What is wrong with a request of the admin API, in one shape: a message, a code, and the fields that it is about.

use axum::response::{IntoResponse, Json, Response};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use polygate_store::StoreError;
use serde_json::{Value, json};

/// Why a request is refused.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
    fields: Vec<Field>,
    retry_after: Option<u64>,
    beside: Option<(&'static str, Value)>,
}

/// A field of the request, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// As it was sent: `model_mapping.fast`, `api_keys[1].weight`; empty where it is the whole.
    pub field: String,
    /// What, and what to do.
    pub message: String,
}

impl Field {
    /// Something about this field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }
}

impl Problem {
    /// Of this status and code.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            fields: Vec::new(),
            retry_after: None,
            beside: None,
        }
    }

    /// The request cannot be understood.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    /// One field is wrong.
    pub fn field(field: &str, message: impl Into<String>) -> Self {
        Self::fields(vec![Field::new(field, message)])
    }

    /// These fields are wrong.
    pub fn fields(fields: Vec<Field>) -> Self {
        let said = fields.iter().map(|one| match one.field.as_str() {
            "" => one.message.clone(),
            field => format!("{field}: {}", one.message),
        });
        let message = said.collect::<Vec<_>>().join("; ");
        Self {
            fields,
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_field", message)
        }
    }

    /// There is no such thing.
    pub fn missing(what: &str, name: &str) -> Self {
        let shown: String = name.chars().take(100).collect();
        let message = format!("there is no {what} '{shown}'");
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// What is there stands against it.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// It was changed since.
    pub fn changed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "changed", message)
    }

    /// Whoever it is may not do this.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "insufficient_role", message)
    }

    /// The same, with something beside the error.
    #[must_use]
    pub fn with(self, member: &'static str, value: Value) -> Self {
        Self {
            beside: Some((member, value)),
            ..self
        }
    }

    /// The same, to be tried again after so many seconds.
    #[must_use]
    pub fn after(self, seconds: u64) -> Self {
        Self {
            retry_after: Some(seconds),
            ..self
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => {
                tracing::warn!(%error, "an admin's request cannot be served");
                let message = "the database cannot be reached; nothing was changed by this request that the answer does not say";
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "store_unavailable",
                    message,
                )
                .after(2)
            }
            StoreError::Conflict { .. } => Self::conflict("changed", error.to_string()),
            StoreError::Refused(_) | StoreError::Corrupt(_) => {
                tracing::error!(%error, "the database does not do what an admin asks");
                let message = "the database refused this; the log says why";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "store_failed", message)
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut error = json!({"message": self.message, "code": self.code, "origin": "gateway"});
        if let [one] = self.fields.as_slice()
            && !one.field.is_empty()
        {
            error["field"] = json!(one.field);
        }
        if !self.fields.is_empty() {
            let fields = self.fields.iter();
            let fields = fields.map(|one| json!({"field": one.field, "message": one.message}));
            error["fields"] = fields.collect();
        }
        let mut body = json!({"error": error});
        if let Some((member, value)) = self.beside {
            body[member] = value;
        }
        let mut answer = (self.status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after {
            let headers = answer.headers_mut();
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        answer
    }
}
