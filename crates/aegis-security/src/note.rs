//! Signed notes: C2SP `signed-note`, with Ed25519 (signature type 0x01) alone.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::commitment::sha256;
use crate::signature::{self, PUBLIC_KEY_BYTES, SIGNATURE_BYTES, SigningKey};

/// Largest note that is read, in bytes.
pub const NOTE_BYTES_MAX: usize = 64 << 10;
/// Most signatures on a note that is read.
pub const SIGNATURES_MAX: usize = 100;

/// The byte that says "Ed25519" in key ids and encoded keys.
const TYPE_ED25519: u8 = 0x01;
/// What each signature line begins with.
const SIGNATURE_MARK: &str = "— ";

/// A note or key that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not of the form of a signed note.
    #[error("malformed note: {0}")]
    Malformed(&'static str),
    /// A key's text or name is wrong.
    #[error("malformed key: {0}")]
    Key(&'static str),
    /// No signature of the key.
    #[error("the note is not signed by the key `{0}`")]
    Unsigned(String),
    /// A signature that claims to be the key's and is not.
    #[error("the signature of the key `{0}` on the note is wrong")]
    Forged(String),
}

/// A public key under a name; its text form is `NAME+KEYID+BASE64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteKey {
    name: String,
    key: [u8; PUBLIC_KEY_BYTES],
}

impl NoteKey {
    /// The key `key` called `name`.
    ///
    /// # Errors
    ///
    /// A name is not empty and holds no white space, control character or `+`; a key is a usable point.
    pub fn new(name: &str, key: [u8; PUBLIC_KEY_BYTES]) -> Result<Self, NoteError> {
        if !is_key_name(name) {
            return Err(NoteError::Key(
                "a name must not be empty or hold white space, control characters or `+`",
            ));
        }
        if !signature::is_usable_key(&key) {
            return Err(NoteError::Key("it is not a valid Ed25519 key"));
        }
        Ok(Self { name: name.to_owned(), key })
    }
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The raw public key.
    pub fn public_key(&self) -> &[u8; PUBLIC_KEY_BYTES] {
        &self.key
    }
    /// The first four bytes of SHA-256(name ‖ 0x0A ‖ 0x01 ‖ key).
    pub fn id(&self) -> [u8; 4] {
        let hashed = [self.name.as_bytes(), b"\n", &[TYPE_ED25519], &self.key].concat();
        let [a, b, c, d, ..] = *sha256(&hashed).as_bytes();
        [a, b, c, d]
    }
}

impl fmt::Display for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoded = STANDARD.encode([&[TYPE_ED25519], &self.key[..]].concat());
        write!(f, "{}+{:08x}+{encoded}", self.name, u32::from_be_bytes(self.id()))
    }
}

impl FromStr for NoteKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        // The encoded key may hold a `+` of its own.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(encoded)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key("expected NAME+KEYID+BASE64"));
        };
        let decoded = STANDARD.decode(encoded).map_err(|_| NoteError::Key("it is not base64"))?;
        let Some((&TYPE_ED25519, key)) = decoded.split_first() else {
            return Err(NoteError::Key("only Ed25519 keys are used"));
        };
        let key = key.try_into().map_err(|_| NoteError::Key("an Ed25519 key has 32 bytes"))?;
        let key = Self::new(name, key)?;
        if id == format!("{:08x}", u32::from_be_bytes(key.id())) {
            Ok(key)
        } else {
            Err(NoteError::Key("its id does not fit its name and bytes"))
        }
    }
}

fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
}

/// Signs `text` under `name`; gives the whole note.
///
/// # Errors
///
/// A text ends in a newline and holds no other control character; a name is as in [`NoteKey::new`].
pub fn sign(text: &str, name: &str, key: &SigningKey) -> Result<String, NoteError> {
    check_characters(text)?;
    if !text.ends_with('\n') {
        return Err(NoteError::Malformed("the text does not end in a newline"));
    }
    let id = NoteKey::new(name, key.public_key())?.id();
    let signature = STANDARD.encode([&id[..], &key.sign(text.as_bytes())[..]].concat());
    Ok(format!("{text}\n{SIGNATURE_MARK}{name} {signature}\n"))
}

/// The text of a note that `key` signed. Signatures of other keys are ignored.
///
/// # Errors
///
/// Fails if the note is malformed, not signed by the key, or any signature under the key's name and id is wrong.
pub fn open<'note>(note: &'note str, key: &NoteKey) -> Result<&'note str, NoteError> {
    let (text, lines) = split(note)?;
    let mut signed = false;
    for line in lines {
        let (name, id, signature) = parse_line(line)?;
        if name != key.name || id != key.id() {
            continue;
        }
        let forged = || NoteError::Forged(key.name.clone());
        let signature: [u8; SIGNATURE_BYTES] = signature.try_into().map_err(|_| forged())?;
        signature::verify(&key.key, text.as_bytes(), &signature).map_err(|_| forged())?;
        signed = true;
    }
    if signed { Ok(text) } else { Err(NoteError::Unsigned(key.name.clone())) }
}

/// The text, with its final newline, and the signature lines.
fn split(note: &str) -> Result<(&str, Vec<&str>), NoteError> {
    if note.len() > NOTE_BYTES_MAX {
        return Err(NoteError::Malformed("it is too long"));
    }
    check_characters(note)?;
    let blank = note.rfind("\n\n").ok_or(NoteError::Malformed("no blank line before the signatures"))?;
    let (text, signatures) =
        note.split_at_checked(blank + 1).ok_or(NoteError::Malformed("no text before the signatures"))?;
    let signatures = signatures
        .strip_prefix('\n')
        .and_then(|rest| rest.strip_suffix('\n'))
        .ok_or(NoteError::Malformed("the last line does not end in a newline"))?;
    let lines: Vec<&str> = signatures.split('\n').collect();
    if lines.len() > SIGNATURES_MAX {
        return Err(NoteError::Malformed("it has too many signatures"));
    }
    Ok((text, lines))
}

fn parse_line(line: &str) -> Result<(&str, [u8; 4], Vec<u8>), NoteError> {
    let wrong = || NoteError::Malformed("a signature line is not `— NAME BASE64`");
    let (name, encoded) =
        line.strip_prefix(SIGNATURE_MARK).and_then(|rest| rest.split_once(' ')).ok_or_else(wrong)?;
    let decoded = STANDARD.decode(encoded).map_err(|_| wrong())?;
    let (id, signature) = decoded.split_first_chunk::<4>().ok_or_else(wrong)?;
    if !is_key_name(name) || signature.is_empty() {
        return Err(wrong());
    }
    Ok((name, *id, signature.to_vec()))
}

fn check_characters(text: &str) -> Result<(), NoteError> {
    if text.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
        return Err(NoteError::Malformed("it holds a control character"));
    }
    Ok(())
}
