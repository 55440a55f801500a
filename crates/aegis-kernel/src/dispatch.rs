//! The dispatch protocol between bootstrap and daemon (contract, section 4): strictly alternating messages on the
//! generation's one control connection. What comes up is a claim; the driver compares it with what it knows.

mod channel;
mod message;

pub(crate) use channel::{Channel, Exchange};
pub(crate) use message::{Down, Up};
