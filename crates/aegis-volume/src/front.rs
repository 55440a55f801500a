//! The FUSE front: a mount that serves one grant's view.

mod attributes;
mod filesystem;
mod handles;
pub(crate) mod leftovers;
mod nodes;
mod notice;
mod served;
pub(crate) mod support;

use std::collections::HashSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use aegis_kernel::port::{Grant, VolumeError};
use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use sha2::Digest;

use crate::core::{View, Watcher, lock};
use handles::State;
use notice::Notices;
use served::Served;

/// Threads that answer the kernel: at least two, so that one slow request does not hold up all.
const THREADS: usize = 2;
/// How long closing waits for the server's threads to end.
const END_WAIT: Duration = Duration::from_secs(2);
/// How often that is looked at: soon at first, then ever less.
const END_POLL_FIRST: Duration = Duration::from_micros(50);
const END_POLL_MAX: Duration = Duration::from_millis(5);
/// How many names are tried for a mount point, where leftovers of a former daemon hold some.
const MOUNT_POINT_TRIES: u32 = 1000;
/// Where the kernel shows its FUSE connections.
const CONNECTIONS: &str = "/sys/fs/fuse/connections";

/// What all fronts of a data folder share.
pub(crate) struct FrontSettings {
    run: PathBuf,
    /// The mounts' source, by which leftovers are found.
    name: String,
    /// Mount points served by this process.
    live: Arc<Mutex<HashSet<PathBuf>>>,
}

impl FrontSettings {
    pub(crate) fn new(run: PathBuf, volumes: &Path) -> Self {
        let digest = sha2::Sha256::digest(volumes.as_os_str().as_bytes());
        let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { run, name: format!("aegis-{name}"), live: Arc::default() }
    }

    fn make_mount_point(&self, execution: &str, number: u64) -> io::Result<PathBuf> {
        let short = execution.split('-').next_back().unwrap_or(execution);
        for attempt in 0..MOUNT_POINT_TRIES {
            let point = self.run.join(format!("{short}-{number}-{attempt}"));
            match std::fs::DirBuilder::new().mode(0o711).create(&point) {
                Ok(()) => {
                    std::fs::set_permissions(&point, PermissionsExt::from_mode(0o711))?;
                    return Ok(point);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

/// A mounted front. Dropping it unmounts.
pub(crate) struct Front {
    point: PathBuf,
    minor: Option<u32>,
    state: Arc<State>,
    live: Arc<Mutex<HashSet<PathBuf>>>,
    session: Mutex<Option<BackgroundSession>>,
    /// Kept so that the core can tell it of changes.
    _notices: Arc<Notices>,
}

impl Front {
    /// Mounts `view` as number `number`.
    pub(crate) fn mount(
        settings: &FrontSettings,
        view: View,
        grant: &Grant,
        number: u64,
    ) -> Result<Self, VolumeError> {
        let failed = |error: io::Error| VolumeError::Io(format!("the volume could not be mounted: {error}"));
        let point = settings.make_mount_point(&grant.execution.to_string(), number).map_err(failed)?;
        lock(&settings.live).insert(point.clone());
        Self::mount_at(settings, view, grant.uid, number, &point).map_err(|error| {
            lock(&settings.live).remove(&point);
            let _ = std::fs::remove_dir(&point);
            failed(error)
        })
    }

    fn mount_at(
        settings: &FrontSettings,
        view: View,
        uid: u32,
        number: u64,
        point: &Path,
    ) -> io::Result<Self> {
        let state = Arc::new(State::default());
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::FSName(settings.name.clone()),
            MountOption::NoSuid,
            MountOption::NoDev,
            MountOption::DefaultPermissions,
        ];
        config.acl = if rustix::process::geteuid().is_root() { SessionACL::All } else { SessionACL::Owner };
        config.n_threads = Some(THREADS);
        let store = Arc::clone(&view.store);
        let served = Served { view, state: Arc::clone(&state), uid };
        let session = Session::new(served, point, &config)?;
        let notices = Arc::new(Notices::start(session.notifier(), Arc::clone(&state))?);
        let watcher: Arc<dyn Watcher> = Arc::clone(&notices) as Arc<dyn Watcher>;
        store.watch(number, Arc::downgrade(&watcher) as Weak<dyn Watcher>);
        let session = session.spawn()?;
        let minor = leftovers::mounted(&settings.name)?
            .into_iter()
            .find(|mount| mount.point == point)
            .map(|mount| mount.minor);
        Ok(Self {
            point: point.to_owned(),
            minor,
            state,
            live: Arc::clone(&settings.live),
            session: Mutex::new(Some(session)),
            _notices: notices,
        })
    }

    /// Where it is mounted.
    pub(crate) fn mount_point(&self) -> &Path {
        &self.point
    }

    /// Unmounts. What still uses it gets errors; nothing is waited for but our own threads, for a bounded time.
    pub(crate) fn close(&self) {
        let Some(session) = self.session.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return;
        };
        self.state.closed.store(true, Ordering::Release);
        if let Err(error) = leftovers::unmount_lazily(&self.point) {
            tracing::warn!(point = %self.point.display(), %error, "volume front not unmounted");
        }
        self.abort();
        let started = Instant::now();
        let mut pause = END_POLL_FIRST;
        while !session.guard.is_finished() && started.elapsed() < END_WAIT {
            thread::sleep(pause);
            pause = (pause * 2).min(END_POLL_MAX);
        }
        drop(session);
        lock(&self.live).remove(&self.point);
        let _ = std::fs::remove_dir(&self.point);
    }

    /// Ends the connection, so that a process that waits for an answer gets an error, and so that the server's
    /// threads end although a process still holds a file of the mount. Only root may; without it requests are
    /// answered with errors until the last user is gone.
    fn abort(&self) {
        let Some(minor) = self.minor.filter(|_| rustix::process::geteuid().is_root()) else { return };
        let control = Path::new(CONNECTIONS).join(minor.to_string()).join("abort");
        if std::fs::write(&control, "1").is_ok() || Path::new(CONNECTIONS).join(minor.to_string()).exists() {
            return;
        }
        let listed = std::fs::read_dir(CONNECTIONS).is_ok_and(|mut entries| entries.next().is_some());
        if !listed {
            // Not mounted: nothing manages this kernel's file systems but us.
            let flags = rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV;
            let _ = rustix::mount::mount("fusectl", CONNECTIONS, "fusectl", flags, None);
            let _ = std::fs::write(&control, "1");
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.close();
    }
}
