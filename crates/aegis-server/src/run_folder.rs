//! Where sockets and mount points lie: outside the data folder, in a place that ends with the machine's run.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use aegis_core::{Diagnosis, ErrorCode};

/// Write permission of others than the owner.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The run folder of the daemon of `home`: `/run/aegis` for root, `$XDG_RUNTIME_DIR/aegis` for others, and a folder of
/// this user in `/tmp` without that variable.
///
/// # Errors
/// If the folder in `/tmp` cannot be made, or is not safely this user's.
pub(crate) fn run_folder(home: &Path) -> Result<PathBuf, Diagnosis> {
    let user = rustix::process::geteuid();
    if user.is_root() {
        return Ok(PathBuf::from("/run/aegis"));
    }
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()) {
        Some(folder) => Ok(Path::new(&folder).join("aegis")),
        None => below(Path::new("/tmp"), home, user.as_raw()),
    }
}

/// Eight hexadecimal digits that tell data folders apart.
pub(crate) fn mark(home: &Path) -> String {
    let digest = crate::digest(&[home.as_os_str().as_encoded_bytes()]).to_string();
    digest.get(..8).unwrap_or(&digest).to_owned()
}

/// A folder of this user in a folder that all users write to.
fn below(shared: &Path, home: &Path, user: u32) -> Result<PathBuf, Diagnosis> {
    let path = shared.join(format!("aegis-{user}-{}", mark(home)));
    let refused = |why: String| {
        Diagnosis::new(ErrorCode::InvalidInput, format!("the run folder `{}` {why}", path.display()))
            .hint("remove it, or set `XDG_RUNTIME_DIR` to a folder that only this user can write to")
    };
    match std::fs::DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(refused(format!("cannot be made: {error}")));
        }
        _ => {}
    }
    // Whoever made it first owns it, and a link would lead elsewhere: looked at itself, not through it.
    let found =
        std::fs::symlink_metadata(&path).map_err(|error| refused(format!("cannot be read: {error}")))?;
    if !found.is_dir() {
        return Err(refused("is no folder".to_owned()));
    }
    if found.uid() != user {
        return Err(refused(format!("belongs to another user ({})", found.uid())));
    }
    if found.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(refused("can be written by other users".to_owned()));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_run_folder_in_a_shared_place_is_this_users_alone() {
        let shared = tempfile::tempdir().unwrap();
        let user = rustix::process::geteuid().as_raw();
        let home = Path::new("/home/a/.aegis");
        let made = below(shared.path(), home, user).unwrap();
        assert_eq!(std::fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(below(shared.path(), home, user).unwrap(), made);
        assert_ne!(below(shared.path(), Path::new("/home/b/.aegis"), user).unwrap(), made);
    }

    #[test]
    fn what_another_could_have_put_there_is_refused() {
        let shared = tempfile::tempdir().unwrap();
        let user = rustix::process::geteuid().as_raw();
        let home = Path::new("/home/a/.aegis");
        let made = below(shared.path(), home, user).unwrap();
        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(below(shared.path(), home, user).unwrap_err().message.contains("written by other users"));
        std::fs::remove_dir(&made).unwrap();
        let foreign = shared.path().join(format!("aegis-{}-{}", user + 1, mark(home)));
        std::fs::create_dir(foreign).unwrap();
        assert!(
            below(shared.path(), home, user + 1).unwrap_err().message.contains("belongs to another user")
        );
        std::os::unix::fs::symlink(shared.path(), &made).unwrap();
        assert!(below(shared.path(), home, user).unwrap_err().message.contains("is no folder"));
    }
}
