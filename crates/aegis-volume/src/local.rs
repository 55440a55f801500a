//! Volumes as folders of the local disk.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use aegis_core::VolumeId;
use aegis_kernel::port::{Files, Grant, Tree, Volume, VolumeError, VolumeSpec};
use async_trait::async_trait;

use crate::core::{Fault, Mode, Recorder, Rules, Store, View, VolumePath, lock};
use crate::files::GrantedFiles;
use crate::front::{Front, FrontSettings, leftovers, support};

/// Largest file the operator's view hands out at once.
const OPERATOR_READ_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What the name of a volume's folder ends with while it is being removed.
const REMOVED: &str = ".removed";

/// Where volumes lie and fronts are mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalSettings {
    /// The data folder; volumes are `volumes/<id>` in it, mode 0700.
    pub data: PathBuf,
    /// A short folder for mount points, mode 0711, not below the data folder. Its parents must be traversable for
    /// the sandboxes' users.
    pub run: PathBuf,
    /// The unprivileged user that owns the volumes' folders, when the daemon is root.
    pub owner: Option<u32>,
}

/// The local disk as a store of volumes. A volume is a folder: `root` holds its files, `staging` what is being
/// written, `limit` the most bytes it may hold.
pub struct LocalVolumes {
    inner: Arc<Inner>,
}

struct Inner {
    volumes: PathBuf,
    front: FrontSettings,
    owner: Option<u32>,
    stores: Mutex<HashMap<VolumeId, Weak<Store>>>,
    next_front: AtomicU64,
}

impl LocalVolumes {
    /// Takes the folders into use, making them where they are missing.
    ///
    /// # Errors
    /// A folder cannot be made or found.
    pub fn new(settings: LocalSettings) -> Result<Self, VolumeError> {
        let LocalSettings { data, run, owner } = settings;
        let volumes = data.join("volumes");
        let prepare = || {
            make_folder(&volumes, 0o700)?;
            make_folder(&run, 0o711)?;
            finish_removals(&volumes)?;
            Ok((fs::canonicalize(&volumes)?, fs::canonicalize(&run)?))
        };
        let (volumes, run) =
            prepare().map_err(|error: io::Error| io_error("the volumes' folders", &error))?;
        let front = FrontSettings::new(run, &volumes);
        let owner = owner.filter(|_| rustix::process::geteuid().is_root());
        let inner = Inner { volumes, front, owner, stores: Mutex::default(), next_front: AtomicU64::new(1) };
        Ok(Self { inner: Arc::new(inner) })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, VolumeError> + Send + 'static,
    ) -> Result<T, VolumeError> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .map_err(|error| VolumeError::Io(format!("the file operation did not end: {error}")))?
    }
}

impl Inner {
    fn folder(&self, volume: VolumeId) -> PathBuf {
        self.volumes.join(volume.to_string())
    }

    fn create(&self, spec: &VolumeSpec) -> Result<(), VolumeError> {
        let folder = self.folder(spec.id);
        let make = || {
            // Held so that two callers do not make one volume at the same time.
            let _making = lock(&self.stores);
            if folder.join("limit").exists() {
                return Ok(());
            }
            for part in [folder.clone(), folder.join("root"), folder.join("staging")] {
                make_folder(&part, 0o700)?;
                if let Some(owner) = self.owner {
                    chown(&part, Some(owner), Some(owner))?;
                }
            }
            // Last and at once: a volume with a limit is whole.
            let staged = folder.join("limit.new");
            fs::write(&staged, spec.size_limit.to_string())?;
            fs::rename(staged, folder.join("limit"))
        };
        make().map_err(|error: io::Error| io_error(&format!("volume `{}`", spec.id), &error))
    }

