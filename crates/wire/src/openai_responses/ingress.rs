//! The client half: reading requests, writing answers and streams.

mod input;
mod output;
mod request;
mod response;
mod stream;

pub(crate) use request::{decode, flat_name};
pub(crate) use response::encode;
pub(crate) use stream::Encoder;
