//! Looking through folders, within bounds.

use aegis_kernel::port::{DirectoryEntry, FileKind, FileMeta, VolumeError, Workspace};

use super::place::{Failure, Stop};

/// Most entries looked at in one call.
const ENTRIES_MAX: usize = 200_000;
/// Deepest folder looked into, counted from where the walk begins.
const DEPTH_MAX: usize = 64;

/// How far to go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// The folder itself.
    One,
    /// All below.
    All,
}

/// Why a walk ended.
pub(super) enum Ended {
    /// Everything was seen.
    Complete,
    /// The visitor has enough.
    Enough,
    /// It took too long or there was too much.
    Bounds,
}

/// What a walk comes by.
pub(super) struct Visited<'walk> {
    /// Absolute path.
    pub(super) path: &'walk str,
    /// Path relative to where the walk began.
    pub(super) relative: &'walk str,
    pub(super) meta: &'walk FileMeta,
}

/// Visits what lies below the folder `root`, in order of names, folders before what is in them. Symbolic links are
/// visited but never followed. Folders the rules hide, or that go away, are passed over. `enters` says whether to look
/// into a folder, by its relative path; `visit` whether to go on.
pub(super) fn walk(
    workspace: &Workspace,
    root: &str,
    depth: Depth,
    stop: &Stop,
    enters: impl Fn(&str) -> bool,
    mut visit: impl FnMut(&Visited<'_>) -> Result<bool, Failure>,
) -> Result<Ended, Failure> {
    let prefix = if root == "/" { 1 } else { root.len() + 1 };
    // Each level holds what is still to be seen of it, last first.
    let mut levels = vec![entries(workspace, root, true)?];
    let mut seen = 0usize;
    while let Some(level) = levels.last_mut() {
        let Some((path, meta)) = level.pop() else {
            levels.pop();
            continue;
        };
        stop.check()?;
        seen += 1;
        if seen > ENTRIES_MAX || stop.out_of_time.is_cancelled() {
            return Ok(Ended::Bounds);
        }
        let relative = path.get(prefix..).unwrap_or_default();
        if !visit(&Visited { path: &path, relative, meta: &meta })? {
            return Ok(Ended::Enough);
        }
        if meta.kind == FileKind::Directory && depth == Depth::All && enters(relative) {
            if levels.len() >= DEPTH_MAX {
                return Ok(Ended::Bounds);
            }
            levels.push(entries(workspace, &path, false)?);
        }
    }
    Ok(Ended::Complete)
}

/// The entries of a folder with their paths, last first, and the volumes mounted in it.
fn entries(workspace: &Workspace, folder: &str, is_root: bool) -> Result<Vec<(String, FileMeta)>, Failure> {
    let Some(files) = workspace.holding(folder) else { return Ok(Vec::new()) };
    let listed = match files.list(folder) {
        Ok(listed) => listed,
        Err(VolumeError::NotAllowed(_) | VolumeError::NotFound(_) | VolumeError::WrongKind(_))
            if !is_root =>
        {
            Vec::new()
        }
        Err(error) => return Err(error.into()),
    };
    let slash = if folder == "/" { "" } else { "/" };
    let mut entries: Vec<(String, FileMeta)> = listed
        .into_iter()
        .map(|DirectoryEntry { name, meta }| (format!("{folder}{slash}{name}"), meta))
        .collect();
    for mounted in workspace.volumes() {
        let mount_path = &mounted.grant().mount_path;
        let is_child = mount_path.rsplit_once('/').is_some_and(|(parent, _)| parent == folder);
        if is_child && let Ok(meta) = mounted.stat(mount_path) {
            // What the outer volume has under that name is hidden by the mount.
            entries.retain(|(path, _)| path != mount_path);
            entries.push((mount_path.clone(), meta));
        }
    }
    entries.sort_by(|(one, _), (other, _)| other.cmp(one));
    Ok(entries)
}
