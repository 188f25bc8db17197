//! The upstream half: writing requests, reading answers and streams.

mod messages;
pub(crate) mod model;
mod request;
mod response;
mod stream;

pub(crate) use messages::titled;
pub(crate) use request::{effort_of, encode, is_tier};
pub(crate) use response::decode;
pub(crate) use stream::Decoder;
