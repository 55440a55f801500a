//! The keys of security tokens on disk: `keys/smcp.json`, mode 0600. Without it every session is void, and nothing else
//! is lost.

use std::path::{Path, PathBuf};

use aegis_core::{Diagnosis, Timestamp};
use aegis_kernel::TokenKeys;
use aegis_kernel::port::{Clock, Ids};
use aegis_manifest::node::Smcp;
use aegis_security::signature::{SEED_BYTES, SigningKey};
use aegis_security::smcp::{KeyRing, TokenError, VerifyingKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::private_file::stage;

const FILE: &str = "smcp.json";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    /// Issuer and audience of tokens; made once.
    node: String,
    /// The seed that signs now, base64.
    current: String,
    /// Keys whose tokens may still be valid.
    former: Vec<Former>,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.current.zeroize();
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Former {
    public_key: String,
    /// Microseconds since the epoch.
    not_after: i64,
}

/// Reads the keys of a data folder, or makes the first.
pub(crate) fn open(
    home: &Path,
    smcp: Option<&Smcp>,
    clock: &dyn Clock,
    ids: &dyn Ids,
) -> Result<TokenKeys, Diagnosis> {
    let path = path(home);
    let mut stored = match std::fs::read(&path) {
        Ok(bytes) => {
            let bytes = Zeroizing::new(bytes);
            serde_json::from_slice(&bytes).map_err(|error| failed(&path, &error))?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let seed = seed(ids);
            let node = format!("aegis:{}", ids.uuid());
            let first = Stored { node, current: STANDARD.encode(*seed), former: Vec::new() };
            write(&path, &first).map_err(|error| failed(&path, &error))?;
            first
        }
        Err(error) => return Err(failed(&path, &error)),
    };
    let now = clock.now();
    stored.former.retain(|former| now < Timestamp::from_micros(former.not_after));
    let current = Zeroizing::new(key(&path, &stored.current)?);
    let former = stored.former.iter().map(|former| {
        let public_key = key(&path, &former.public_key)?;
        Ok(VerifyingKey { public_key, not_after: Timestamp::from_micros(former.not_after) })
    });
    let former = former.collect::<Result<Vec<_>, Diagnosis>>()?;
    let ring = KeyRing::new(stored.node.clone(), SigningKey::from_seed(&current), former);
    let (issuer, audience) =
        smcp.map(|smcp| (smcp.issuer.clone(), smcp.audience.clone())).unwrap_or_default();
    ring.map(|ring| TokenKeys::new(ring.known_as(issuer, audience))).map_err(|error| failed(&path, &error))
}

/// Signs with a new key from now on; the former is kept until its tokens are over. Gives the new key's id.
pub(crate) fn rotate(
    home: &Path,
    tokens: &TokenKeys,
    clock: &dyn Clock,
    ids: &dyn Ids,
) -> Result<String, Diagnosis> {
    let path = path(home);
    let now = clock.now();
    let seed = seed(ids);
    let next = (SigningKey::from_seed(&seed), &*seed);
    tokens
        .rotate(next, now, |seed, former| {
            let bytes = Zeroizing::new(std::fs::read(&path).map_err(Fault::Io)?);
            let mut stored: Stored = serde_json::from_slice(&bytes).map_err(Fault::Form)?;
            stored.former.retain(|former| now < Timestamp::from_micros(former.not_after));
            let public_key = STANDARD.encode(former.public_key);
            stored.former.push(Former { public_key, not_after: former.not_after.micros() });
            stored.current.zeroize();
            stored.current = STANDARD.encode(seed);
            write(&path, &stored).map_err(Fault::Io)
        })
        .map_err(|fault: Fault| failed(&path, &fault))
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Io(std::io::Error),
    #[error(transparent)]
    Form(serde_json::Error),
    #[error(transparent)]
    Ring(#[from] TokenError),
}

fn path(home: &Path) -> PathBuf {
    home.join("keys").join(FILE)
}

fn seed(ids: &dyn Ids) -> Zeroizing<[u8; SEED_BYTES]> {
    let mut seed = Zeroizing::new([0u8; SEED_BYTES]);
    ids.fill(seed.as_mut());
    seed
}

fn key(path: &Path, text: &str) -> Result<[u8; 32], Diagnosis> {
    let bytes = STANDARD.decode(text).map(Zeroizing::new).ok();
    let key = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
    key.ok_or_else(|| failed(path, &"a key in it is not base64 of 32 bytes"))
}

fn write(path: &Path, stored: &Stored) -> std::io::Result<()> {
    let text = Zeroizing::new(serde_json::to_vec(stored)?);
    stage(path, &text)?.put()
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> Diagnosis {
    Diagnosis::internal(format!("the keys of security tokens, `{}`: {error}", path.display()))
        .hint("remove the file and start again: a new key is made, and open sessions are void")
}

#[cfg(test)]
mod tests {
    use aegis_security::smcp::{Grant, SmcpCode};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::system::{SystemClock, SystemIds};

    fn grant() -> Grant {
        Grant {
            subject: "a".into(),
            scope: "default".into(),
            workload: "e/0".into(),
            session: "s".into(),
            seconds: 60,
        }
    }

    #[test]
    fn tokens_outlive_a_restart_and_a_rotation_and_no_other_node_takes_them() {
        let (clock, ids) = (SystemClock::new(), SystemIds);
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("keys")).unwrap();
        let first = open(home.path(), None, &clock, &ids).unwrap();
        let mode = std::fs::metadata(path(home.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (token, _) = first.with(|keys| keys.issue(&grant(), clock.now())).unwrap();
        let former = first.with(|keys| keys.key_id().to_owned());
        let rotated = rotate(home.path(), &first, &clock, &ids).unwrap();
        assert_ne!(rotated, former);
        for keys in [first, open(home.path(), None, &clock, &ids).unwrap()] {
            assert_eq!(keys.with(|keys| keys.key_id().to_owned()), rotated);
            assert!(keys.with(|keys| keys.verify(&token, clock.now())).is_ok());
        }
        let elsewhere = tempfile::tempdir().unwrap();
        std::fs::create_dir(elsewhere.path().join("keys")).unwrap();
        let other = open(elsewhere.path(), None, &clock, &ids).unwrap();
        let refused = other.with(|keys| keys.verify(&token, clock.now())).unwrap_err();
        assert_eq!(refused.code, SmcpCode::InvalidToken);
    }

    #[test]
    fn issuer_and_audience_are_the_configurations() {
        let (clock, ids) = (SystemClock::new(), SystemIds);
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("keys")).unwrap();
        let smcp =
            Smcp { issuer: Some("issuer".into()), audience: Some("audience".into()), ..Smcp::default() };
        let named = open(home.path(), Some(&smcp), &clock, &ids).unwrap();
        let (token, claims) = named.with(|keys| keys.issue(&grant(), clock.now())).unwrap();
        assert_eq!((claims.issuer.as_str(), claims.audience.as_str()), ("issuer", "audience"));
        assert!(named.with(|keys| keys.verify(&token, clock.now())).is_ok());
        // The same key, and another audience.
        let other = Smcp { audience: Some("other".into()), ..smcp };
        let other = open(home.path(), Some(&other), &clock, &ids).unwrap();
        let refused = other.with(|keys| keys.verify(&token, clock.now())).unwrap_err();
        assert_eq!(refused.code, SmcpCode::InvalidToken);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_a_new_key() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("keys")).unwrap();
        std::fs::write(path(home.path()), "{}").unwrap();
        assert!(open(home.path(), None, &SystemClock::new(), &SystemIds).is_err());
    }
}
