//! Answers of `/v1/responses` that were given before: seen again, or forgotten.

use std::net::IpAddr;
use std::sync::Arc;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use polygate_core::{Failure, Kind};
use polygate_engine::admit::Caller;
use polygate_engine::observe::Refused;
use polygate_wire::Format;
use serde_json::json;

use crate::State;
use crate::answer::{Answer, bytes, json as answer_json};
use crate::ingress::authenticate;
use crate::render::render;
use crate::router::Given;

const FORMAT: Format = Format::OpenaiResponses;

/// What is asked of an answer.
pub async fn answer(
    state: &State,
    peer: IpAddr,
    request: &Request<Incoming>,
    id: &str,
    what: Given,
    request_id: &Arc<str>,
) -> Answer {
    let query = request.uri().query();
    let refused = |failure: &Failure| Refused::new(request.method(), request_id, failure);
    let caller = match authenticate(state, peer, request.headers(), query, FORMAT) {
        Ok(caller) => caller,
        Err(failure) => {
            state.engine.refused(refused(&failure));
            return render(&failure, FORMAT, request_id);
        }
    };
    // Another replica may have given it.
    let kept = state.engine.kept();
    kept.recall(&caller, vec![id.to_owned()]).await;
    let result = match what {
        Given::Read => read(state, &caller, id, query),
        Given::Delete => delete(state, &caller, id),
        Given::Cancel => cancel(state, &caller, id),
    };
    result.unwrap_or_else(|failure| {
        state.engine.refused(refused(&failure).by(caller.name()));
        render(&failure, FORMAT, request_id)
    })
}

fn read(state: &State, caller: &Caller, id: &str, query: Option<&str>) -> Result<Answer, Failure> {
    let kept = state.engine.kept().answer(caller, id);
    let answer = kept.ok_or_else(|| unknown(id))?;
    if query.is_some_and(|query| query.split('&').any(|pair| pair == "stream=true")) {
        let message = "the events of an answer are not kept: ask without 'stream'";
        return Err(Failure::new(Kind::InvalidRequest, message).param("stream"));
    }
    let body = answer.as_bytes().to_vec();
    Ok(bytes(StatusCode::OK, "application/json", body))
}

fn delete(state: &State, caller: &Caller, id: &str) -> Result<Answer, Failure> {
    if !state.engine.kept().forget(caller, id) {
        return Err(unknown(id));
    }
    let said = json!({"id": id, "object": "response", "deleted": true});
    Ok(answer_json(StatusCode::OK, &said))
}

/// What is kept here has been answered: nothing is in the making.
fn cancel(state: &State, caller: &Caller, id: &str) -> Result<Answer, Failure> {
    let kept = state.engine.kept().answer(caller, id);
    kept.ok_or_else(|| unknown(id))?;
    let message =
        "the answer is complete; only one that was asked for with background=true can be cancelled";
    Err(Failure::new(Kind::InvalidRequest, message))
}

fn unknown(id: &str) -> Failure {
    let shown: String = id.chars().take(100).collect();
    let message = format!(
        "Response with id '{shown}' not found: the gateway keeps the answers that it translated for this key, for a day; one that a \
         provider keeps itself is at /v1/{{model}}/responses/{shown}"
    );
    let mut failure = Failure::new(Kind::UnknownRoute, message);
    failure.param = Some("response_id".to_owned());
    failure
}
