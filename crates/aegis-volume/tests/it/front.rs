//! What programs do in a mount, and that tools and mount see one volume.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

use aegis_kernel::port::{Grant, VolumeError};

use crate::setting::{Setting, can_mount, has_program, mounted, run};

fn code<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

macro_rules! front {
    ($test:literal, $grant:expr, $setting:ident, $files:ident, $at:ident) => {
        let $setting = Setting::new();
        if !can_mount($test, &$setting) {
            return;
        }
        let $files = $setting.open($grant).await;
        let $at = $files.mount_point().unwrap();
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn git_works() {
    front!("git_works", mounted(), setting, files, at);
    if !has_program("git_works", "git") {
        return;
    }
    run(&at, "git", &["init", "-q", "repo"]);
    let repo = at.join("repo");
    for number in 0..50 {
        fs::create_dir_all(repo.join(format!("d{}", number % 5))).unwrap();
        fs::write(repo.join(format!("d{}/f{number}", number % 5)), format!("content {number}")).unwrap();
    }
    run(&repo, "git", &["add", "-A"]);
    run(&repo, "git", &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first"]);
    assert_eq!(run(&repo, "git", &["status", "--porcelain"]), "");
    run(&repo, "git", &["gc", "-q"]);
    run(&repo, "git", &["fsck", "--strict"]);
    run(&at, "git", &["clone", "-q", "repo", "copy"]);
    assert_eq!(files.read("/workspace/copy/d3/f3", 0, 99).unwrap(), b"content 3");
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_with_a_write_ahead_log_and_shared_memory_works() {
    front!("sqlite_with_a_write_ahead_log_and_shared_memory_works", mounted(), setting, _files, at);
    if !has_program("sqlite_with_a_write_ahead_log_and_shared_memory_works", "python3") {
        return;
    }
    let script = r#"
import sqlite3, mmap, os, fcntl
one = sqlite3.connect("db"); two = sqlite3.connect("db")
assert one.execute("pragma journal_mode=wal").fetchone() == ("wal",)
one.execute("create table t(x)")
for n in range(200):
    one.execute("insert into t values (?)", (n,)); one.commit()
assert two.execute("select count(*) from t").fetchone() == (200,)
assert two.execute("pragma integrity_check").fetchone() == ("ok",)
with open("map", "w+b") as f:
    f.truncate(8192)
    m = mmap.mmap(f.fileno(), 8192); m[4096:4101] = b"hello"; m.flush()
    fcntl.lockf(f, fcntl.LOCK_EX); fcntl.flock(f, fcntl.LOCK_EX)
    assert os.pread(f.fileno(), 5, 4096) == b"hello"
print("fine")
"#;
    assert_eq!(run(&at, "python3", &["-c", script]), "fine\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_handles_behave_as_in_any_file_system() {
    front!("names_and_handles_behave_as_in_any_file_system", mounted(), setting, _files, at);
    fs::write(at.join("a"), "first").unwrap();
    fs::write(at.join("b"), "second").unwrap();
    let mut held = OpenOptions::new().read(true).write(true).open(at.join("a")).unwrap();
    fs::rename(at.join("b"), at.join("a")).unwrap();
    assert_eq!(fs::read_to_string(at.join("a")).unwrap(), "second");
    let mut text = String::new();
    held.read_to_string(&mut text).unwrap();
    assert_eq!(text, "first", "a handle keeps its file");
    held.set_len(2).unwrap();
    assert_eq!(held.metadata().unwrap().len(), 2, "ftruncate and fstat after the name is gone");
    held.rewind().unwrap();
    held.write_all(b"FIRST").unwrap();
    assert_eq!(held.metadata().unwrap().len(), 5);

    fs::create_dir_all(at.join("d/e")).unwrap();
    fs::write(at.join("d/e/f"), "deep").unwrap();
    let deep = File::open(at.join("d/e/f")).unwrap();
    fs::rename(at.join("d"), at.join("g")).unwrap();
    assert_eq!(deep.metadata().unwrap().len(), 4);
    assert_eq!(fs::read_to_string(at.join("g/e/f")).unwrap(), "deep");
    assert_eq!(code(fs::remove_dir(at.join("g"))), 39, "ENOTEMPTY");

    let rename = |from: &str, to: &str, flags| {
        rustix::fs::renameat_with(rustix::fs::CWD, at.join(from), rustix::fs::CWD, at.join(to), flags)
    };
    fs::write(at.join("c"), "third").unwrap();
    assert_eq!(rename("c", "a", rustix::fs::RenameFlags::NOREPLACE), Err(rustix::io::Errno::EXIST));
    rename("c", "a", rustix::fs::RenameFlags::EXCHANGE).unwrap();
    assert_eq!(fs::read_to_string(at.join("a")).unwrap(), "third");
    assert_eq!(fs::read_to_string(at.join("c")).unwrap(), "second");

    std::os::unix::fs::symlink("g/e/f", at.join("link")).unwrap();
    assert_eq!(fs::read_to_string(at.join("link")).unwrap(), "deep");
    let mut appended = OpenOptions::new().append(true).open(at.join("link")).unwrap();
    appended.write_all(b"er").unwrap();
    assert_eq!(fs::read_to_string(at.join("g/e/f")).unwrap(), "deeper");
    let names = fs::read_dir(&at).unwrap().count();
    assert_eq!(names, 4, "a, c, g, link");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_tools_write_is_visible_at_once_and_the_other_way_round() {
    front!("what_tools_write_is_visible_at_once_and_the_other_way_round", mounted(), setting, files, at);
    let second = setting.open(mounted()).await;
    let other = second.mount_point().unwrap();
    for round in 0..20 {
        let text = format!("round {round}");
        files.write("/workspace/d/f", text.as_bytes()).unwrap();
        assert_eq!(fs::read_to_string(at.join("d/f")).unwrap(), text, "tool to mount");
        assert_eq!(fs::read_to_string(other.join("d/f")).unwrap(), text, "tool to another's mount");
        let inside = format!("inside, longer {round}");
        fs::write(at.join("d/f"), &inside).unwrap();
        assert_eq!(files.read("/workspace/d/f", 0, 99).unwrap(), inside.as_bytes(), "mount to tool");
        assert!(!at.join("e").exists());
        files.write("/workspace/e", b"").unwrap();
        assert!(at.join("e").exists(), "a name known to be missing appears");
        files.remove("/workspace/e", false).unwrap();
        assert!(!at.join("e").exists(), "a removed name disappears");
    }
    let held = File::open(at.join("d/f")).unwrap();
    files.write("/workspace/d/f", b"replaced").unwrap();
    let mut old = [0; 6];
    held.read_exact_at(&mut old, 0).unwrap();
    assert_eq!(&old, b"inside", "a handle keeps the file it opened");
    assert_eq!(fs::read(at.join("d/f")).unwrap(), b"replaced");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_holds_and_is_exact() {
    const LIMIT: u64 = 1 << 20;
    const CHARGE: u64 = 4096;
    front!("the_limit_holds_and_is_exact", Grant { size_limit: LIMIT, ..mounted() }, setting, files, at);
    let fill = |name: &str, length: u64| {
        let file = File::create(at.join(name))?;
        file.write_all_at(&vec![1; usize::try_from(length).unwrap()], 0).map(|()| file)
    };
    let full = 28;
    drop(fill("a", LIMIT - 2 * CHARGE).unwrap());
    let b = fill("b", 0).unwrap();
    assert_eq!(code(b.write_all_at(b"x", 0)), full);
    assert_eq!(code(b.set_len(1)), full);
    assert_eq!(code(b.set_len(u64::MAX / 2)), full);
    assert_eq!(code(File::create(at.join("c"))), full);
    assert_eq!(code(fs::create_dir(at.join("c"))), full);
    assert_eq!(
        code(rustix::fs::fallocate(&b, rustix::fs::FallocateFlags::empty(), 0, 1).map_err(Into::into)),
        full
    );
    let keep = rustix::fs::FallocateFlags::KEEP_SIZE;
    assert!(rustix::fs::fallocate(&b, keep, 0, 1 << 30).is_err(), "space the ledger does not see");
    assert!(matches!(files.write("/workspace/c", b""), Err(VolumeError::QuotaExceeded(LIMIT))));

    let held = OpenOptions::new().write(true).open(at.join("a")).unwrap();
    fs::remove_file(at.join("a")).unwrap();
    assert_eq!(code(b.write_all_at(b"x", 0)), full, "a removed file counts while it is open");
    held.set_len(10).unwrap();
    b.write_all_at(b"x", 0).unwrap();
    drop(held);
    b.set_len(0).unwrap();
    drop(b);
    fs::remove_file(at.join("b")).unwrap();
    // Release reaches the server after close returned.
    let exact = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        fill("all", LIMIT - CHARGE).is_ok()
    });
    assert!(exact, "all of it is free again");
    let space = rustix::fs::statvfs(&at).unwrap();
    assert_eq!((space.f_blocks * space.f_frsize, space.f_bavail), (LIMIT, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_grants_refuse_every_change() {
    let setting = Setting::new();
    if !can_mount("read_only_grants_refuse_every_change", &setting) {
        return;
    }
    setting.open(mounted()).await.write("/workspace/a", b"x").unwrap();
    let files = setting.open(Grant { read_only: true, ..mounted() }).await;
    let at = files.mount_point().unwrap();
    assert_eq!(fs::read(at.join("a")).unwrap(), b"x");
    let read_only = 30;
    assert_eq!(code(fs::write(at.join("a"), "y")), read_only);
    assert_eq!(code(fs::write(at.join("b"), "y")), read_only);
    assert_eq!(code(fs::remove_file(at.join("a"))), read_only);
    assert_eq!(code(fs::create_dir(at.join("d"))), read_only);
    assert_eq!(code(fs::rename(at.join("a"), at.join("b"))), read_only);
    assert_eq!(code(fs::set_permissions(at.join("a"), fs::Permissions::from_mode(0o777))), read_only);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_owner_and_no_special_bits() {
    front!("one_owner_and_no_special_bits", mounted(), setting, _files, at);
    fs::write(at.join("a"), "").unwrap();
    fs::set_permissions(at.join("a"), fs::Permissions::from_mode(0o6755)).unwrap();
    let meta = fs::metadata(at.join("a")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o755, mounted().uid));
    assert_eq!(code(std::os::unix::fs::chown(at.join("a"), Some(4242), None)), 1);
    fs::set_permissions(setting.backing().join("a"), fs::Permissions::from_mode(0o6755)).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(fs::metadata(at.join("a")).unwrap().mode() & 0o7777, 0o755, "planted bits are not shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_the_front_whoever_uses_it() {
    front!("closing_ends_the_front_whoever_uses_it", mounted(), setting, files, at);
    let held = File::create(at.join("a")).unwrap();
    let started = std::time::Instant::now();
    files.close();
    assert!(started.elapsed() < std::time::Duration::from_secs(15));
    assert!(held.write_all_at(b"x", 0).is_err(), "an open file answers no more");
    assert!(!at.join("a").exists());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(at.to_str().unwrap()));
    assert!(files.stat("/workspace/a").is_ok(), "tools go on");
    files.close();
}
