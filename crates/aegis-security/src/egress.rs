//! Where a sandbox may connect to: rules on names, ports and addresses, and what the first bytes must say.
//!
//! The order of questions: [`EgressRules::permits_name`] before the name is resolved, then
//! [`EgressRules::permits_addresses`] on everything it resolved to, then [`ClientHello`] or [`RequestHead`] on the
//! first bytes. A rule on a name never opens an address that is not public: a rule that states the range must.

mod address;
mod client_hello;
mod host;
mod request_head;
mod rule;
mod rules;

pub use address::{AddressClass, canonical_address, is_public};
pub use client_hello::{CLIENT_HELLO_BYTES_MAX, ClientHello, ClientHelloError};
pub use host::{Host, HostError};
pub use request_head::{
    BodyLength, HeadError, REQUEST_HEAD_BYTES_MAX, REQUEST_HEADERS_MAX, RequestHead, RequestTarget,
};
pub use rule::{Destination, EgressRuleError, PORTS_DEFAULT};
pub use rules::{EgressMode, EgressRules, NamePermit};
