//! The upstream half: writing requests, reading answers and streams.

mod blocks;
mod model;
mod request;
mod response;
mod stream;
mod tools;

pub(crate) use model::Facts;
pub(crate) use request::encode;
pub(crate) use response::{check, decode};
pub(crate) use stream::{Decoder, sniff};
