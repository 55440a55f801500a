//! Ed25519 (RFC 8032), checked strictly: small-order keys and points are refused, so that one signature cannot pass
//! under two keys or messages.

use ed25519_dalek::{Signature, Signer, VerifyingKey};

/// Length in bytes of a seed.
pub const SEED_BYTES: usize = 32;
/// Length in bytes of a public key.
pub const PUBLIC_KEY_BYTES: usize = 32;
/// Length in bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// A signature that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The public key is not a point that may be used.
    #[error("the public key is not a valid Ed25519 key")]
    Key,
    /// The signature is not one of this key over these bytes.
    #[error("the signature does not verify")]
    Signature,
}

/// A private key. Its bytes are overwritten when it is dropped, and never shown.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key of 32 random bytes from a cryptographically secure source.
    pub fn from_seed(seed: &[u8; SEED_BYTES]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }
    /// The public half.
    pub fn public_key(&self) -> [u8; PUBLIC_KEY_BYTES] {
        self.0.verifying_key().to_bytes()
    }
    /// Signs `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(message).to_bytes()
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

/// Checks a signature of `public_key` over `message`.
///
/// # Errors
///
/// Fails if the key cannot be used or the signature does not hold.
pub fn verify(
    public_key: &[u8; PUBLIC_KEY_BYTES],
    message: &[u8],
    signature: &[u8; SIGNATURE_BYTES],
) -> Result<(), SignatureError> {
    VerifyingKey::from_bytes(public_key)
        .map_err(|_| SignatureError::Key)?
        .verify_strict(message, &Signature::from_bytes(signature))
        .map_err(|_| SignatureError::Signature)
}

/// Whether `public_key` is a point that signatures can be checked against.
pub fn is_usable_key(public_key: &[u8; PUBLIC_KEY_BYTES]) -> bool {
    VerifyingKey::from_bytes(public_key).is_ok_and(|key| !key.is_weak())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        let decoded: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        decoded.try_into().unwrap()
    }

    /// RFC 8032, section 7.1, tests 1 to 3.
    #[test]
    fn the_rfc_vectors_hold() {
        for (seed, public, message, signature) in [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                &b""[..],
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                &[0x72],
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
            ),
            (
                "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
                "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
                &[0xaf, 0x82],
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
            ),
        ] {
            let key = SigningKey::from_seed(&bytes(seed));
            assert_eq!(key.public_key(), bytes(public));
            assert_eq!(key.sign(message), bytes(signature));
            assert_eq!(verify(&bytes(public), message, &bytes(signature)), Ok(()));
            assert_eq!(verify(&bytes(public), b"other", &bytes(signature)), Err(SignatureError::Signature));
        }
    }

    /// The identity point is a public key under which `R = identity, s = 0` passes lax checks for every message.
    #[test]
    fn a_key_that_accepts_everything_is_refused() {
        let mut identity = [0u8; 32];
        identity[0] = 1;
        let mut signature = [0u8; 64];
        signature[0] = 1;
        assert_eq!(verify(&identity, b"anything", &signature), Err(SignatureError::Signature));
        assert!(!is_usable_key(&identity));
    }

    #[test]
    fn a_private_key_does_not_show_itself() {
        assert_eq!(format!("{:?}", SigningKey::from_seed(&[7; 32])), "SigningKey(…)");
    }
}
