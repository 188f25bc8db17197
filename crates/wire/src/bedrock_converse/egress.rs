//! The upstream half: writing requests, reading answers and streams.

mod blocks;
mod request;
mod response;
mod stream;

pub(crate) use request::encode;
pub(crate) use response::{check, decode};
pub(crate) use stream::{Decoder, sniff};
