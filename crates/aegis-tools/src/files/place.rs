//! Where a path leads, and what stands in the way.

use std::sync::Arc;

use aegis_core::{Denial, DenialCode};
use aegis_kernel::port::{FileKind, FileMeta, Files, ToolError, VolumeError, Workspace};
use aegis_security::constraint::{PathError, WORKSPACE, normalise};
use tokio_util::sync::CancellationToken;

/// Bytes read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// Why a tool has no success to give.
pub(crate) enum Failure {
    /// The model learns from it.
    Told(String),
    /// The call itself failed.
    Tool(ToolError),
}

impl Failure {
    pub(crate) fn told(message: impl Into<String>) -> Self {
        Self::Told(message.into())
    }
}

impl From<VolumeError> for Failure {
    fn from(error: VolumeError) -> Self {
        match error {
            VolumeError::NotAllowed(message) => Self::Tool(ToolError::Denied(Denial {
                code: DenialCode::PathNotAllowed,
                rule: "manifest:security.filesystem".to_owned(),
                message,
                remedy: "add the path to `security.filesystem.read` or `.write` of the manifest".to_owned(),
            })),
            VolumeError::CapabilityMissing(message) => Self::Tool(ToolError::Denied(Denial {
                code: DenialCode::CapabilityMissing,
                rule: "node:volumes".to_owned(),
                message,
                remedy: "`aegis doctor` says what this node lacks".to_owned(),
            })),
            VolumeError::NotFound(path) => {
                Self::Told(format!("no file or directory `{path}`; fs.list shows what is there"))
            }
            VolumeError::Exists(_) | VolumeError::WrongKind(_) | VolumeError::QuotaExceeded(_) => {
                Self::Told(error.to_string())
            }
            VolumeError::Io(message) => Self::Tool(ToolError::Internal(message)),
        }
    }
}

impl From<PathError> for Failure {
    fn from(error: PathError) -> Self {
        Self::Tool(ToolError::Denied(Denial {
            code: DenialCode::PathNotAllowed,
            rule: "tools:paths".to_owned(),
            message: error.to_string(),
            remedy: format!("give an absolute path, or one relative to {WORKSPACE} that stays below it"),
        }))
    }
}

/// What can end a call early.
pub(super) struct Stop {
    pub(super) cancelled: CancellationToken,
    pub(super) out_of_time: CancellationToken,
}

impl Stop {
    /// Fails once the call is cancelled.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.cancelled.is_cancelled() { Err(Failure::Tool(ToolError::Cancelled)) } else { Ok(()) }
    }
}

/// A path and the volume that holds it.
pub(crate) struct Place<'workspace> {
    pub(crate) files: &'workspace Arc<dyn Files>,
    pub(crate) path: String,
}

impl<'workspace> Place<'workspace> {
    /// Where the path of a call leads.
    pub(crate) fn find(workspace: &'workspace Workspace, path: &str) -> Result<Self, Failure> {
        let path = normalise(path)?;
        match workspace.holding(&path) {
            Some(files) => Ok(Self { files, path }),
            None => Err(Failure::Tool(ToolError::Denied(Denial {
                code: DenialCode::PathNotAllowed,
                rule: "manifest:volumes".to_owned(),
                message: format!("`{path}` lies in no volume of this execution"),
                remedy: format!(
                    "add a volume with a mount_path such as `{WORKSPACE}` to `volumes[]` of the manifest"
                ),
            }))),
        }
    }
    /// What is there.
    pub(super) fn stat(&self) -> Result<FileMeta, Failure> {
        Ok(self.files.stat(&self.path)?)
    }
    /// Fails if a folder is there.
    pub(super) fn refuse_directory(&self) -> Result<(), Failure> {
        match self.stat()?.kind {
            FileKind::Directory => {
                Err(Failure::Told(format!("`{}` is a directory; fs.list shows what is in it", self.path)))
            }
            FileKind::File | FileKind::Symlink => Ok(()),
        }
    }
    /// Gives the file to `take`, piece by piece, until it says `false` or the file ends.
    pub(super) fn read_pieces(
        &self,
        stop: &Stop,
        mut take: impl FnMut(&[u8]) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let mut offset = 0u64;
        loop {
            stop.check()?;
            let piece = self.files.read(&self.path, offset, CHUNK_BYTES)?;
            offset += piece.len() as u64;
            if piece.is_empty() || !take(&piece)? {
                return Ok(());
            }
        }
    }
    /// The whole file, if it has at most `bytes_max` bytes.
    pub(super) fn read_whole(&self, bytes_max: usize, stop: &Stop) -> Result<Vec<u8>, Failure> {
        let mut whole = Vec::new();
        self.read_pieces(stop, |piece| {
            whole.extend_from_slice(piece);
            if whole.len() > bytes_max {
                let path = &self.path;
                return Err(Failure::Told(format!(
                    "`{path}` is larger than the {bytes_max} bytes this tool takes"
                )));
            }
            Ok(true)
        })?;
        Ok(whole)
    }
}
