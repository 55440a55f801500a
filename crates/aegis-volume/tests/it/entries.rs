//! How many entries a volume may hold, counted exactly.

use std::fs;

use aegis_kernel::port::{Volume, VolumeError};

use crate::setting::{Setting, can_mount, mounted};

/// Most files, links and directories of a volume.
const ENTRIES_MAX: u64 = 100_000;
const NO_SPACE: i32 = 28;

/// Plants directories below the volume's root, as somebody with its folder could, until `count` entries are there.
fn plant(setting: &Setting, count: u64) {
    let mut made = 0;
    for folder in 0.. {
        let parent = setting.backing().join(format!("p{folder}"));
        fs::create_dir(&parent).unwrap();
        made += 1;
        for number in 0..1000 {
            if made == count {
                return;
            }
            fs::create_dir(parent.join(number.to_string())).unwrap();
            made += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_holds_a_bounded_number_of_entries() {
    let setting = Setting::new();
    drop(setting.open(aegis_kernel::port::Grant { mount: false, ..mounted() }).await);
    plant(&setting, ENTRIES_MAX - 2);
    let mount = setting.volumes.mount_missing().is_none();
    let grant = aegis_kernel::port::Grant { mount, size_limit: 1 << 30, ..mounted() };
    let files = setting.open(grant).await;
    files.write("/workspace/a", b"first").unwrap();
    files.write("/workspace/b", b"last").unwrap();
    files.write("/workspace/b", b"the same entry again").unwrap();
    for refused in [files.write("/workspace/c", b"x"), files.create_dir("/workspace/d")] {
        let Err(VolumeError::WrongKind(why)) = refused else { panic!("{refused:?}") };
        assert!(why.contains("100000"), "{why}");
    }
    assert!(files.take_records().unwrap().refusals["entry_limit"] >= 2);
    assert_eq!(files.tree().unwrap().entries.len(), 2);
    if can_mount("a_volume_holds_a_bounded_number_of_entries", &setting) {
        let at = files.mount_point().unwrap();
        let code = |result: std::io::Result<()>| result.unwrap_err().raw_os_error();
        assert_eq!(code(fs::write(at.join("c"), "")), Some(NO_SPACE));
        assert_eq!(code(fs::create_dir(at.join("d"))), Some(NO_SPACE));
        assert_eq!(code(std::os::unix::fs::symlink("a", at.join("l"))), Some(NO_SPACE));
        assert_eq!(rustix::fs::statvfs(&at).unwrap().f_favail, 0);
        fs::write(at.join("b"), "as before").unwrap();
        fs::rename(at.join("b"), at.join("a")).unwrap();
        fs::write(at.join("c"), "in its place").unwrap();
    } else {
        files.remove("/workspace/b", false).unwrap();
        files.write("/workspace/c", b"in its place").unwrap();
    }
    assert!(files.write("/workspace/e", b"").is_err());
    // One more, past the core: the tree is refused, not read into memory.
    fs::write(setting.backing().join("planted"), "").unwrap();
    assert!(files.tree().is_err() && setting.volumes.tree(Setting::id()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_of_long_paths_is_refused_before_it_fills_the_memory() {
    let setting = Setting::new();
    let files = setting.open(aegis_kernel::port::Grant { mount: false, ..mounted() }).await;
    let deep = format!("/workspace{}", format!("/{}", "d".repeat(250)).repeat(11));
    files.create_dir(&deep).unwrap();
    // Six thousand names below 2761 bytes of path are more than 16 MiB.
    for number in 0..6100 {
        files.write(&format!("{deep}/{number}"), b"").unwrap();
    }
    let Err(VolumeError::WrongKind(why)) = files.tree() else { panic!("the tree was read") };
    assert!(why.contains("16777216"), "{why}");
}
