//! The egress proxy: what stands behind a sandbox's door to the outside.
//!
//! One connection from inside is one tunnel or one plain request, so that the host of every request is decided on. The
//! name is permitted before it is resolved, all its addresses before one of them is connected to, and the first bytes
//! of a tunnel before they are sent.

mod answer;
mod own;
mod plain;
mod progress;
mod proxy;
mod resolve;
mod tunnel;

pub use proxy::EgressProxy;
pub use resolve::{Resolver, SystemResolver};
