//! The agent's side: what its repository says, read as files, by the rules that its file tools are under.

use aegis_core::{Denial, DenialCode, ExecutionId};
use aegis_kernel::port::{FileKind, Files, Mount, ToolError, VolumeError};

use super::wire::is_id;
use crate::files::place::{Failure, Place};

/// Longest branch name.
const BRANCH_BYTES_MAX: usize = 200;
/// Largest file that may hold references.
const PACKED_BYTES_MAX: usize = 4 << 20;

/// Where the objects of an agent's repository are, and which commit a branch names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tip {
    pub(super) commit: String,
    /// The folder of objects, inside.
    pub(super) objects: String,
}

/// Refuses names that are no branch, to any reader: no options, no ranges, no way out of a folder (git-check-ref-format).
pub(super) fn check_branch(name: &str) -> Result<(), ToolError> {
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/');
    let part = |part: &str| !part.is_empty() && !part.starts_with(['.', '-']) && !part.ends_with(['.']);
    let parts = name.split('/').all(|one| part(one) && !one.ends_with(".lock"));
    if name.len() <= BRANCH_BYTES_MAX && name.bytes().all(letter) && parts && !name.contains("..") {
        return Ok(());
    }
    Err(ToolError::Arguments(format!(
        "`{}` is no name of a branch here: use letters, digits, `-`, `_`, `.` and `/`, no part of it beginning with \
         `-` or `.`",
        name.escape_debug()
    )))
}

/// The volume that holds `path`, as a sandbox sees it.
pub(super) fn mounted(place: &Place<'_>, read_only: bool) -> Result<(ExecutionId, Mount), Failure> {
    let grant = place.files.grant();
    let Some(source) = place.files.mount_point() else {
        return Err(Failure::Tool(ToolError::Denied(Denial {
            code: DenialCode::CapabilityMissing,
            rule: "node:volumes".to_owned(),
            message: "the volumes of this run are not mounted, and git works on a mounted one".to_owned(),
            remedy: "run the agent in a sandbox of this node".to_owned(),
        })));
    };
    let mount = Mount { source, target: grant.mount_path.clone(), read_only: read_only || grant.read_only };
    Ok((grant.execution, mount))
}

/// Reads which commit a branch names. Nothing else of the repository is read: what its configuration and hooks say does
/// not matter to anybody.
pub(super) fn tip(place: &Place<'_>, branch: &str) -> Result<Tip, Failure> {
    let (files, folder) = (place.files.as_ref(), format!("{}/.git", place.path));
    let is_folder = |path: &str| files.stat(path).is_ok_and(|meta| meta.kind == FileKind::Directory);
    if !is_folder(&folder) || !is_folder(&format!("{folder}/objects")) {
        return Err(Failure::told(format!(
            "`{}` holds no `.git` folder of its own; links, work trees and submodules are not followed",
            place.path
        )));
    }
    let commit = match loose(files, &folder, branch)? {
        Some(commit) => commit,
        None => packed(files, &folder, branch)?
            .ok_or_else(|| Failure::told(format!("there is no branch `{branch}` in `{}`", place.path)))?,
    };
    Ok(Tip { commit, objects: format!("{folder}/objects") })
}

fn loose(files: &dyn Files, folder: &str, branch: &str) -> Result<Option<String>, Failure> {
    /// Longer than an id and its line end.
    const BYTES_MAX: usize = 64;
    let bytes = match files.read(&format!("{folder}/refs/heads/{branch}"), 0, BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(VolumeError::NotFound(_) | VolumeError::WrongKind(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
    if is_id(&text) {
        Ok(Some(text))
    } else {
        Err(Failure::told(format!("branch `{branch}` names no commit")))
    }
}

fn packed(files: &dyn Files, folder: &str, branch: &str) -> Result<Option<String>, Failure> {
    let mut bytes = Vec::new();
    loop {
        /// Bytes read at once.
        const CHUNK_BYTES: usize = 256 << 10;
        let offset = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let chunk = match files.read(&format!("{folder}/packed-refs"), offset, CHUNK_BYTES) {
            Ok(chunk) => chunk,
            Err(VolumeError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if chunk.is_empty() {
            break;
        }
        bytes.extend(chunk);
        if bytes.len() > PACKED_BYTES_MAX {
            return Err(Failure::told("the repository has too many references"));
        }
    }
    let wanted = format!("refs/heads/{branch}");
    let text = String::from_utf8_lossy(&bytes);
    let named = text.lines().filter_map(|line| line.split_once(' ')).find(|(_, name)| *name == wanted);
    Ok(named.map(|(id, _)| id.to_owned()).filter(|id| is_id(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_is_a_name_and_nothing_else() {
        for name in ["main", "agent/a-b_c.d", "v1.2"] {
            assert!(check_branch(name).is_ok(), "{name}");
        }
        for name in [
            "",
            "-f",
            "--upload-pack=id",
            "a/-f",
            "/a",
            "a/",
            "a//b",
            "..",
            "a..b",
            "a/../b",
            ".a",
            "a/.b",
            "a.lock",
            "a.lock/b",
            "a.",
            "a b",
            "a:b",
            "+a",
            "a~1",
            "a^",
            "a@{1}",
            "*",
            "a\nb",
            "a\0",
            "ä",
            &"a".repeat(201),
        ] {
            assert!(check_branch(name).is_err(), "{name:?}");
        }
    }
}
