//! A daemon that was killed leaves a mount; the next one detaches it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aegis_kernel::port::{Grant, Volume, VolumeSpec};
use aegis_volume::LocalVolumes;

use crate::setting::{Setting, can_mount, mounted, settings};

/// Names the folder in the child process.
const FOLDER: &str = "AEGIS_TEST_VOLUME_FOLDER";

/// Not a test of its own: what the killed process runs.
#[tokio::test(flavor = "multi_thread")]
async fn serve_until_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let volumes = LocalVolumes::new(settings(folder)).unwrap();
    volumes.create(&VolumeSpec { id: Setting::id(), size_limit: 1 << 20 }).await.unwrap();
    let files = volumes.open(mounted()).await.unwrap();
    fs::write(folder.join("ready.new"), files.mount_point().unwrap().to_str().unwrap()).unwrap();
    fs::rename(folder.join("ready.new"), folder.join("ready")).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_servers_mount_is_detached() {
    let setting = Setting::new();
    if !can_mount("a_killed_servers_mount_is_detached", &setting) {
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::serve_until_killed"])
        .env(FOLDER, setting.folder.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let ready = setting.folder.path().join("ready");
    while !ready.exists() {
        assert!(started.elapsed() < Duration::from_secs(20), "the child mounts");
        std::thread::sleep(Duration::from_millis(5));
    }
    let at = fs::read_to_string(ready).unwrap();
    fs::write(Path::new(&at).join("a"), "x").unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(fs::read_dir(&at).is_err(), "a dead mount");
    let live = setting.open(mounted()).await;
    assert_eq!(setting.volumes.detach_leftovers().await.unwrap(), 1);
    assert!(!Path::new(&at).exists());
    assert_eq!(fs::read(live.mount_point().unwrap().join("a")).unwrap(), b"x", "our own stays");
    assert_eq!(setting.volumes.detach_leftovers().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_was_interrupted_is_ended_at_the_next_start() {
    let setting = Setting::new();
    setting.open(Grant { mount: false, ..mounted() }).await.write("/workspace/a", b"x").unwrap();
    let volume = setting.backing().parent().unwrap().to_owned();
    let interrupted = volume.with_extension("removed");
    fs::rename(&volume, &interrupted).unwrap();
    assert!(setting.volumes.tree(Setting::id()).await.is_err(), "what is left of it is no volume");
    let again = LocalVolumes::new(settings(setting.folder.path())).unwrap();
    assert!(!interrupted.exists());
    again.create(&VolumeSpec { id: Setting::id(), size_limit: 1 << 20 }).await.unwrap();
    assert_eq!(again.tree(Setting::id()).await.unwrap().entries, []);
    again.remove(Setting::id()).await.unwrap();
    assert!(!volume.exists() && !interrupted.exists());
    again.remove(Setting::id()).await.unwrap();
}
