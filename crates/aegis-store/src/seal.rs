//! Sealing: AES-256-GCM with random nonces, bound to where the sealed bytes lie.

use aegis_core::{BlobId, Sha256};
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;

/// Bytes that cannot be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sealed bytes do not open under their key")]
pub(crate) struct SealError;

const SALT_BYTES: usize = 32;

/// One 256-bit key.
pub(crate) struct SealKey(RandomizedNonceKey);

impl SealKey {
    pub(crate) fn new(key: &[u8; 32]) -> Result<Self, SealError> {
        RandomizedNonceKey::new(&AES_256_GCM, key).map(Self).map_err(|_| SealError)
    }
    /// The nonce, then the sealed bytes with their tag.
    pub(crate) fn seal(&self, context: &[u8], mut bytes: Vec<u8>) -> Result<Vec<u8>, SealError> {
        let nonce = self.0.seal_in_place_append_tag(Aad::from(context), &mut bytes).map_err(|_| SealError)?;
        let mut sealed = Vec::with_capacity(NONCE_LEN + bytes.len());
        sealed.extend_from_slice(nonce.as_ref());
        sealed.append(&mut bytes);
        Ok(sealed)
    }
    pub(crate) fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (nonce, bytes) = sealed.split_at_checked(NONCE_LEN).ok_or(SealError)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError)?;
        let mut bytes = bytes.to_vec();
        let length =
            self.0.open_in_place(nonce, Aad::from(context), &mut bytes).map_err(|_| SealError)?.len();
        bytes.truncate(length);
        Ok(bytes)
    }
}

fn blob_context(stream: &str, id: BlobId) -> Vec<u8> {
    let mut context = Vec::with_capacity(stream.len() + 17);
    context.extend_from_slice(stream.as_bytes());
    context.push(0);
    context.extend_from_slice(id.uuid().as_bytes());
    context
}

/// Seals salt and bytes together.
pub(crate) fn seal_blob(
    key: &SealKey,
    stream: &str,
    id: BlobId,
    salt: &[u8; SALT_BYTES],
    bytes: &[u8],
) -> Result<Vec<u8>, SealError> {
    let mut plain = Vec::with_capacity(SALT_BYTES + bytes.len() + 16);
    plain.extend_from_slice(salt);
    plain.extend_from_slice(bytes);
    key.seal(&blob_context(stream, id), plain)
}

/// Opens a sealed blob and holds it against the commitment in its event.
pub(crate) fn open_blob(
    key: &SealKey,
    stream: &str,
    id: BlobId,
    sealed: &[u8],
    commitment: &Sha256,
) -> Result<Vec<u8>, SealError> {
    let mut plain = key.open(&blob_context(stream, id), sealed)?;
    if plain.len() < SALT_BYTES {
        return Err(SealError);
    }
    let bytes = plain.split_off(SALT_BYTES);
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &plain), &bytes, commitment.as_bytes())
        .map_err(|_| SealError)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commitment(salt: &[u8; 32], bytes: &[u8]) -> Sha256 {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, salt), bytes);
        Sha256::from_bytes(tag.as_ref().try_into().unwrap())
    }

    #[test]
    fn a_blob_opens_only_where_it_was_sealed() {
        let key = SealKey::new(&[7; 32]).unwrap();
        let id = BlobId::from_uuid(uuid::Uuid::from_u128(1));
        let other = BlobId::from_uuid(uuid::Uuid::from_u128(2));
        let sealed = seal_blob(&key, "fleet", id, &[9; 32], b"text").unwrap();
        let right = commitment(&[9; 32], b"text");
        assert_eq!(open_blob(&key, "fleet", id, &sealed, &right).unwrap(), b"text");
        assert!(open_blob(&key, "fleet", other, &sealed, &right).is_err());
        assert!(open_blob(&key, "agent", id, &sealed, &right).is_err());
        assert!(open_blob(&key, "fleet", id, &sealed, &commitment(&[8; 32], b"text")).is_err());
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert!(open_blob(&key, "fleet", id, &flipped, &right).is_err(), "byte {at}");
        }
    }
}
