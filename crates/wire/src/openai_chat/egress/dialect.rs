//! Members of a written request as the provider calls them, without those that it refuses.

use bytes::Bytes;
use polygate_core::Failure;

use crate::canon::{ChatRequest, Given, Losses};
use crate::raw::Edit;
use crate::{RawObject, Target};

/// Takes out what the provider refuses, each a loss where the client had said something with it, and renames the rest.
pub(crate) fn in_dialect(
    body: Bytes,
    request: &ChatRequest,
    target: &Target<'_>,
    losses: &mut Losses,
) -> Result<Bytes, Failure> {
    let quirks = target.quirks;
    if quirks.refuses.is_empty() && quirks.renames.is_empty() {
        return Ok(body);
    }
    let object = RawObject::parse(body)?;
    let mut edits: Vec<Edit<'_>> = Vec::new();
    for name in &quirks.refuses {
        if object.get(name).is_some() {
            edits.push(Edit::Remove(name));
            if let Some(at) = place_of(request, name) {
                losses.at(at);
            }
        }
    }
    for (name, own) in &quirks.renames {
        if let Some(text) = object.get(name) {
            edits.extend([Edit::Remove(name), Edit::Set(own, text)]);
        }
    }
    Ok(object.edit(&edits))
}

/// Where the client said what this member says; `None` where it said nothing.
fn place_of(request: &ChatRequest, name: &str) -> Option<String> {
    fn at<T>(given: &Option<Given<T>>) -> Option<&str> {
        given.as_ref().map(|given| given.at.as_str())
    }
    let place = match name {
        "tool_choice" => at(&request.tool_choice),
        "parallel_tool_calls" => at(&request.parallel_tool_calls),
        "max_tokens" | "max_completion_tokens" | "max_output_tokens" => at(&request.max_tokens),
        "temperature" => at(&request.temperature),
        "top_p" => at(&request.top_p),
        "top_k" => at(&request.top_k),
        "stop" => at(&request.stop),
        "seed" => at(&request.seed),
        "presence_penalty" => at(&request.presence_penalty),
        "frequency_penalty" => at(&request.frequency_penalty),
        "logprobs" | "top_logprobs" => at(&request.logprobs),
        "reasoning_effort" | "reasoning" => at(&request.thinking),
        "verbosity" => at(&request.verbosity),
        "response_format" => at(&request.output),
        "user" => at(&request.user),
        "stream_options" | "store" | "include" => None,
        other => return Some(format!("/{other}")),
    };
    place.map(str::to_owned)
}
