//! The journal on SQLite: the log, its blobs and keys, and the projections read from it.
//!
//! One writer task owns the one writing connection; readers have connections of their own (WAL). SQL rows stop here.
//! What is stored can be checked without a daemon: see [`verify`].

mod archive;
mod backup;
mod blobs;
mod checkpoint_file;
mod error;
mod export;
mod folder;
mod keys;
mod leaves;
mod open;
mod projection;
mod prove;
mod query;
mod reading;
mod seal;
mod store;
mod tree;
mod verify;
mod writer;

pub use error::OpenError;
pub use export::{ExportError, ExportHeader, verify_export};
pub use open::OpenOptions;
pub use prove::InclusionProof;
pub use reading::Reading;
pub use store::Store;
pub use verify::{Damage, HeadSource, VerifyOptions, VerifyReport, verify};
