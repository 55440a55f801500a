//! SMCP: how calls that start outside the daemon, and the inner loop's own, are signed and checked (contract, section 5).
//!
//! [`checks`] reads like the protocol's list: [`checks::parse`], [`checks::authenticate`], [`checks::verify`],
//! [`checks::admit`], each taking what the one before gave, so that none can be left out or come too early. What must
//! be looked up between two of them (the session, the nonce) is the caller's; time and seeds come in as values.

pub mod attestation;
pub mod checks;
mod envelope;
mod error;
mod kernel_signer;
pub mod strict_json;
mod token;

pub use envelope::{ENVELOPE_BYTES_MAX, Envelope, NONCE_KEPT_SECONDS, Protocol, RequestId, Signer, success};
pub use error::{SmcpCode, SmcpError};
pub use kernel_signer::{KernelCall, KernelSigner};
pub use token::{Claims, Grant, KeyRing, TOKEN_SECONDS_DEFAULT, TOKEN_SECONDS_MAX, TokenError, VerifyingKey};
