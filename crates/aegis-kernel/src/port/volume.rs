//! Volumes: the files of an execution, the same through tools and inside the sandbox.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use aegis_core::{ExecutionId, Sha256, VolumeId};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// Which paths may be read and written. Absolute paths of the sandbox; a plain path means it and all below; globs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PathRules {
    /// Readable; what is writable is readable too.
    pub read: Vec<String>,
    /// Writable.
    pub write: Vec<String>,
}

/// A volume to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSpec {
    /// Its id.
    pub id: VolumeId,
    /// Most bytes it may hold.
    pub size_limit: u64,
}

/// An execution's right to a volume. The first use is a durable event; what happens under it is coalesced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The volume.
    pub volume: VolumeId,
    /// The execution.
    pub execution: ExecutionId,
    /// Where it is mounted in the sandbox: absolute, normalised.
    pub mount_path: String,
    /// Nothing may be written.
    pub read_only: bool,
    /// The rules.
    pub rules: PathRules,
    /// Most bytes the volume may hold.
    pub size_limit: u64,
    /// The host user that owns the files as seen through a front, and that the sandbox runs as.
    pub uid: u32,
    /// Whether a front of the file system is wanted, not only the tools.
    pub mount: bool,
}

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
}

/// What is known of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMeta {
    /// What it is.
    pub kind: FileKind,
    /// Length in bytes.
    pub size: u64,
    /// Last change, in microseconds since the Unix epoch.
    pub modified_micros: i64,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Its name within the directory.
    pub name: String,
    /// What it is.
    pub meta: FileMeta,
}

/// Why a file operation did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VolumeError {
    /// The rules do not permit the path. The string says which rule and what would.
    #[error("{0}")]
    NotAllowed(String),
    /// Nothing is there.
    #[error("no file or directory `{0}`")]
    NotFound(String),
    /// Something is there already.
    #[error("`{0}` exists already")]
    Exists(String),
    /// It is not what the operation needs, such as a directory where a file is expected.
    #[error("{0}")]
    WrongKind(String),
    /// The volume is full.
    #[error("the volume's limit of {0} bytes is reached")]
    QuotaExceeded(u64),
    /// This node lacks what the volume needs.
    #[error("capability_missing: {0}")]
    CapabilityMissing(String),
    /// The store below failed.
    #[error("{0}")]
    Io(String),
}

/// One coalesced stretch of file operations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRange {
    /// Absolute path in the sandbox.
    pub path: String,
    /// `read`, `write`, `create`, `create_dir`, `remove`, `rename`, `truncate`, `link`, `attributes`, `refused`.
    pub op: String,
    /// First byte.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// What happened under a grant since last asked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FileRecords {
    /// Operations that read.
    pub reads: u64,
    /// Operations that changed something.
    pub writes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Operations refused.
    pub refused: u64,
    /// Why: `path_rule`, `read_only`, `special_file`, `hard_link`, `escaping_link`, `path_name`, `owner`, `size_limit`,
    /// `entry_limit`.
    #[serde(default)]
    pub refusals: BTreeMap<String, u64>,
    /// What was touched, coalesced, at most a bounded number; counts above hold always.
    pub ranges: Vec<FileRange>,
}

/// One file of a recorded tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeEntry {
    /// Path relative to the volume's root.
    pub path: String,
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 of the content; of the target for symbolic links.
    pub sha256: Sha256,
}

/// A volume's files at one moment, sorted by path.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tree {
    /// The files and links; directories are implied.
    pub entries: Vec<TreeEntry>,
}

/// Files under a grant. Paths are absolute paths of the sandbox. Blocking: call from blocking threads. Every
/// operation is checked against the grant's rules and counted, and nothing outside the volume is ever touched,
/// whatever symbolic links or `..` say.
pub trait Files: Send + Sync {
    /// The grant.
    fn grant(&self) -> &Grant;
    /// Where a front is mounted on the host, if one is.
    fn mount_point(&self) -> Option<PathBuf>;
    /// What is at `path`; links are not followed.
    fn stat(&self, path: &str) -> Result<FileMeta, VolumeError>;
    /// Up to `length` bytes from `offset`.
    fn read(&self, path: &str, offset: u64, length: usize) -> Result<Vec<u8>, VolumeError>;
    /// Makes or replaces a file, whole or not at all. Missing parent directories are made.
    fn write(&self, path: &str, bytes: &[u8]) -> Result<(), VolumeError>;
    /// The entries of a directory the rules let be seen, sorted by name.
    fn list(&self, path: &str) -> Result<Vec<DirectoryEntry>, VolumeError>;
    /// Makes a directory and its missing parents; one that is there already is fine.
    fn create_dir(&self, path: &str) -> Result<(), VolumeError>;
    /// Removes a file, link or directory; a directory with content only if `recursive`.
    fn remove(&self, path: &str, recursive: bool) -> Result<(), VolumeError>;
    /// What happened since last asked, through this and through the mounted front; `None` if nothing.
    fn take_records(&self) -> Option<FileRecords>;
    /// The volume's tree, as stored; not counted as reads, not limited by the rules.
    fn tree(&self) -> Result<Tree, VolumeError>;
    /// Unmounts the front; later calls of file operations through it fail. Does not wait for processes.
    fn close(&self);
}

/// A store of volumes.
#[async_trait]
pub trait Volume: Send + Sync {
    /// Why no front can be mounted on this node (and what to do), or `None` if it can.
    fn mount_missing(&self) -> Option<String>;
    /// Makes an empty volume; one that is there already is left as it is.
    async fn create(&self, spec: &VolumeSpec) -> Result<(), VolumeError>;
    /// Opens a volume under a grant, with a front mounted if asked.
    async fn open(&self, grant: Grant) -> Result<Arc<dyn Files>, VolumeError>;
    /// Removes a volume and its files; one that is gone already is fine.
    async fn remove(&self, volume: VolumeId) -> Result<(), VolumeError>;
    /// The files of a volume, as the operator sees them, outside any grant.
    async fn tree(&self, volume: VolumeId) -> Result<Tree, VolumeError>;
    /// A file of a volume by its path relative to the root, as the operator sees it.
    async fn read_file(&self, volume: VolumeId, path: &str) -> Result<Vec<u8>, VolumeError>;
    /// Detaches fronts a former daemon left mounted.
    async fn detach_leftovers(&self) -> Result<u32, VolumeError>;
}

/// All volumes of one execution.
#[derive(Default)]
pub struct Workspace {
    volumes: Vec<Arc<dyn Files>>,
}

impl Workspace {
    /// Groups volumes; the longest mount path wins where they nest.
    pub fn new(mut volumes: Vec<Arc<dyn Files>>) -> Self {
        volumes.sort_by_key(|files| std::cmp::Reverse(files.grant().mount_path.len()));
        Self { volumes }
    }
    /// The volume that holds an absolute, normalised path.
    pub fn holding(&self, path: &str) -> Option<&Arc<dyn Files>> {
        self.volumes.iter().find(|files| is_at_or_below(path, &files.grant().mount_path))
    }
    /// All of them.
    pub fn volumes(&self) -> &[Arc<dyn Files>] {
        &self.volumes
    }
}

fn is_at_or_below(path: &str, base: &str) -> bool {
    base == "/" || path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
