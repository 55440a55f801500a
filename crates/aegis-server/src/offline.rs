//! What is done on a data folder without a daemon.

use std::path::Path;
use std::sync::Arc;

use aegis_core::{Diagnosis, ErrorCode};

pub use aegis_store::VerifyReport;
use aegis_store::{OpenOptions, Store, VerifyOptions};

use crate::compose::store_failed;
use crate::system::{SystemClock, SystemIds};

/// Checks the whole record: events, heads, blobs and projections. Changes nothing; a daemon may run meanwhile.
/// `checkpoint` is a copy of the checkpoint file that was kept elsewhere.
///
/// # Errors
/// Only if nothing can be checked. Damage is in the report.
pub async fn verify(folder: &Path, checkpoint: Option<&Path>) -> Result<VerifyReport, Diagnosis> {
    let checkpoint_copy = match checkpoint {
        Some(path) => Some(std::fs::read_to_string(path).map_err(|error| {
            Diagnosis::new(ErrorCode::InvalidInput, format!("`{}`: {error}", path.display()))
        })?),
        None => None,
    };
    let options = VerifyOptions {
        folder: folder.to_owned(),
        checkpoint_copy,
        public_key: None,
        blobs: true,
        deep: true,
    };
    aegis_store::verify(&options).await.map_err(store_failed)
}

/// Makes the projections anew from the events.
///
/// # Errors
/// If a daemon uses the folder, or an event cannot be read.
pub async fn rebuild(folder: &Path) -> Result<(), Diagnosis> {
    let store = open(folder).await?;
    let done = store.rebuild().await;
    close(store).await?;
    done.map_err(|error| Diagnosis::internal(error.to_string()))
}

/// Moves the events before `before` into an archive; gives its name, or `None` if there was nothing to move.
///
/// # Errors
/// If a daemon uses the folder, or a file cannot be read or written.
pub async fn archive(folder: &Path, before: u64) -> Result<Option<String>, Diagnosis> {
    let store = open(folder).await?;
    let done = store.archive(before).await;
    close(store).await?;
    done.map_err(|error| Diagnosis::internal(error.to_string()))
}

/// Writes all events with what is needed to check them elsewhere; gives how many.
///
/// # Errors
/// If a daemon uses the folder, or the file is there already or cannot be written.
pub async fn export(folder: &Path, to: &Path) -> Result<u64, Diagnosis> {
    let mut file = std::fs::File::create_new(to).map_err(|error| {
        Diagnosis::new(ErrorCode::InvalidInput, format!("`{}`: {error}", to.display()))
            .hint("choose a new file")
    })?;
    let store = open(folder).await?;
    let done = store.export(0..u64::MAX, &mut file).await;
    close(store).await?;
    let header = done.map_err(|error| Diagnosis::internal(error.to_string()))?;
    file.sync_all().map_err(|error| Diagnosis::internal(format!("`{}`: {error}", to.display())))?;
    Ok(header.next - header.first)
}

/// Copies the journal, without its keys.
///
/// # Errors
/// If a daemon uses the folder, or the copy cannot be written.
pub async fn backup(folder: &Path, to: &Path) -> Result<(), Diagnosis> {
    let store = open(folder).await?;
    let done = store.backup(to).await;
    close(store).await?;
    done.map_err(|error| Diagnosis::internal(error.to_string()))
}

async fn open(folder: &Path) -> Result<Store, Diagnosis> {
    if !folder.join("journal.db").exists() {
        return Err(Diagnosis::new(ErrorCode::NotFound, format!("no journal in `{}`", folder.display()))
            .hint("give the data folder of a daemon with `--data`"));
    }
    let options = OpenOptions::new(folder, Arc::new(SystemClock::new()), Arc::new(SystemIds));
    Store::open(options).await.map_err(store_failed)
}

async fn close(store: Store) -> Result<(), Diagnosis> {
    store.close().await.map_err(|error| Diagnosis::internal(error.to_string()))
}
