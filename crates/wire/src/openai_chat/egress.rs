//! The upstream half: writing requests, reading answers and streams.

mod calls;
mod dialect;
mod messages;
pub(crate) mod model;
mod parts;
mod request;
mod response;
mod stream;
mod tags;
mod thinking;

pub(crate) use dialect::in_dialect;
pub(crate) use parts::titled;
pub(crate) use request::{encode, is_tier};
pub(crate) use response::decode;
pub(crate) use stream::Decoder;
pub(crate) use thinking::effort_of;
