//! Checkpoints: C2SP `tlog-checkpoint`, and what can be checked with one offline.

use aegis_core::Sha256;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::merkle::{self, ProofError, TREE_SIZE_MAX};
use crate::note::{self, NoteError, NoteKey};
use crate::signature::SigningKey;

/// A checkpoint that cannot be used, or a proof that does not hold under one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note, its key or its signature is wrong.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The note's text is not a checkpoint.
    #[error("malformed checkpoint: {0}")]
    Malformed(&'static str),
    /// Signed, but of another log.
    #[error("the checkpoint is of the log `{found}`, not of `{expected}`")]
    Origin {
        /// The log it names.
        found: String,
        /// The log the key belongs to.
        expected: String,
    },
    /// The proof does not hold.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

/// The head of a log at one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name, which is also its key's.
    pub origin: String,
    /// How many leaves it has.
    pub size: u64,
    /// Its root hash.
    pub root: Sha256,
}

impl Checkpoint {
    /// The text that is signed: origin, size and root, each on a line.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.as_bytes()))
    }
    /// The signed note, under the log's name.
    ///
    /// # Errors
    ///
    /// Fails if the origin cannot be the name of a key.
    pub fn sign(&self, key: &SigningKey) -> Result<String, CheckpointError> {
        Ok(note::sign(&self.text(), &self.origin, key)?)
    }
    /// The checkpoint in a note that `key` signed.
    ///
    /// # Errors
    ///
    /// Fails if the note does not verify, is no checkpoint, or is of another log than the key's.
    pub fn open(note: &str, key: &NoteKey) -> Result<Self, CheckpointError> {
        let checkpoint = Self::parse(note::open(note, key)?)?;
        if checkpoint.origin != key.name() {
            return Err(CheckpointError::Origin {
                found: checkpoint.origin,
                expected: key.name().to_owned(),
            });
        }
        Ok(checkpoint)
    }
    /// Reads the text of a checkpoint. Extension lines are permitted and ignored. **Nothing is verified.**
    ///
    /// # Errors
    ///
    /// Fails if the text has another form than the specification gives.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let wrong = CheckpointError::Malformed;
        let body = text.strip_suffix('\n').ok_or(wrong("the last line does not end in a newline"))?;
        let lines: Vec<&str> = body.split('\n').collect();
        if lines.iter().any(|line| line.is_empty()) {
            return Err(wrong("a line is empty"));
        }
        let [origin, size, root, ..] = lines.as_slice() else {
            return Err(wrong("fewer than three lines"));
        };
        let canonical = |size: &u64| *size <= TREE_SIZE_MAX;
        let number: u64 = size.parse().ok().filter(canonical).ok_or(wrong("the size is not a number"))?;
        if number.to_string() != *size {
            return Err(wrong("the size has leading zeros or a sign"));
        }
        let root = STANDARD.decode(root).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let root = root.ok_or(wrong("the root is not base64 of 32 bytes"))?;
        Ok(Self { origin: (*origin).to_owned(), size: number, root: Sha256::from_bytes(root) })
    }
}

/// Checks offline that `leaf`, the exact bytes of an entry, is number `index` of the log whose checkpoint is given.
/// Answers with the checkpoint.
///
/// # Errors
///
/// Fails if the checkpoint does not verify under `key` or the proof does not lead to its root.
pub fn verify_inclusion(
    leaf: &[u8],
    index: u64,
    proof: &[Sha256],
    checkpoint: &str,
    key: &NoteKey,
) -> Result<Checkpoint, CheckpointError> {
    let head = Checkpoint::open(checkpoint, key)?;
    merkle::verify_inclusion(&merkle::leaf_hash(leaf), index, head.size, proof, &head.root)?;
    Ok(head)
}

/// Checks offline that the log of the checkpoint `new` extends the log of the checkpoint `old`. Answers with both.
///
/// # Errors
///
/// Fails if either checkpoint does not verify under `key` or the proof does not hold.
pub fn verify_consistency(
    old: &str,
    new: &str,
    proof: &[Sha256],
    key: &NoteKey,
) -> Result<(Checkpoint, Checkpoint), CheckpointError> {
    let (old, new) = (Checkpoint::open(old, key)?, Checkpoint::open(new, key)?);
    merkle::verify_consistency(old.size, &old.root, new.size, &new.root, proof)?;
    Ok((old, new))
}
