//! The lists of models, each client in its own shape.

use std::net::IpAddr;
use std::sync::Arc;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use polygate_core::{Failure, Kind};
use polygate_engine::observe::Refused;
use polygate_engine::snapshot::Snapshot;
use polygate_wire::Format;
use serde_json::{Value, json};

use crate::answer::{Answer, json as answer_json};
use crate::ingress::authenticate;
use crate::render::render;
use crate::{State, key};

use polygate_engine::catalogue::{ListedModel, list};

/// When all models were made, as far as lists are concerned: a constant, since nobody knows and SDKs want one.
const CREATED: u64 = 1_677_610_602;
const CREATED_AT: &str = "2023-02-28T18:56:42Z";

/// The list, or one model of it.
pub fn answer(
    state: &State,
    snapshot: &Snapshot,
    peer: IpAddr,
    request: &Request<Incoming>,
    gemini: bool,
    id: Option<&str>,
    request_id: &Arc<str>,
) -> Answer {
    let format = format(request, gemini);
    let caller = match authenticate(
        state,
        peer,
        request.headers(),
        request.uri().query(),
        format,
    ) {
        Ok(caller) => caller,
        Err(failure) => {
            let refused = Refused::new(request.method(), request_id, &failure);
            state.engine.refused(refused);
            return render(&failure, format, request_id);
        }
    };
    let mut models = list(snapshot);
    models.retain(|model| caller.may_use(&model.id));
    let Some(id) = id else {
        return answer_json(StatusCode::OK, &whole(format, &models));
    };
    let name = snapshot.strip(id);
    let listed = models.into_iter().find(|model| model.id == name);
    let known = listed.or_else(|| unlisted(snapshot, name).filter(|_| caller.may_use(name)));
    match known {
        Some(model) => answer_json(StatusCode::OK, &one(format, &model)),
        None => {
            let shown: String = id.chars().take(100).collect();
            let failure = Failure::new(
                Kind::UnknownModel,
                format!("there is no model '{shown}' here"),
            )
            .param("model");
            state
                .engine
                .refused(Refused::new(request.method(), request_id, &failure).by(caller.name()));
            render(&failure, format, request_id)
        }
    }
}

/// A model that a pattern or an open provider serves, though no list names it.
fn unlisted(snapshot: &Snapshot, name: &str) -> Option<ListedModel> {
    let route = snapshot.route(name)?;
    let first = route.candidates().next()?;
    Some(ListedModel {
        id: name.to_owned(),
        owned_by: first.upstream.row,
        providers: vec![first.upstream.name.clone()],
    })
}

/// Who asks: Google's clients by path or key, Anthropic's by their version header, everyone else in OpenAI's way.
fn format(request: &Request<Incoming>, gemini: bool) -> Format {
    let headers = request.headers();
    let googles_key =
        headers.contains_key("x-goog-api-key") || headers.contains_key("x-goog-api-client");
    if gemini || (googles_key && key::bearer(headers).is_none()) {
        Format::Gemini
    } else if headers.contains_key("anthropic-version") {
        Format::AnthropicMessages
    } else {
        Format::OpenaiChat
    }
}

fn whole(format: Format, models: &[ListedModel]) -> Value {
    let entries: Vec<Value> = models.iter().map(|model| one(format, model)).collect();
    match format {
        Format::Gemini => json!({"models": entries}),
        Format::AnthropicMessages => json!({
            "data": entries,
            "has_more": false,
            "first_id": models.first().map(|model| &model.id),
            "last_id": models.last().map(|model| &model.id),
        }),
        Format::OpenaiChat | Format::OpenaiResponses | Format::BedrockConverse => {
            json!({"object": "list", "data": entries})
        }
    }
}

fn one(format: Format, model: &ListedModel) -> Value {
    let id = &model.id;
    match format {
        Format::Gemini => json!({
            "name": format!("models/{id}"),
            "displayName": id,
            "supportedGenerationMethods": ["generateContent", "streamGenerateContent", "countTokens"],
        }),
        Format::AnthropicMessages => {
            json!({"type": "model", "id": id, "display_name": id, "created_at": CREATED_AT})
        }
        Format::OpenaiChat | Format::OpenaiResponses | Format::BedrockConverse => {
            json!({"id": id, "object": "model", "created": CREATED, "owned_by": model.owned_by, "providers": model.providers})
        }
    }
}
