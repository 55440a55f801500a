//! The journal on SQLite: the log, its blobs and keys, and the projections read from it.
//!
//! One writer task owns the one writing connection; readers have connections of their own (WAL). SQL rows stop here.
//! What is stored can be checked without a daemon: see [`verify`].

mod api_key;
mod archive;
mod backup;
mod blobs;
mod checkpoint_file;
mod door;
mod error;
mod export;
mod folder;
mod keys;
mod leaves;
mod nonce;
mod nonce_session;
mod open;
mod pin;
mod projection;
mod prove;
mod query;
mod reading;
mod seal;
mod secret;
mod store;
mod tree;
mod verify;
mod writer;

pub use api_key::{API_KEY_PREFIX, API_KEYS_MAX, ApiKey};
pub use door::{Door, DoorError};
pub use error::OpenError;
pub use export::{ExportError, ExportHeader, verify_export};
pub use nonce::{NONCE_WINDOW, NONCES_MAX};
pub use open::OpenOptions;
pub use pin::{Observed, PIN_DOCUMENT_BYTES_MAX, Pin, PinState};
pub use prove::InclusionProof;
pub use reading::Reading;
pub use secret::{
    EmbeddedOptions, EmbeddedSecrets, NodeSecrets, OpenBao, OpenBaoLogin, OpenBaoOptions, ROTATION_OVERLAP,
    SECRETS_KEY_VARIABLE, SECRETS_PER_TENANT_MAX,
};
pub use store::Store;
pub use verify::{Damage, HeadSource, VerifyOptions, VerifyReport, verify};
