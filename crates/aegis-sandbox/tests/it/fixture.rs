//! A sandbox on a data folder of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use aegis_kernel::port::{Ended, Sandbox, SandboxSpec};
use aegis_sandbox::{ProcessSandbox, SandboxSettings};
use aegis_testkit::conformance::sandbox as suite;
use tempfile::TempDir;

/// Longer than a socket's address may be.
const RUN_FOLDER: &str =
    "run-in-a-folder-whose-name-is-longer-than-what-fits-the-address-of-a-socket-of-this-kernel";

/// A sandbox and the folders it lives in.
pub(crate) struct Fixture {
    pub(crate) sandbox: ProcessSandbox,
    pub(crate) folder: TempDir,
}

/// The settings of a fixture below `folder`, which others must be able to traverse.
pub(crate) fn settings(folder: &Path) -> SandboxSettings {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o711)).unwrap();
    let data = folder.join("data");
    fs::create_dir_all(&data).unwrap();
    SandboxSettings { run_folder: Some(folder.join(RUN_FOLDER)), ..SandboxSettings::new(data) }
}

impl Fixture {
    /// A working sandbox, or `None` with a note where this machine can isolate nothing.
    pub(crate) async fn new(test: &str) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let sandbox = ProcessSandbox::probe(settings(folder.path())).await.unwrap();
        if let Some(reason) = &sandbox.capabilities().isolation_missing {
            eprintln!("SKIP {test}: {reason}");
            return None;
        }
        Some(Self { sandbox, folder })
    }

    /// Whether limits of a whole tree can be tested here.
    pub(crate) fn limits(&self, test: &str) -> bool {
        if let Some(reason) = &self.sandbox.capabilities().limits_missing {
            eprintln!("SKIP {test}: {reason}");
            return false;
        }
        true
    }

    pub(crate) fn run_folder(&self) -> PathBuf {
        self.folder.path().join(RUN_FOLDER)
    }

    /// A specification that runs a Python program.
    pub(crate) fn python(&self, number: u128, program: &str) -> SandboxSpec {
        let mut spec = suite::program(&self.sandbox, number, &["/usr/bin/python3", "-I", "-c", program]);
        spec.limits.pids = 128;
        spec
    }

    /// Runs a Python program and gives what it printed; it must end well.
    pub(crate) async fn print(&self, number: u128, program: &str) -> String {
        let ended = self.run(self.python(number, program)).await;
        let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status, aegis_core::ExitStatus::Exited { code: 0 }, "{stderr}");
        String::from_utf8(ended.stdout).unwrap()
    }

    pub(crate) async fn run(&self, spec: SandboxSpec) -> Ended {
        suite::run(&self.sandbox, spec).await.unwrap()
    }
}
