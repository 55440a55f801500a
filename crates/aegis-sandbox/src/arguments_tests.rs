use std::path::PathBuf;

use aegis_core::ExecutionId;
use aegis_kernel::port::{HostFile, Mount, Role, SandboxLimits};
use uuid::Uuid;

use super::*;

fn spec() -> SandboxSpec {
    SandboxSpec {
        execution: ExecutionId::from_uuid(Uuid::nil()),
        generation: 1,
        ordinal: 0,
        role: Role::Validator,
        argv: vec!["/usr/bin/true".to_owned()],
        env: Vec::new(),
        cwd: "/workspace".to_owned(),
        files: Vec::new(),
        mounts: Vec::new(),
        doors: Doors::NONE,
        uid: 1,
        limits: SandboxLimits {
            cpu_millicores: 1000,
            memory_bytes: 1 << 28,
            disk_bytes: 1 << 20,
            pids: 64,
            explicit: false,
        },
        output_bytes_max: 1024,
    }
}

fn mount(target: &str) -> Mount {
    Mount { source: PathBuf::from("/m"), target: target.to_owned(), read_only: false }
}

fn list(spec: &SandboxSpec) -> Vec<String> {
    let descriptors = Descriptors {
        etc: vec![10, 11, 12, 13],
        run: 14,
        mounts: (20..20 + i32::try_from(spec.mounts.len()).unwrap()).collect(),
        status: 15,
        block: 18,
        allow: 16,
        deny: 17,
    };
    let bytes = arguments(&RootLayout::default(), spec, &descriptors);
    bytes
        .strip_suffix(b"\0")
        .unwrap()
        .split(|byte| *byte == 0)
        .map(|part| String::from_utf8_lossy(part).into())
        .collect()
}

#[test]
fn volumes_are_mounted_after_their_parents_and_replace_the_temporary_workspace() {
    let mut spec = spec();
    spec.mounts = vec![mount("/data/deep/volume"), mount("/workspace")];
    let list = list(&spec);
    assert!(!list.windows(2).any(|pair| pair == ["--tmpfs", "/workspace"]));
    let place = |value: &str| list.iter().position(|entry| entry == value).unwrap();
    assert!(place("/data") < place("/data/deep") && place("/data/deep") < place("/data/deep/volume"));
    assert_eq!(list.windows(3).filter(|three| *three == ["--bind-fd", "20", "/data/deep/volume"]).count(), 1);
}

#[test]
fn the_root_is_closed_after_everything_is_in_it() {
    let list = list(&spec());
    let closed = list.windows(2).position(|pair| pair == ["--remount-ro", "/"]).unwrap();
    let last_mount = list.iter().rposition(|entry| entry == "--tmpfs" || entry == "--ro-bind-fd").unwrap();
    assert!(last_mount < closed);
}

#[test]
fn what_would_change_other_arguments_is_refused() {
    let refused = |change: fn(&mut SandboxSpec)| {
        let mut spec = spec();
        assert_eq!(check(&spec), Ok(()));
        change(&mut spec);
        assert!(check(&spec).is_err());
    };
    refused(|spec| spec.env = vec![("A".to_owned(), "x\0--bind\0/\0/host".to_owned())]);
    refused(|spec| spec.env = vec![("A=B".to_owned(), String::new())]);
    refused(|spec| spec.argv = vec!["python3".to_owned()]);
    refused(|spec| spec.argv.clear());
    refused(|spec| spec.cwd = "relative".to_owned());
    refused(|spec| spec.files = vec![HostFile { name: "../escape".to_owned(), bytes: Vec::new() }]);
    refused(|spec| spec.files = vec![HostFile { name: "control.sock".to_owned(), bytes: Vec::new() }]);
}

#[test]
fn targets_that_are_the_sandboxes_own_are_refused() {
    for target in ["/", "/usr/lib", "/proc", "/run/aegis", "/etc", "/tmp", "/a/../etc", "workspace", "/a//b"]
    {
        assert!(check_target(target).is_err(), "{target}");
    }
    for target in ["/workspace", "/workspace/shared", "/data", "/tmp/volume"] {
        assert!(check_target(target).is_ok(), "{target}");
    }
}
