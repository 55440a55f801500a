//! Heads: the stored one, and every signed one there is.

use aegis_core::Sha256;
use aegis_security::checkpoint::Checkpoint;
use aegis_security::note::NoteKey;
use aegis_security::signature::SigningKey;
use futures_util::TryStreamExt;
use sqlx::{Row, SqliteConnection};

use super::VerifyOptions;
use super::events::Found;
use super::report::{Damage, HeadSource, VerifyReport};
use crate::checkpoint_file::notes;
use crate::error::OpenError;
use crate::folder::{Folder, key_file};
use crate::tree::split_hashes;
use crate::writer::StoredHead;

/// A head whose signature holds.
pub(super) struct Signed {
    pub(super) checkpoint: Checkpoint,
    place: HeadSource,
}

pub(super) fn public_key(options: &VerifyOptions, folder: &Folder) -> Result<[u8; 32], OpenError> {
    if let Some(key) = options.public_key {
        return Ok(key);
    }
    let path = folder.log_key();
    if !path.exists() {
        let reason = "the log's key is not here; give its public key".to_owned();
        return Err(OpenError::File { path, reason });
    }
    Ok(SigningKey::from_seed(&*key_file(&path, |_| ())?).public_key())
}

/// Every signed head, from the database, the file and the copy.
pub(super) async fn gather(
    connection: &mut SqliteConnection,
    options: &VerifyOptions,
    folder: &Folder,
    key: &[u8; 32],
    report: &mut VerifyReport,
) -> Result<Vec<Signed>, OpenError> {
    let mut signed = Vec::new();
    let stored: Vec<String> =
        sqlx::query_scalar("SELECT note FROM checkpoints ORDER BY number").fetch_all(connection).await?;
    for note in &stored {
        open(note, key, HeadSource::Database, &mut signed, report);
    }
    let file = match std::fs::read_to_string(folder.checkpoints()) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(OpenError::io("read", folder.checkpoints())(source)),
    };
    for note in notes(&file) {
        open(note, key, HeadSource::File, &mut signed, report);
    }
    if let Some(copy) = &options.checkpoint_copy {
        // A single note may come without the empty line that ends it in the file.
        let copy = format!("{}\n\n", copy.trim_end_matches('\n'));
        for note in notes(&copy) {
            open(note, key, HeadSource::Copy, &mut signed, report);
        }
    }
    report.checkpoints = signed.len() as u64;
    Ok(signed)
}

fn open(note: &str, key: &[u8; 32], place: HeadSource, signed: &mut Vec<Signed>, report: &mut VerifyReport) {
    let origin = note.lines().next().unwrap_or_default();
    let opened = NoteKey::new(origin, *key)
        .map_err(|error| error.to_string())
        .and_then(|key| Checkpoint::open(note, &key).map_err(|error| error.to_string()));
    match opened {
        Ok(checkpoint) => signed.push(Signed { checkpoint, place }),
        Err(reason) => report.found(Damage::Checkpoint { place, reason }),
    }
}

pub(super) async fn compare(
    connection: &mut SqliteConnection,
    head: Option<&StoredHead>,
    signed: &[Signed],
    found: &Found,
    report: &mut VerifyReport,
) -> Result<(), OpenError> {
    let whole = found.broken_at.is_none();
    let named_before = !report.damage.is_empty();
    if whole {
        report.root = Some(found.frontier.root());
    }
    if let Some(head) = head {
        let said = head.frontier.size();
        if said > found.size {
            report.found(Damage::EventsMissing { first: found.size, last: said - 1 });
        } else if said < found.size {
            report.found(Damage::Head(format!("it is over {said} events, but {} are stored", found.size)));
        } else if whole && head.frontier != found.frontier && !named_before {
            report.found(Damage::Head("its root is not the root of the events".to_owned()));
        }
    } else if found.size > 0 && !named_before {
        report.found(Damage::Head("it is missing".to_owned()));
    }
    let mut differs = false;
    for signed in signed {
        differs |= compare_signed(signed, found, report);
    }
    if differs {
        name_replaced(connection, report).await?;
    }
    Ok(())
}

/// True if the log is not the one that was signed.
fn compare_signed(signed: &Signed, found: &Found, report: &mut VerifyReport) -> bool {
    let Signed { checkpoint: Checkpoint { origin, size, root }, place } = signed;
    let epoch = found.epochs.iter().position(|(_, name)| name == origin);
    // What a former epoch signed beyond the place where the next one began was given up at a restore.
    let next_epoch = epoch.and_then(|epoch| found.epochs.get(epoch + 1));
    if next_epoch.is_some_and(|(next, _)| size > next) {
        report.superseded += 1;
        return false;
    }
    if *size > found.size {
        report.found(Damage::TailCut { journal: found.size, signed: *size, place: *place });
        return false;
    }
    match found.roots.get(size) {
        Some(actual) if actual != root => {
            report.found(Damage::CheckpointDiffers { size: *size, place: *place });
            true
        }
        Some(_) if epoch.is_none() => {
            let reason = format!("it is of the log `{origin}`, which no event here opened");
            report.found(Damage::Checkpoint { place: *place, reason });
            false
        }
        // Without a root, an earlier finding says what is missing.
        _ => false,
    }
}

/// Holds each event's hash against the leaf tiles, to name those that were replaced together with their hash.
async fn name_replaced(
    connection: &mut SqliteConnection,
    report: &mut VerifyReport,
) -> Result<(), OpenError> {
    let tiles: Vec<Vec<u8>> = sqlx::query_scalar("SELECT hashes FROM tiles WHERE level = 0 ORDER BY number")
        .fetch_all(&mut *connection)
        .await?;
    let mut tiles = tiles.iter().flat_map(|tile| split_hashes(tile));
    let mut rows = sqlx::query("SELECT seq, hash FROM events ORDER BY seq").fetch(connection);
    let mut next: u64 = 0;
    while let Some(row) = rows.try_next().await? {
        let seq = row.try_get::<i64, _>(0)?.cast_unsigned();
        let mut expected: Option<Sha256> = None;
        while next <= seq {
            expected = tiles.next();
            next += 1;
        }
        let Some(expected) = expected else { break };
        if row.try_get::<&[u8], _>(1)? != expected.as_bytes() {
            report.found(Damage::EventReplaced { seq });
        }
    }
    Ok(())
}
