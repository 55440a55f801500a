//! What is done on a data folder without a daemon.

use std::path::Path;
use std::sync::Arc;

use aegis_core::{Diagnosis, ErrorCode};

use aegis_kernel::port::JournalError;
pub use aegis_store::VerifyReport;
use aegis_store::{ExportError, ExportHeader, OpenOptions, Reading, Store, VerifyOptions};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::compose::store_failed;
use crate::system::{SystemClock, SystemIds};

/// Checks the whole record: events, heads, blobs and projections. Changes nothing; a daemon may run meanwhile.
/// `checkpoint` is a copy of the checkpoint file that was kept elsewhere; `public_key` is needed where the folder is a
/// backup without keys.
///
/// # Errors
/// Only if nothing can be checked. Damage is in the report.
pub async fn verify(
    folder: &Path,
    checkpoint: Option<&Path>,
    public_key: Option<[u8; 32]>,
) -> Result<VerifyReport, Diagnosis> {
    must_have_journal(folder)?;
    let checkpoint_copy = match checkpoint {
        Some(path) => Some(std::fs::read_to_string(path).map_err(|error| {
            Diagnosis::new(ErrorCode::InvalidInput, format!("`{}`: {error}", path.display()))
        })?),
        None => None,
    };
    let options =
        VerifyOptions { folder: folder.to_owned(), checkpoint_copy, public_key, blobs: true, deep: true };
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

/// Checks an exported file with the log's public key alone.
///
/// # Errors
/// If it cannot be read (invalid input), or is not what was signed (conflict).
pub fn verify_export(file: &Path, public_key: &[u8; 32]) -> Result<ExportHeader, Diagnosis> {
    let told =
        |code, what: &dyn std::fmt::Display| Diagnosis::new(code, format!("`{}`: {what}", file.display()));
    let opened = std::fs::File::open(file).map_err(|error| told(ErrorCode::InvalidInput, &error))?;
    aegis_store::verify_export(&mut std::io::BufReader::new(opened), public_key).map_err(|error| match &error
    {
        ExportError::Io(source) => told(ErrorCode::InvalidInput, source),
        ExportError::Malformed(_) => {
            told(ErrorCode::InvalidInput, &error).hint("is it a file of `aegis audit export`?")
        }
        _ => told(ErrorCode::Conflict, &error)
            .hint("was it exported from the log of this key? `aegis audit checkpoint` shows a node's key"),
    })
}

/// Reads the log's public key as `aegis audit checkpoint` shows it: base64 of 32 bytes, or a file that holds that.
///
/// # Errors
/// If it is neither.
pub fn public_key(text: &str) -> Result<[u8; 32], Diagnosis> {
    let key =
        |text: &str| STANDARD.decode(text.trim()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    key(text).or_else(|| key(&std::fs::read_to_string(text).ok()?)).ok_or_else(|| {
        Diagnosis::new(
            ErrorCode::InvalidInput,
            format!("`{text}` is no public key, and no file that holds one"),
        )
        .hint("give the base64 that `aegis audit checkpoint` shows")
    })
}

/// Writes all events with what is needed to check them elsewhere; gives how many. A daemon may run meanwhile.
///
/// # Errors
/// If there is no journal, or the file is there already or cannot be written.
pub async fn export(folder: &Path, to: &Path) -> Result<u64, Diagnosis> {
    let reading = read(folder).await?;
    let mut file = std::fs::File::create_new(to).map_err(|error| {
        Diagnosis::new(ErrorCode::InvalidInput, format!("`{}`: {error}", to.display()))
            .hint("choose a new file")
    })?;
    let done = {
        let mut buffered = std::io::BufWriter::new(&mut file);
        let done = reading.export(0..u64::MAX, &mut buffered).await;
        done.and_then(|header| {
            std::io::Write::flush(&mut buffered).map_err(|error| JournalError::Store(error.to_string()))?;
            Ok(header)
        })
    };
    reading.close().await;
    let header = match done {
        Ok(header) => header,
        Err(error) => {
            // Half an export is none.
            let _ = std::fs::remove_file(to);
            return Err(Diagnosis::internal(error.to_string()));
        }
    };
    file.sync_all().map_err(|error| Diagnosis::internal(format!("`{}`: {error}", to.display())))?;
    Ok(header.next - header.first)
}

/// Copies the journal, and with `keys` its data keys and the node key that opens them, each to a new file. A daemon may
/// run meanwhile.
///
/// # Errors
/// If there is no journal, or a copy is there already or cannot be written.
pub async fn backup(folder: &Path, to: &Path, keys: Option<(&Path, &Path)>) -> Result<(), Diagnosis> {
    for file in keys.iter().flat_map(|(data, node)| [data, node]) {
        if file.exists() {
            let what = format!("`{}` is there already", file.display());
            return Err(Diagnosis::new(ErrorCode::InvalidInput, what).hint("choose a new file"));
        }
    }
    if to.join("journal.db").exists() {
        let what = format!("`{}` holds a journal already", to.display());
        return Err(Diagnosis::new(ErrorCode::InvalidInput, what).hint("choose an empty folder"));
    }
    let reading = read(folder).await?;
    let mut done = reading.backup(to).await;
    if let (Ok(()), Some((data, node))) = (&done, keys) {
        done = reading.backup_keys(data, node).await;
    }
    reading.close().await;
    done.map_err(|error| Diagnosis::internal(error.to_string()))
}

async fn read(folder: &Path) -> Result<Reading, Diagnosis> {
    must_have_journal(folder)?;
    Reading::open(folder).await.map_err(store_failed)
}

fn must_have_journal(folder: &Path) -> Result<(), Diagnosis> {
    if folder.join("journal.db").exists() {
        return Ok(());
    }
    Err(Diagnosis::new(ErrorCode::NotFound, format!("no journal in `{}`", folder.display()))
        .hint("give the data folder of a daemon with `--data`"))
}

async fn open(folder: &Path) -> Result<Store, Diagnosis> {
    must_have_journal(folder)?;
    let options = OpenOptions::new(folder, Arc::new(SystemClock::new()), Arc::new(SystemIds));
    Store::open(options).await.map_err(store_failed)
}

async fn close(store: Store) -> Result<(), Diagnosis> {
    store.close().await.map_err(|error| Diagnosis::internal(error.to_string()))
}
