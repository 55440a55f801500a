//! The node's own token: who can read it is the Person `local`.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Bytes of randomness in a token.
const TOKEN_BYTES: usize = 32;
/// The token's file name in the data folder.
pub const TOKEN_FILE: &str = "token";

/// A bearer token. Never printed, never in a journal.
#[derive(Clone)]
pub(crate) struct Token(String);

impl Token {
    /// Reads the token of the data folder, or makes one (mode 0600) at the first start.
    pub(crate) fn open(home: &Path, fill: impl FnOnce(&mut [u8])) -> std::io::Result<Self> {
        let path = home.join(TOKEN_FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) if text.trim().len() >= TOKEN_BYTES => return Ok(Self(text.trim().to_owned())),
            Ok(_) => {
                let what =
                    format!("`{}` is too short for a token: remove it and start again", path.display());
                return Err(std::io::Error::new(ErrorKind::InvalidData, what));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut random = [0u8; TOKEN_BYTES];
        fill(&mut random);
        let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        // Written aside and renamed, so that no reader ever sees half a token.
        let aside = home.join(".token.new");
        let _ = std::fs::remove_file(&aside);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        file.write_all(token.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&aside, &path)?;
        Ok(Self(token))
    }

    /// Whether `offered` is the token, in time that depends on its length alone.
    pub(crate) fn is(&self, offered: &str) -> bool {
        let (own, offered) = (self.0.as_bytes(), offered.as_bytes());
        let difference = own.iter().zip(offered).fold(0u8, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
        own.len() == offered.len() && difference == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_token_is_made_once_and_only_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let first = Token::open(folder.path(), |bytes| bytes.fill(7)).unwrap();
        let again = Token::open(folder.path(), |_| panic!("made twice")).unwrap();
        assert_eq!(first.0, again.0);
        let mode = std::fs::metadata(folder.path().join(TOKEN_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn only_the_whole_token_is_the_token() {
        let token = Token("0".repeat(64));
        assert!(token.is(&"0".repeat(64)));
        for wrong in ["", "0", &"0".repeat(63), &"0".repeat(65), &format!("{}1", "0".repeat(63))] {
            assert!(!token.is(wrong), "{wrong}");
        }
    }

    #[test]
    fn an_emptied_token_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(TOKEN_FILE), "").unwrap();
        assert!(Token::open(folder.path(), |_| {}).is_err());
    }
}
