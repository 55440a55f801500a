//! The redact stage: known secrets never enter a prompt, a result or a record; personal data never the evidence.
//!
//! Secrets are looked for as they are and as [`forms`] they usually take. What is not found: a secret that was split,
//! compressed, encrypted, or encoded twice in other ways than JSON within JSON. It is the last of several walls.

mod checksum;
mod document;
mod fold;
mod forms;
mod pii;
mod secrets;
mod stream;

pub use pii::{PiiKey, PiiRules, UnknownRule};
pub use secrets::{RedactError, Redactor, SECRET_BYTES_MIN, SECRETS_MAX};
pub use stream::StreamRedactor;
