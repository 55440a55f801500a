//! `fs.write`, `fs.list`, `fs.create_dir` and `fs.delete`

use aegis_core::ToolResult;
use aegis_kernel::port::{FileKind, FileMeta, VolumeError, Workspace};

use super::arguments;
use super::output::Output;
use super::place::{Failure, Place, Stop};
use super::walk::{Depth, Ended, walk};

/// Most entries `fs.list` gives.
const LIST_ENTRIES_MAX: usize = 2000;

pub(super) fn write(workspace: &Workspace, arguments: &arguments::Write) -> Result<ToolResult, Failure> {
    let place = Place::find(workspace, &arguments.path)?;
    place.files.write(&place.path, arguments.content.as_bytes())?;
    let size = arguments.content.len() as u64;
    Ok(ToolResult { size: Some(size), ..ToolResult::ok(format!("wrote {size} bytes to `{}`", place.path)) })
}

pub(super) fn create_dir(
    workspace: &Workspace,
    arguments: &arguments::CreateDir,
) -> Result<ToolResult, Failure> {
    let place = Place::find(workspace, &arguments.path)?;
    match place.files.create_dir(&place.path) {
        Ok(()) => Ok(ToolResult::ok(format!("the directory `{}` is there", place.path))),
        Err(VolumeError::Exists(path)) => {
            Err(Failure::told(format!("`{path}` exists and is not a directory")))
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) fn delete(workspace: &Workspace, arguments: &arguments::Delete) -> Result<ToolResult, Failure> {
    let place = Place::find(workspace, &arguments.path)?;
    if workspace
        .volumes()
        .iter()
        .any(|files| aegis_security::constraint::is_at_or_below(&files.grant().mount_path, &place.path))
    {
        let path = &place.path;
        return Err(Failure::told(format!(
            "`{path}` holds a volume and cannot be deleted; delete what is in it"
        )));
    }
    place.files.remove(&place.path, arguments.recursive)?;
    Ok(ToolResult::ok(format!("deleted `{}`", place.path)))
}

pub(super) fn list(
    workspace: &Workspace,
    arguments: &arguments::List,
    stop: &Stop,
) -> Result<ToolResult, Failure> {
    let place = Place::find(workspace, &arguments.path)?;
    let meta = place.stat()?;
    if meta.kind != FileKind::Directory {
        return Ok(ToolResult::ok(format!("{}\n", described(&place.path, &meta))));
    }
    let depth = if arguments.recursive { Depth::All } else { Depth::One };
    let mut output = Output::default();
    let ended = walk(
        workspace,
        &place.path,
        depth,
        stop,
        |_| true,
        |entry| Ok(output.lines() < LIST_ENTRIES_MAX && output.line(&described(entry.relative, entry.meta))),
    )?;
    let note = match ended {
        Ended::Complete if output.lines() == 0 => Some("the directory is empty"),
        Ended::Complete => None,
        Ended::Enough => Some("there are more entries; list a directory below"),
        Ended::Bounds => Some("stopped: there is too much to look through; list a directory below"),
    };
    Ok(ToolResult::ok(output.finish(note)))
}

fn described(name: &str, meta: &FileMeta) -> String {
    match meta.kind {
        FileKind::Directory => format!("{name}/"),
        FileKind::File => format!("{name} ({} bytes)", meta.size),
        FileKind::Symlink => format!("{name} (symbolic link)"),
    }
}
