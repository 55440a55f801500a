//! The key that seals the secrets: a file of its own, or 32 bytes the operator gives in the environment.

use std::fs;
use std::path::{Path, PathBuf};

use aegis_kernel::port::Ids;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::error::OpenError;
use crate::folder::{key_file, sync_parent, write_new};

/// The environment variable that holds the key, base64 of 32 bytes, in place of the key file.
pub const SECRETS_KEY_VARIABLE: &str = "AEGIS_SECRETS_KEY";

/// A 256-bit key, wiped when dropped.
pub(super) type Key = Zeroizing<[u8; 32]>;

/// Where the key comes from.
pub(super) enum KeySource {
    /// `keys/secrets.key`, mode 0600. While secrets are sealed anew the next key lies beside it.
    File(PathBuf),
    /// Given from outside; never written.
    Given,
}

impl KeySource {
    /// The keys to try, the likeliest first.
    pub(super) fn keys(
        folder: &Path,
        given: Option<&SecretString>,
        ids: &dyn Ids,
    ) -> Result<(Self, Vec<Key>), OpenError> {
        let path = folder.join("keys").join("secrets.key");
        if let Some(given) = given {
            let key = given_key(given).ok_or_else(|| OpenError::File {
                path: PathBuf::from(SECRETS_KEY_VARIABLE),
                reason: "expected base64 of 32 bytes, as `openssl rand -base64 32` gives".to_owned(),
            })?;
            return Ok((Self::Given, vec![key]));
        }
        let mut keys = vec![key_file(&path, |bytes| ids.fill(bytes))?];
        if next(&path).exists() {
            keys.push(key_file(&next(&path), |_| ())?);
        }
        Ok((Self::File(path), keys))
    }

    /// Keeps the next key where a crash cannot lose it.
    pub(super) fn prepare(&self, key: &Key) -> std::io::Result<()> {
        match self {
            Self::File(path) => write_new(&next(path), key.as_ref()),
            Self::Given => Ok(()),
        }
    }

    /// Makes the next key the key, if there is one.
    pub(super) fn settle(&self) -> std::io::Result<()> {
        let Self::File(path) = self else { return Ok(()) };
        match fs::rename(next(path), path) {
            Ok(()) => sync_parent(path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Drops a next key that was never used.
    pub(super) fn forget_next(&self) -> std::io::Result<()> {
        let Self::File(path) = self else { return Ok(()) };
        match fs::remove_file(next(path)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn next(path: &Path) -> PathBuf {
    path.with_file_name("secrets-next.key")
}

/// The key in a text of base64.
pub(super) fn given_key(text: &SecretString) -> Option<Key> {
    let bytes = Zeroizing::new(STANDARD.decode(text.expose_secret().trim()).ok()?);
    <[u8; 32]>::try_from(bytes.as_slice()).ok().map(Zeroizing::new)
}
