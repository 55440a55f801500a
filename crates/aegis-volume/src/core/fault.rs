//! Why the core did not do what it was asked, once for tools and fronts.

use aegis_kernel::port::VolumeError;
use rustix::io::Errno;

use super::rules::Need;

/// Why an operation did not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// No rule of the grant permits it.
    #[error("no rule permits this path to be {0}")]
    Rule(Need),
    /// The grant is read-only.
    #[error("the volume is mounted read-only")]
    ReadOnly,
    /// A socket, FIFO or device.
    #[error("only regular files, directories and symbolic links live in a volume")]
    Special,
    /// A file with more than one name, or the wish for one.
    #[error("hard links are not permitted in a volume")]
    HardLink,
    /// A symbolic link that leaves the volume, or could.
    #[error("the link's target must be relative and stay within the volume, with `..` at its beginning only")]
    EscapingLink,
    /// A name or path that cannot stand for a file of a volume.
    #[error("paths are absolute, below the mount path, UTF-8, without `..`, and shorter than {limit} bytes", limit = super::path::PATH_BYTES_MAX)]
    Name,
    /// Owner or group other than the grant's.
    #[error("files of a volume cannot change their owner")]
    Owner,
    /// The limit in bytes is reached.
    #[error("the volume's limit of {0} bytes is reached")]
    Full(u64),
    /// The limit in entries is reached.
    #[error("a volume holds at most {limit} files, links and directories, with paths of {paths} bytes together", limit = super::store::ENTRIES_MAX, paths = super::tree::PATHS_BYTES_MAX)]
    TooMany,
    /// The grant was closed.
    #[error("the volume is closed")]
    Closed,
    /// What the system answered.
    #[error("{0}")]
    Os(Errno),
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        match errno {
            // What the kernel says when a socket, or a FIFO without a reader, is opened.
            Errno::NXIO => Self::Special,
            other => Self::Os(other),
        }
    }
}

impl Fault {
    /// The name under which it is recorded, if it is a denial and not a circumstance such as a missing file.
    pub(crate) fn refusal(self) -> Option<&'static str> {
        Some(match self {
            Self::Rule(_) => "path_rule",
            Self::ReadOnly => "read_only",
            Self::Special => "special_file",
            Self::HardLink => "hard_link",
            Self::EscapingLink => "escaping_link",
            Self::Name => "path_name",
            Self::Owner => "owner",
            Self::Full(_) => "size_limit",
            Self::TooMany => "entry_limit",
            Self::Os(_) | Self::Closed => return None,
        })
    }

    /// What a program sees through a mounted front.
    pub(crate) fn errno(self) -> Errno {
        match self {
            Self::Rule(_) => Errno::ACCESS,
            Self::ReadOnly => Errno::ROFS,
            Self::Special | Self::HardLink | Self::EscapingLink | Self::Owner => Errno::PERM,
            Self::Name => Errno::INVAL,
            Self::Full(_) | Self::TooMany => Errno::NOSPC,
            Self::Closed => Errno::IO,
            Self::Os(errno) => errno,
        }
    }

    /// What a tool sees, for the operation on `path` of the sandbox.
    pub(crate) fn at(self, path: &str) -> VolumeError {
        match self {
            Self::Rule(need) => VolumeError::NotAllowed(format!(
                "no rule permits `{path}` to be {need}; add it to `security.filesystem.{}` of the manifest",
                need.list()
            )),
            Self::ReadOnly | Self::HardLink | Self::EscapingLink | Self::Name | Self::Owner => {
                VolumeError::NotAllowed(format!("`{path}`: {self}"))
            }
            Self::Special | Self::TooMany => VolumeError::WrongKind(format!("`{path}`: {self}")),
            Self::Full(limit) => VolumeError::QuotaExceeded(limit),
            Self::Closed => VolumeError::Io(format!("`{path}`: {self}")),
            Self::Os(Errno::NOENT) => VolumeError::NotFound(path.to_owned()),
            Self::Os(Errno::EXIST) => VolumeError::Exists(path.to_owned()),
            Self::Os(Errno::NOTDIR) => VolumeError::WrongKind(format!("`{path}` is not a directory")),
            Self::Os(Errno::ISDIR) => VolumeError::WrongKind(format!("`{path}` is a directory")),
            Self::Os(Errno::NOTEMPTY) => {
                VolumeError::WrongKind(format!("`{path}` is a directory with content: remove it recursively"))
            }
            Self::Os(Errno::LOOP) => VolumeError::WrongKind(format!(
                "`{path}` goes through a symbolic link that cannot be followed"
            )),
            Self::Os(errno) => VolumeError::Io(format!("`{path}`: {errno}")),
        }
    }
}
