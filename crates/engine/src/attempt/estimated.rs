//! How many tokens a request is, by our own count: where a provider has no word for the question.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use polygate_core::{Failure, Kind};
use polygate_wire::{ChatRequest, counting, ingress};
use tokio::sync::Semaphore;

use super::{Reply, aside};
use crate::body::ReplyBody;
use crate::call::Call;
use crate::count;
use crate::route::Candidate;
use crate::shape::Shape;
use crate::snapshot::Snapshot;

/// So many requests are counted at a time: each thread that counts has a memory of a mebibyte.
static ESTIMATES: Semaphore = Semaphore::const_new(2);

/// The answer to a call that counts, as it would be sent to this candidate, whom nobody asks, as one of the models that it names.
pub(crate) async fn estimated(
    snapshot: &Snapshot,
    call: &Call,
    (candidate, asked_as): (&Candidate, &str),
) -> Result<Reply, Failure> {
    let format = call.inbound.endpoint.format();
    let (Some(object), Some(ingress)) = (&call.object, ingress(format)) else {
        let message = "nobody counts in this format";
        return Err(Failure::new(Kind::Untranslatable, message));
    };
    let read = || ingress.decode_request(&counting::asked(object)?);
    let mut request = aside(object.bytes().len(), read)?;
    if let Some(cloak) = Shape::of(snapshot, call, (candidate, asked_as)).cloak {
        cloak.instruct(&mut request);
    }
    let tokens = estimate(request, candidate.model.clone()).await?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("x-polygate-estimated", HeaderValue::from_static("true"));
    Ok(Reply {
        status: StatusCode::OK,
        headers,
        body: ReplyBody::whole(counting::answer(format, tokens), None),
        guarded: call.guarded.clone(),
        failure: None,
    })
}

/// By the tokenizer, where it holds up nobody else.
async fn estimate(request: ChatRequest, model: Arc<str>) -> Result<u64, Failure> {
    let turn = ESTIMATES.acquire().await;
    let counted = tokio::task::spawn_blocking(move || {
        // It is over when the work is, whoever waits for it still.
        let _turn = turn;
        count::request(&request, &model)
    });
    counted
        .await
        .map_err(|_| Failure::new(Kind::Internal, "the tokenizer failed on this request"))
}
