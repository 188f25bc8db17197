//! The client half: reading requests, writing answers and streams.

mod message;
mod request;
mod response;
mod stream;

pub(crate) use request::{decode, grammar, member as decode_member, thinking};
pub(crate) use response::{ExtraContent, Token, data_url, encode};
pub(crate) use stream::Encoder;
