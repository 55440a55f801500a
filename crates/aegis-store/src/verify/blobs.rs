//! Blobs: each one an event commits to is there and matches, or was destroyed on record.

use std::collections::HashSet;

use aegis_core::{BlobId, Sha256, StreamId};
use serde_json::Value;
use sqlx::{Row, SqliteConnection};

use super::envelopes::Envelopes;
use super::report::{Damage, VerifyReport};
use crate::error::OpenError;
use crate::folder::Folder;
use crate::keys::KeyRing;
use crate::leaves::{Archive, segments};
use crate::seal::open_blob;
use crate::writer::WORKING;

/// Rows read at once.
const PIECE: i64 = 512;

pub(super) async fn check(
    connection: &mut SqliteConnection,
    folder: &Folder,
    report: &mut VerifyReport,
) -> Result<(), OpenError> {
    let keys = KeyRing::open_existing(folder).await?;
    let mut archive = Archive::new(folder, segments(connection).await?);
    let mut seen = HashSet::new();
    let mut envelopes = Envelopes::default();
    let mut destruction = Destruction::default();
    let mut after: i64 = -1;
    loop {
        let rows = sqlx::query("SELECT seq, leaf FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2")
            .bind(after)
            .bind(PIECE)
            .fetch_all(&mut *connection)
            .await?;
        let Some(last) = rows.last() else { break };
        after = last.try_get(0)?;
        for row in &rows {
            let seq = row.try_get::<i64, _>(0)?.cast_unsigned();
            let leaf = match row.try_get::<Option<Vec<u8>>, _>(1)? {
                Some(leaf) => leaf,
                None => archive.leaf(seq).unwrap_or_default(),
            };
            // An event that does not parse was named already.
            let Ok(leaf) = serde_json::from_slice::<Value>(&leaf) else { continue };
            destruction.note(&leaf);
            let mut references = Vec::new();
            collect(&leaf, &mut references);
            let signed = envelopes.of(&leaf);
            let homes = homes(&leaf);
            for (id, commitment) in references {
                if seen.insert((id, commitment)) {
                    let looked =
                        check_one(connection, keys.as_ref(), (id, seq, &homes), &commitment, report).await?;
                    if let Some(signed) = signed.as_ref().filter(|signed| signed.text == id) {
                        let text =
                            if let Looked::Opened(text) = &looked { Some(text.as_slice()) } else { None };
                        envelopes.check(signed, seq, text, report);
                    }
                    if let Looked::Destroyed { stream, copy } = looked {
                        destruction.found.push((id, seq, stream, copy));
                    }
                }
            }
        }
    }
    if let Some(keys) = keys {
        keys.close().await;
    }
    destruction.report(report);
    if report.blobs_unchecked > 0 {
        let missing = folder.missing_key_file();
        report.keys_missing = missing.map(|path| path.display().to_string());
    }
    Ok(())
}

/// What was destroyed, and what events say was.
#[derive(Default)]
struct Destruction {
    /// Streams whose working copies an event says were destroyed.
    said: HashSet<String>,
    /// Destroyed blobs, the event that commits to each, its stream, and which copy it was.
    found: Vec<(BlobId, u64, String, i64)>,
}

impl Destruction {
    fn note(&mut self, leaf: &Value) {
        let kind = leaf.get("kind").and_then(Value::as_str);
        if kind == Some("execution.working_copies_destroyed")
            && let Some(stream) = leaf.get("stream").and_then(Value::as_str)
        {
            self.said.insert(stream.to_owned());
        }
    }

    /// Evidence is never destroyed; working copies are with their run, which says so, or with their volume.
    fn report(self, report: &mut VerifyReport) {
        for (id, seq, stream, copy) in self.found {
            let said = copy == WORKING && (!stream.starts_with("execution/") || self.said.contains(&stream));
            if said {
                report.blobs_destroyed += 1;
            } else {
                report.found(Damage::BlobDestroyedUnsaid { id, seq });
            }
        }
    }
}

/// Where the blobs of an event lie: in its own stream, and the document that a run runs in its agent's.
fn homes(leaf: &Value) -> [String; 2] {
    let own = leaf.get("stream").and_then(Value::as_str).unwrap_or_default().to_owned();
    let created = leaf.get("kind").and_then(Value::as_str) == Some("execution.created");
    let agent = leaf.pointer("/body/agent").and_then(Value::as_str);
    let agent = agent.filter(|_| created).and_then(|agent| Some(StreamId::Agent(agent.parse().ok()?)));
    [agent.map_or_else(|| own.clone(), |agent| agent.to_string()), own]
}

/// Every object that is a reference: it has an id and a commitment.
fn collect(value: &Value, references: &mut Vec<(BlobId, Sha256)>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| collect(value, references)),
        Value::Object(fields) => {
            let text = |name| fields.get(name).and_then(Value::as_str);
            if let (Some(id), Some(commitment)) = (text("id"), text("commitment"))
                && let (Ok(id), Ok(commitment)) = (id.parse(), commitment.parse())
            {
                references.push((id, commitment));
            }
            fields.values().for_each(|value| collect(value, references));
        }
        _ => {}
    }
}

/// What looking at a blob gave.
enum Looked {
    /// Its bytes, which match.
    Opened(Vec<u8>),
    /// It was destroyed: its stream, and which copy it was.
    Destroyed { stream: String, copy: i64 },
    /// Nothing to go on with; the report says why.
    Nothing,
}

async fn check_one(
    connection: &mut SqliteConnection,
    keys: Option<&KeyRing>,
    (id, seq, homes): (BlobId, u64, &[String; 2]),
    commitment: &Sha256,
    report: &mut VerifyReport,
) -> Result<Looked, OpenError> {
    let [one, other] = homes;
    // The copies are named so that the index serves.
    let row = sqlx::query(
        "SELECT b.sealed, b.stream, k.key, k.destroyed_at, b.copy FROM blobs b \
         LEFT JOIN stream_keys k ON k.stream = b.stream AND k.copy = b.copy \
         WHERE b.stream IN (?2, ?3) AND b.copy IN (0, 1) AND b.id = ?1",
    )
    .bind(id.uuid().as_bytes().to_vec())
    .bind(one.clone())
    .bind(other.clone())
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else {
        report.found(Damage::BlobMissing { id, seq });
        return Ok(Looked::Nothing);
    };
    if row.try_get::<Option<i64>, _>(3)?.is_some() {
        return Ok(Looked::Destroyed { stream: row.try_get(1)?, copy: row.try_get(4)? });
    }
    let Some(keys) = keys else {
        report.blobs_unchecked += 1;
        return Ok(Looked::Nothing);
    };
    let key = match row.try_get::<Option<i64>, _>(2)? {
        Some(key) => keys.get(key).await?,
        None => None,
    };
    if key.is_none() && row.try_get::<i64, _>(4)? == WORKING {
        // Copies of the keys hold no keys of working copies.
        report.blobs_unchecked += 1;
        return Ok(Looked::Nothing);
    }
    let sealed: &[u8] = row.try_get(0)?;
    let opened = key.map(|key| open_blob(&key, row.try_get(1).unwrap_or_default(), id, sealed, commitment));
    match opened {
        Some(Ok(bytes)) => {
            report.blobs += 1;
            return Ok(Looked::Opened(bytes));
        }
        _ => report.found(Damage::BlobChanged { id, seq }),
    }
    Ok(Looked::Nothing)
}
