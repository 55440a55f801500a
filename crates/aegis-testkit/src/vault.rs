//! A server that speaks as `OpenBao` and Vault do, written from their published API: KV v2, `AppRole`, tokens.
//!
//! Sources: `openbao.org/api-docs/secret/kv/kv-v2`, `auth/approle`, `auth/token`, and its page on errors and status codes.

mod server;

pub use server::{VaultOptions, VaultServer};
