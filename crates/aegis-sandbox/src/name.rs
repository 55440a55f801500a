//! Names of sandboxes, by which their control groups and folders are found again after a crash.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aegis_core::ExecutionId;
use sha2::{Digest, Sha256};

/// Marks what belongs to one data folder: `aegis-` and 12 hexadecimal digits of the SHA-256 of its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner(String);

impl Owner {
    /// The owner mark of a data folder. A folder that does not exist yet is marked by the path as given.
    pub(crate) fn of(data_folder: &Path) -> Self {
        let path = data_folder.canonicalize().unwrap_or_else(|_| data_folder.to_owned());
        let digest = Sha256::digest(path.as_os_str().as_bytes());
        let mark: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Self(format!("aegis-{mark}"))
    }

    /// The name of one sandbox.
    pub(crate) fn sandbox(&self, execution: ExecutionId, generation: u32, ordinal: u32) -> SandboxName {
        SandboxName(format!("{}{ordinal}", self.generation(execution, generation)))
    }

    /// What the names of all sandboxes of one generation start with.
    pub(crate) fn generation(&self, execution: ExecutionId, generation: u32) -> String {
        format!("{}-{}-{generation}-", self.0, execution.uuid().simple())
    }

    /// What the names of all sandboxes of this data folder start with.
    pub(crate) fn prefix(&self) -> String {
        format!("{}-", self.0)
    }
}

/// `aegis-<data folder>-<execution>-<generation>-<ordinal>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SandboxName(String);

impl SandboxName {
    /// The text of the name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SandboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn names_start_with_their_generation_and_their_owner() {
        let owner = Owner::of(Path::new("/var/lib/aegis"));
        let execution = ExecutionId::from_uuid(Uuid::from_u128(7));
        let name = owner.sandbox(execution, 1, 0);
        assert!(name.as_str().starts_with(&owner.prefix()));
        assert!(name.as_str().starts_with(&owner.generation(execution, 1)));
        assert!(!owner.sandbox(execution, 12, 0).as_str().starts_with(&owner.generation(execution, 1)));
    }

    #[test]
    fn two_data_folders_never_share_a_prefix() {
        let one = Owner::of(Path::new("/var/lib/aegis"));
        let other = Owner::of(Path::new("/var/lib/aegis2"));
        assert_ne!(one.prefix(), other.prefix());
    }
}
