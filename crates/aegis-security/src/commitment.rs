//! Digests, and commitments that say nothing about what they commit to.

use aegis_core::Sha256;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Digest;

/// Length in bytes of the salt of a commitment.
pub const SALT_BYTES: usize = 32;

/// Length in bytes of a block of SHA-256, the unit in which HMAC takes its key (RFC 2104, section 2).
const BLOCK_BYTES: usize = 64;

/// SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> Sha256 {
    Sha256::from_bytes(sha2::Sha256::digest(bytes).into())
}

/// The commitment to `bytes`: HMAC-SHA-256 with a salt that is sealed beside the bytes. Once the salt is destroyed, the
/// commitment can no longer be tried against guesses.
pub fn commit(salt: &[u8; SALT_BYTES], bytes: &[u8]) -> Sha256 {
    // RFC 2104 fills a shorter key with zeros; a whole block cannot have a wrong length.
    let mut key = [0u8; BLOCK_BYTES];
    for (slot, byte) in key.iter_mut().zip(salt) {
        *slot = *byte;
    }
    let mut mac = Hmac::<sha2::Sha256>::new(&key.into());
    mac.update(bytes);
    Sha256::from_bytes(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4 examples.
    #[test]
    fn digests_match_the_standard() {
        assert_eq!(
            sha256(b"abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            sha256(b"").to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    /// RFC 4231, test cases 1 and 2, whose keys of 20 and 4 bytes are the same keys when filled with zeros.
    #[test]
    fn commitments_match_the_standard() {
        let mut salt = [0u8; SALT_BYTES];
        salt[..20].fill(0x0b);
        assert_eq!(
            commit(&salt, b"Hi There").to_string(),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
        let mut salt = [0u8; SALT_BYTES];
        salt[..4].copy_from_slice(b"Jefe");
        assert_eq!(
            commit(&salt, b"what do ya want for nothing?").to_string(),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn commitments_differ_by_salt_and_by_content() {
        assert_ne!(commit(&[1; SALT_BYTES], b"a"), commit(&[2; SALT_BYTES], b"a"));
        assert_ne!(commit(&[1; SALT_BYTES], b"a"), commit(&[1; SALT_BYTES], b"b"));
    }
}