    fn store(&self, volume: VolumeId) -> Result<Arc<Store>, VolumeError> {
        let mut stores = lock(&self.stores);
        stores.retain(|_, store| store.strong_count() > 0);
        if let Some(store) = stores.get(&volume).and_then(Weak::upgrade) {
            return Ok(store);
        }
        let folder = self.folder(volume);
        let limit = match fs::read_to_string(folder.join("limit")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(VolumeError::NotFound(format!("volume {volume}")));
            }
            Err(error) => return Err(io_error(&format!("volume `{volume}`"), &error)),
            Ok(text) => text.trim().parse().map_err(|_| {
                VolumeError::Io(format!("volume `{volume}`: its `limit` file does not hold a number"))
            })?,
        };
        let store = Store::load(&folder, limit).map_err(|fault| fault.at(&format!("volume {volume}")))?;
        let store = Arc::new(store);
        stores.insert(volume, Arc::downgrade(&store));
        Ok(store)
    }

    fn operator(&self, volume: VolumeId) -> Result<View, VolumeError> {
        Ok(View {
            store: self.store(volume)?,
            rules: Arc::new(Rules::operator()),
            recorder: Arc::new(Recorder::default()),
            mount_path: "/".into(),
            size_limit: 0,
            origin: None,
        })
    }

    fn open(&self, grant: Grant) -> Result<Arc<dyn Files>, VolumeError> {
        let well_formed = VolumePath::from_relative(&grant.mount_path)
            .is_ok_and(|path| path.in_sandbox("/").as_ref() == grant.mount_path);
        if !well_formed {
            let path = &grant.mount_path;
            return Err(VolumeError::NotAllowed(format!(
                "mount path `{path}` is not absolute and normalised"
            )));
        }
        let view = View {
            rules: Arc::new(Rules::compile(&grant)?),
            store: self.store(grant.volume)?,
            recorder: Arc::new(Recorder::default()),
            mount_path: grant.mount_path.as_str().into(),
            size_limit: grant.size_limit,
            origin: None,
        };
        let front = if grant.mount {
            if let Some(missing) = support::missing() {
                return Err(VolumeError::CapabilityMissing(missing));
            }
            let number = self.next_front.fetch_add(1, Ordering::Relaxed);
            let through_front = View { origin: Some(number), ..view.clone() };
            Some(Front::mount(&self.front, through_front, &grant, number)?)
        } else {
            None
        };
        Ok(Arc::new(GrantedFiles { grant, view, front }))
    }

    fn remove(&self, volume: VolumeId) -> Result<(), VolumeError> {
        let mut stores = lock(&self.stores);
        stores.remove(&volume);
        let removed = self.volumes.join(format!("{volume}{REMOVED}"));
        // Away at once, so that nobody, whenever we are stopped, takes what is left of it for a volume.
        let away = absent_is_fine(fs::rename(self.folder(volume), &removed));
        away.and_then(|()| absent_is_fine(fs::remove_dir_all(&removed)))
            .map_err(|error| io_error(&format!("volume `{volume}`"), &error))
    }

    fn read_file(&self, volume: VolumeId, path: &str) -> Result<Vec<u8>, VolumeError> {
        let view = self.operator(volume)?;
        let read = || {
            let at = view.follow(&VolumePath::from_relative(path)?, true)?;
            let file = view.open(&at, Mode::Read)?;
            let size = file.attributes()?.size;
            if size > OPERATOR_READ_BYTES_MAX {
                return Err(Fault::Os(rustix::io::Errno::FBIG));
            }
            view.read_at(&file, 0, usize::try_from(size).unwrap_or(usize::MAX))
        };
        read().map_err(|fault: Fault| fault.at(path))
    }
}

#[async_trait]
impl Volume for LocalVolumes {
    fn mount_missing(&self) -> Option<String> {
        support::missing()
    }
    async fn create(&self, spec: &VolumeSpec) -> Result<(), VolumeError> {
        let spec = spec.clone();
        self.blocking(move |inner| inner.create(&spec)).await
    }
    async fn open(&self, grant: Grant) -> Result<Arc<dyn Files>, VolumeError> {
        self.blocking(move |inner| inner.open(grant)).await
    }
    async fn remove(&self, volume: VolumeId) -> Result<(), VolumeError> {
        self.blocking(move |inner| inner.remove(volume)).await
    }
    async fn tree(&self, volume: VolumeId) -> Result<Tree, VolumeError> {
        self.blocking(move |inner| inner.operator(volume)?.tree().map_err(|fault| fault.at("/"))).await
    }
    async fn read_file(&self, volume: VolumeId, path: &str) -> Result<Vec<u8>, VolumeError> {
        let path = path.to_owned();
        self.blocking(move |inner| inner.read_file(volume, &path)).await
    }
    async fn detach_leftovers(&self) -> Result<u32, VolumeError> {
        self.blocking(|inner| {
            leftovers::detach(&inner.front).map_err(|error| io_error("leftover mounts", &error))
        })
        .await
    }
}

/// Ends the removals that a former daemon was stopped at.
fn finish_removals(volumes: &Path) -> io::Result<()> {
    for entry in fs::read_dir(volumes)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.ends_with(REMOVED)) {
            absent_is_fine(fs::remove_dir_all(entry.path()))?;
        }
    }
    Ok(())
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
    // The process's umask may have taken bits, and the folder may be older.
    if fs::metadata(path)?.mode() & 0o7777 != mode {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    }
    Ok(())
}

fn io_error(what: &str, error: &io::Error) -> VolumeError {
    VolumeError::Io(format!("{what}: {error}"))
}
