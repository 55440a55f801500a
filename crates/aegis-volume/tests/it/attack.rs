//! What an attacker inside, or one who could plant things in a volume's folder, tries.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use aegis_kernel::port::{Grant, PathRules, VolumeError};
use rustix::fs::{FileType, Mode};

use crate::setting::{Setting, can_mount, mounted};

const NOT_PERMITTED: i32 = 1;
const ACCESS_DENIED: i32 = 13;

fn code<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

fn make(path: &Path, kind: FileType) -> io::Result<()> {
    let device = rustix::fs::makedev(1, 3);
    Ok(rustix::fs::mknodat(rustix::fs::CWD, path, kind, Mode::RWXU, device)?)
}

fn unmounted() -> Grant {
    Grant { mount: false, ..mounted() }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_out_are_neither_made_nor_followed() {
    let setting = Setting::new();
    let tools = setting.open(unmounted()).await;
    tools.write("/workspace/d/inside", b"inside").unwrap();
    let secret = setting.folder.path().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("key"), "secret").unwrap();
    let backing = setting.backing();
    symlink(&secret, backing.join("absolute")).unwrap();
    symlink("../../../../secret", backing.join("climbing")).unwrap();
    symlink("../..", backing.join("d/up")).unwrap();
    symlink("d/inside", backing.join("fine")).unwrap();
    assert_eq!(tools.read("/workspace/fine", 0, 9).unwrap(), b"inside");
    for link in ["absolute", "climbing", "d/up"] {
        for path in [format!("/workspace/{link}"), format!("/workspace/{link}/key")] {
            assert!(matches!(tools.read(&path, 0, 9), Err(VolumeError::NotAllowed(_))), "{path}");
            assert!(tools.write(&path, b"x").is_err(), "{path}");
            assert!(tools.list(&path).is_err() && tools.create_dir(&path).is_err(), "{path}");
        }
        assert!(tools.remove(&format!("/workspace/{link}/key"), true).is_err());
    }
    if can_mount("links_out_are_neither_made_nor_followed", &setting) {
        let files = setting.open(mounted()).await;
        let at = files.mount_point().unwrap();
        for link in ["absolute", "climbing", "d/up"] {
            assert_eq!(code(fs::read_link(at.join(link))), NOT_PERMITTED);
            assert_eq!(code(fs::read(at.join(link).join("key"))), NOT_PERMITTED);
            assert_eq!(code(fs::write(at.join(link).join("new"), "x")), NOT_PERMITTED);
        }
        for target in ["/etc", "../..", "d/../..", "../../../../secret", "x/../.."] {
            assert_eq!(code(symlink(target, at.join("made"))), NOT_PERMITTED, "{target}");
        }
        // A link that was within and is moved up would leave: it is not followed at its new place.
        symlink("../inside", at.join("d/within")).unwrap_or_default();
        fs::rename(at.join("d/within"), at.join("within")).unwrap();
        assert_eq!(code(fs::read(at.join("within"))), NOT_PERMITTED);
    }
    tools.remove("/workspace/absolute", true).unwrap();
    assert_eq!(fs::read_to_string(secret.join("key")).unwrap(), "secret");
    assert_eq!(fs::read_dir(&secret).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn special_files_and_hard_links_are_refused() {
    let setting = Setting::new();
    let tools = setting.open(unmounted()).await;
    tools.write("/workspace/a", b"x").unwrap();
    let backing = setting.backing();
    make(&backing.join("fifo"), FileType::Fifo).unwrap();
    let _listener = UnixListener::bind(backing.join("socket")).unwrap();
    let mut planted = vec!["fifo", "socket"];
    if make(&backing.join("device"), FileType::CharacterDevice).is_ok() {
        planted.push("device");
    }
    fs::write(setting.folder.path().join("outside"), "secret").unwrap();
    fs::hard_link(setting.folder.path().join("outside"), backing.join("hard")).unwrap();
    for name in &planted {
        assert!(
            matches!(tools.read(&format!("/workspace/{name}"), 0, 1), Err(VolumeError::WrongKind(_))),
            "{name}"
        );
        assert!(tools.write(&format!("/workspace/{name}"), b"x").is_err(), "{name}");
    }
    assert!(matches!(tools.read("/workspace/hard", 0, 1), Err(VolumeError::NotAllowed(_))));
    let names: Vec<_> = tools.list("/workspace").unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["a", "hard"]);
    assert_eq!(tools.tree().unwrap().entries.len(), 1);
    if !can_mount("special_files_and_hard_links_are_refused", &setting) {
        return;
    }
    let files = setting.open(mounted()).await;
    let at = files.mount_point().unwrap();
    for name in planted {
        assert_eq!(code(fs::metadata(at.join(name))), NOT_PERMITTED, "{name}");
    }
    assert_eq!(code(fs::read(at.join("hard"))), NOT_PERMITTED);
    assert_eq!(code(make(&at.join("f"), FileType::Fifo)), NOT_PERMITTED);
    assert_eq!(code(make(&at.join("s"), FileType::Socket)), NOT_PERMITTED);
    assert_eq!(code(make(&at.join("c"), FileType::CharacterDevice)), NOT_PERMITTED);
    assert_eq!(code(UnixListener::bind(at.join("u"))), NOT_PERMITTED);
    assert_eq!(code(fs::hard_link(at.join("a"), at.join("b"))), NOT_PERMITTED);
    make(&at.join("regular"), FileType::RegularFile).unwrap();
    assert!(files.take_records().unwrap().refused >= 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_hold_in_the_front() {
    let setting = Setting::new();
    if !can_mount("rules_hold_in_the_front", &setting) {
        return;
    }
    let all = setting.open(unmounted()).await;
    for path in ["secret/key", "docs/a", "out/d/f", "outside"] {
        all.write(&format!("/workspace/{path}"), b"x").unwrap();
    }
    let rules = PathRules {
        read: vec!["/workspace/docs".into()],
        write: vec!["/workspace/out".into(), "/workspace/*.log".into()],
    };
    let files = setting.open(Grant { rules, ..mounted() }).await;
    let at = files.mount_point().unwrap();
    let path = |name: &str| at.join(name);
    assert_eq!(code(fs::read(path("secret/key"))), ACCESS_DENIED);
    assert_eq!(code(fs::read(path("out/../secret/key"))), ACCESS_DENIED);
    assert_eq!(code(fs::write(path("outside"), "y")), ACCESS_DENIED);
    assert_eq!(code(fs::write(path("docs/a"), "y")), ACCESS_DENIED);
    assert_eq!(code(fs::create_dir(path("new"))), ACCESS_DENIED);
    assert_eq!(code(fs::rename(path("out/d"), path("docs/d"))), ACCESS_DENIED, "out of what is writable");
    assert_eq!(code(fs::rename(path("docs/a"), path("out/a"))), ACCESS_DENIED, "what is not writable");
    assert_eq!(
        code(fs::rename(path("out/d"), path("d.log"))),
        ACCESS_DENIED,
        "a directory where one file is permitted"
    );
    assert_eq!(code(fs::remove_file(path("docs/a"))), ACCESS_DENIED);
    fs::rename(path("out/d/f"), path("moved.log")).unwrap();
    fs::write(path("out/d/g"), "fine").unwrap();
    let mut names: Vec<_> = fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["docs", "moved.log", "out"], "the rest is not listed");
    assert!(files.take_records().unwrap().refused >= 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_swapped_for_a_link_never_leads_outside() {
    const ROUNDS: u32 = 2000;
    let setting = Setting::new();
    let tools = setting.open(unmounted()).await;
    tools.write("/workspace/d/f", b"x").unwrap();
    let outside = setting.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let backing = setting.backing();
    let done = AtomicBool::new(false);
    let mut written = 0_u32;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _ = fs::rename(backing.join("d"), backing.join("parked"));
                let _ = symlink(&outside, backing.join("d"));
                let _ = fs::remove_file(backing.join("d"));
                let _ = fs::rename(backing.join("parked"), backing.join("d"));
            }
        });
        for round in 0..ROUNDS {
            written += u32::from(tools.write("/workspace/d/f", round.to_string().as_bytes()).is_ok());
            let _ = tools.create_dir(&format!("/workspace/d/sub{}", round % 7));
            let _ = tools.remove(&format!("/workspace/d/sub{}", round % 7), true);
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "round {round}");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(written > 0, "some writes found the directory");
}
