//! The folder that a sandbox sees as `/run/aegis`, and what the daemon keeps beside it.
//!
//! `<root>/<sandbox name>/` (0711) holds `record` (0600, who runs in it) and `inside/` (0711), which is bound
//! read-only into the sandbox with its files and the control socket. Every folder is traversable and none can be
//! listed by others: bubblewrap resolves the path as the sandbox's host user.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use aegis_kernel::port::HostFile;
use rustix::fs::{Mode, OFlags, open};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};

use crate::name::SandboxName;
use crate::process::Identity;

/// The control socket's name within `/run/aegis`.
pub(crate) const CONTROL_SOCKET: &str = "control.sock";
/// One bootstrap connects, once.
const BACKLOG: i32 = 1;
/// The api socket's folder within `/run/aegis`, and its name in there.
pub(crate) const API_FOLDER: &str = "api";
const API_SOCKET: &str = "api.sock";
/// Connections to the api socket that may wait to be taken.
const API_BACKLOG: i32 = 64;
const TRAVERSABLE: u32 = 0o711;

/// The folder of one sandbox. Removed explicitly, never by dropping: it is the record that something ran.
#[derive(Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
    owner: Option<u32>,
}

impl RunFolder {
    /// Makes `root` and, in it, the folder of a new sandbox. `owner` is the host user that will read the files, if it
    /// is another than the daemon.
    pub(crate) fn create(root: &Path, name: &SandboxName, owner: Option<u32>) -> io::Result<Self> {
        make_root(root)?;
        let folder = Self { path: root.join(name.as_str()), owner };
        make_folder(&folder.path)?;
        make_folder(&folder.inside())?;
        Ok(folder)
    }

    /// The sandbox's name.
    pub(crate) fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }

    /// What is bound at `/run/aegis`.
    pub(crate) fn inside(&self) -> PathBuf {
        self.path.join("inside")
    }

    /// A descriptor of it that can be bound but not read through.
    pub(crate) fn open_inside(&self) -> io::Result<OwnedFd> {
        open_path(&self.inside())
    }

    /// Writes the files, each readable by the sandbox's user alone: other users of the host can guess the path.
    pub(crate) fn write_files(&self, files: &[HostFile]) -> io::Result<()> {
        for file in files {
            let path = self.inside().join(&file.name);
            let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o400).open(&path)?;
            opened.write_all(&file.bytes)?;
            chown(&path, self.owner, self.owner)?;
        }
        Ok(())
    }

    /// Opens the control socket, for the sandbox's user alone.
    pub(crate) fn listen(&self) -> io::Result<UnixListener> {
        self.listen_at(&self.inside(), CONTROL_SOCKET, BACKLOG)
    }

    /// Opens the api socket in a folder of its own, for the sandbox's user alone.
    pub(crate) fn listen_api(&self) -> io::Result<UnixListener> {
        let folder = self.inside().join(API_FOLDER);
        make_folder(&folder)?;
        self.listen_at(&folder, API_SOCKET, API_BACKLOG)
    }

    fn listen_at(&self, folder: &Path, name: &str, backlog: i32) -> io::Result<UnixListener> {
        let path = folder.join(name);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // Named through the folder's descriptor: a socket's address holds 108 bytes, and the folder may lie deep.
        let opened = open_path(folder)?;
        let short = format!("/proc/self/fd/{}/{name}", opened.as_raw_fd());
        bind(&socket, &SocketAddrUnix::new(short)?)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        chown(&path, self.owner, self.owner)?;
        listen(&socket, backlog)?;
        Ok(UnixListener::from(socket))
    }

    /// Removes the control socket's name.
    pub(crate) fn unlink_socket(&self) -> io::Result<()> {
        fs::remove_file(self.inside().join(CONTROL_SOCKET))
    }

    /// Records who runs in it, for a later daemon.
    pub(crate) fn record(&self, first: Identity) -> io::Result<()> {
        let text = serde_json::to_vec(&first)?;
        let path = self.path.join("record");
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(&text)
    }

    /// Removes the folder and all in it; one that is gone is no error.
    pub(crate) fn remove(&self) -> io::Result<()> {
        remove(&self.path)
    }
}

/// A folder that a former daemon left.
#[derive(Debug)]
pub(crate) struct Leftover {
    /// The sandbox's name.
    pub(crate) name: String,
    /// Its first process, if it had got that far.
    pub(crate) first: Option<Identity>,
    path: PathBuf,
}

impl Leftover {
    /// Every folder in `root` whose name starts with `prefix`.
    pub(crate) fn find(root: &Path, prefix: &str) -> io::Result<Vec<Self>> {
        let entries = match fs::read_dir(root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with(prefix) {
                let record = fs::read(entry.path().join("record")).ok();
                let first = record.and_then(|text| serde_json::from_slice(&text).ok());
                found.push(Self { name, first, path: entry.path() });
            }
        }
        Ok(found)
    }

    /// Removes it.
    pub(crate) fn remove(&self) -> io::Result<()> {
        remove(&self.path)
    }
}

/// Opens a path for binding only: no content can be read through the descriptor.
pub(crate) fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn make_root(root: &Path) -> io::Result<()> {
    match make_folder(root) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// Makes a folder and sets its mode whatever the daemon's umask is.
fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(TRAVERSABLE))
}
