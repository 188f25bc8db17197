//! The upstream half: writing requests, reading answers and streams.

mod blocks;
mod model;
mod request;
mod response;
mod schema;
mod stream;
mod thinking;

pub(crate) use model::Model;
pub(crate) use request::encode;
pub(crate) use response::{check, decode};
pub(crate) use schema::fit;
pub(crate) use stream::{Decoder, sniff};
