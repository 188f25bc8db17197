//! The upstream half: writing requests, reading answers and streams.

mod blocks;
mod model;
mod request;
mod response;
mod schema;
mod stream;
mod thinking;

pub(crate) use model::{Model, Takes};
pub(crate) use request::{encode, input_schema, sampling, stop_sequences};
pub(crate) use response::{check, decode};
pub(crate) use schema::{fit, is_strict};
pub(crate) use stream::{Decoder, sniff};
pub(crate) use thinking::{Thinking, plan};
