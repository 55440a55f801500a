//! A tool server that demands OAuth 2.1 and the authorization server it names, on one loopback port.
//!
//! Sources: the authorization section of the Model Context Protocol (revision 2025-11-25), RFC 6749, RFC 7591, RFC 7636,
//! RFC 8414, RFC 8707, RFC 9207 and RFC 9728. The person behind the browser always agrees, unless told otherwise.

mod grants;
mod server;

pub use server::{OauthServer, OauthTricks};
