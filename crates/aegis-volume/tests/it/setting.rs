//! Stores and grants for tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use aegis_core::VolumeId;
use aegis_kernel::port::{Files, Grant, Volume, VolumeSpec};
use aegis_volume::{LocalSettings, LocalVolumes};
use uuid::Uuid;

/// A store in a temporary folder.
pub(crate) struct Setting {
    pub(crate) volumes: LocalVolumes,
    pub(crate) folder: tempfile::TempDir,
}

impl Setting {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { volumes: LocalVolumes::new(settings(folder.path())).unwrap(), folder }
    }

    pub(crate) fn id() -> VolumeId {
        VolumeId::from_uuid(Uuid::from_u128(1))
    }

    /// Where the volume's files lie on the host.
    pub(crate) fn backing(&self) -> PathBuf {
        self.folder.path().join("data/volumes").join(Self::id().to_string()).join("root")
    }

    pub(crate) async fn open(&self, grant: Grant) -> Arc<dyn Files> {
        let spec = VolumeSpec { id: grant.volume, size_limit: 1 << 30 };
        self.volumes.create(&spec).await.unwrap();
        self.volumes.open(grant).await.unwrap()
    }
}

pub(crate) fn settings(folder: &Path) -> LocalSettings {
    LocalSettings { data: folder.join("data"), run: folder.join("run"), owner: None }
}

/// A grant on the whole volume with a front.
pub(crate) fn mounted() -> Grant {
    Grant {
        mount: true,
        size_limit: 64 << 20,
        uid: rustix::process::geteuid().as_raw(),
        ..aegis_testkit::conformance::volume::grant(Setting::id(), &[], &["/workspace"])
    }
}

/// Whether fronts can be mounted here; says so if not.
pub(crate) fn can_mount(test: &str, setting: &Setting) -> bool {
    match setting.volumes.mount_missing() {
        None => true,
        Some(missing) => {
            eprintln!("SKIP {test}: {missing}");
            false
        }
    }
}

/// Whether a program runs here; says so if not.
pub(crate) fn has_program(test: &str, program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        eprintln!("SKIP {test}: no `{program}`");
    }
    found
}

/// Runs a program and returns what it printed; fails with all it said.
pub(crate) fn run(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}
