//! Verification offline: needs the folder alone, no daemon, and changes nothing. What is wrong is named.

mod blobs;
mod envelopes;
mod events;
mod heads;
mod projections;
mod report;

use std::path::PathBuf;

use sqlx::{ConnectOptions, Connection};

use crate::error::OpenError;
use crate::folder::Folder;
use crate::open::reader_options;
use crate::writer::StoredHead;

pub use report::{Damage, HeadSource, VerifyReport};

/// What is verified.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// The data folder.
    pub folder: PathBuf,
    /// A copy of signed heads kept elsewhere, as text: names a tail that was cut together with the folder's own file.
    pub checkpoint_copy: Option<String>,
    /// The raw Ed25519 key the heads must be signed with; by default that of the folder's log key.
    pub public_key: Option<[u8; 32]>,
    /// Opens every blob and holds it against its commitment.
    pub blobs: bool,
    /// Rebuilds the projections in memory and compares them with the stored ones.
    pub deep: bool,
}

/// Verifies a data folder, which a daemon may be using.
///
/// # Errors
/// Only if nothing can be verified: no journal, no key. Damage is in the report.
pub async fn verify(options: &VerifyOptions) -> Result<VerifyReport, OpenError> {
    let folder = Folder::at(&options.folder);
    if !folder.journal().exists() {
        return Err(OpenError::File {
            path: folder.journal(),
            reason: "there is no journal here; give the data folder of a daemon".to_owned(),
        });
    }
    let public_key = heads::public_key(options, &folder)?;
    let mut connection = reader_options(&folder).connect().await?;
    // One snapshot for all that follows, even while a daemon appends.
    sqlx::query("BEGIN").execute(&mut connection).await?;
    let mut report = VerifyReport::default();
    let head = match StoredHead::read(&mut connection).await {
        Ok(Some(head)) => Some(head),
        Ok(None) => None,
        Err(OpenError::Damaged(what)) => {
            report.damage.push(Damage::Head(what));
            None
        }
        Err(other) => return Err(other),
    };
    let signed = heads::gather(&mut connection, options, &folder, &public_key, &mut report).await?;
    let sizes = signed.iter().map(|signed| signed.checkpoint.size).collect();
    let found = events::check(&mut connection, &folder, sizes, &mut report).await?;
    heads::compare(&mut connection, head.as_ref(), &signed, &found, &mut report).await?;
    if options.blobs {
        blobs::check(&mut connection, &folder, &mut report).await?;
    }
    if options.deep && report.damage.is_empty() {
        projections::check(&mut connection, &folder, &mut report).await?;
    }
    connection.close().await?;
    Ok(report)
}
