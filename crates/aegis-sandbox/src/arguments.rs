//! The arguments of bubblewrap: how a sandbox's root is built from nothing.

use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use aegis_kernel::port::{Doors, Role, SandboxError, SandboxSpec};

/// User and group that the workload sees itself as.
const INSIDE_ID: &str = "1000";
/// Smallest size of a temporary file system: one page. bubblewrap takes no 0, which would mean unlimited.
const TMPFS_BYTES_MIN: u64 = 4096;
/// Where the run folder appears.
pub(crate) const RUN_INSIDE: &str = "/run/aegis";
const WORKSPACE: &str = "/workspace";
/// Top-level names a volume may not be mounted at or below: they are the sandbox's own.
const RESERVED: [&str; 12] =
    ["bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "proc", "run", "sbin", "sys", "usr"];

/// The generated files of `/etc`, by path.
pub(crate) const ETC_FILES: [(&str, &str); 4] = [
    (
        "/etc/passwd",
        "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\nagent:x:1000:1000:agent:/tmp:/bin/sh\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    ("/etc/group", "root:x:0:\nagent:x:1000:\nnogroup:x:65534:\n"),
    ("/etc/hosts", "127.0.0.1 localhost aegis\n::1 localhost\n"),
    ("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"),
];

/// Which of the host's top-level folders are links into /usr.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RootLayout {
    links: Vec<(String, String)>,
    folders: Vec<String>,
}

impl RootLayout {
    /// Reads the host's layout.
    pub(crate) fn read() -> Self {
        let mut layout = Self::default();
        for name in ["bin", "sbin", "lib", "lib32", "lib64"] {
            let path = Path::new("/").join(name);
            match std::fs::read_link(&path) {
                Ok(target) => {
                    let target = target.strip_prefix("/").unwrap_or(&target).to_owned();
                    layout.links.push((target.to_string_lossy().into_owned(), format!("/{name}")));
                }
                Err(_) if path.is_dir() => layout.folders.push(format!("/{name}")),
                Err(_) => {}
            }
        }
        layout
    }
}

/// Numbers of the descriptors bubblewrap is given.
#[derive(Debug)]
pub(crate) struct Descriptors {
    /// Content of each of [`ETC_FILES`], in order.
    pub(crate) etc: Vec<RawFd>,
    /// The run folder.
    pub(crate) run: RawFd,
    /// Each of the spec's mounts, in order.
    pub(crate) mounts: Vec<RawFd>,
    /// Where bubblewrap reports the first process and its exit.
    pub(crate) status: RawFd,
    /// What the first process waits for before it becomes the program.
    pub(crate) block: RawFd,
    /// The two filters.
    pub(crate) allow: RawFd,
    /// The denylist.
    pub(crate) deny: RawFd,
}

/// Refuses what could not be run, or what would change the meaning of other arguments.
pub(crate) fn check(spec: &SandboxSpec) -> Result<(), SandboxError> {
    let refuse = |text: String| Err(SandboxError::Start(text));
    let texts =
        spec.argv.iter().chain([&spec.cwd]).chain(spec.env.iter().flat_map(|(key, value)| [key, value]));
    if texts.clone().any(|text| text.contains('\0')) {
        return refuse("an argument or environment variable holds a zero byte".to_owned());
    }
    if !spec.argv.first().is_some_and(|program| program.starts_with('/')) {
        return refuse("the program must be an absolute path inside the sandbox".to_owned());
    }
    if !spec.cwd.starts_with('/') {
        return refuse(format!("the working directory `{}` is not an absolute path", spec.cwd));
    }
    if let Some((key, _)) = spec.env.iter().find(|(key, _)| key.is_empty() || key.contains('=')) {
        return refuse(format!("`{key}` is not a name of an environment variable"));
    }
    for file in &spec.files {
        let plain = !file.name.is_empty() && !file.name.contains(['/', '\0']) && !file.name.starts_with('.');
        let taken = [crate::run_folder::CONTROL_SOCKET, crate::run_folder::API_FOLDER];
        if !plain || taken.contains(&file.name.as_str()) {
            return refuse(format!("`{}` is not a file name for {RUN_INSIDE}", file.name));
        }
    }
    let may = match spec.role {
        Role::Bootstrap => true,
        Role::Validator => spec.doors == Doors::NONE,
        Role::Server => !spec.doors.api,
    };
    if !may {
        return refuse("a validator has no doors, and a server none but that to the outside".to_owned());
    }
    let mut seen: Vec<&str> = Vec::new();
    for mount in &spec.mounts {
        check_target(&mount.target)?;
        if seen.contains(&mount.target.as_str()) {
            return refuse(format!("two volumes are mounted at `{}`", mount.target));
        }
        seen.push(&mount.target);
    }
    Ok(())
}

fn check_target(target: &str) -> Result<(), SandboxError> {
    let refuse =
        |why: &str| Err(SandboxError::Start(format!("a volume cannot be mounted at `{target}`: {why}")));
    let Some(relative) = target.strip_prefix('/') else { return refuse("not an absolute path") };
    if relative.contains('\0') || relative.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return refuse("not a plain path");
    }
    let top = relative.split('/').next().unwrap_or_default();
    if RESERVED.contains(&top) || target == "/tmp" {
        return refuse("that place is the sandbox's own; use one below /workspace or a folder of its own");
    }
    Ok(())
}

/// The arguments, each ended by a zero byte, for `--args`: the host's users see no path or environment in `ps`.
pub(crate) fn arguments(layout: &RootLayout, spec: &SandboxSpec, descriptors: &Descriptors) -> Vec<u8> {
    let mut list = List(Vec::new());
    list.add([
        "--unshare-user",
        "--unshare-all",
        "--uid",
        INSIDE_ID,
        "--gid",
        INSIDE_ID,
        "--hostname",
        "aegis",
    ]);
    list.add(["--die-with-parent", "--new-session", "--cap-drop", "ALL", "--as-pid-1"]);
    list.add(["--json-status-fd", &descriptors.status.to_string()]);
    list.add(["--block-fd", &descriptors.block.to_string()]);
    list.add(["--clearenv"]);
    for (key, value) in &spec.env {
        list.add(["--setenv", key, value]);
    }
    system(&mut list, layout, descriptors);
    if spec.doors.egress {
        authorities(&mut list);
    }
    let size = spec.limits.disk_bytes.max(TMPFS_BYTES_MIN).to_string();
    list.add(["--proc", "/proc", "--dev", "/dev"]);
    list.add(["--perms", "1777", "--size", &size, "--tmpfs", "/tmp"]);
    list.add(["--perms", "1777", "--size", &size, "--tmpfs", "/dev/shm"]);
    volumes(&mut list, spec, &size, descriptors);
    list.add(["--dir", "/run", "--ro-bind-fd", &descriptors.run.to_string(), RUN_INSIDE]);
    list.add(["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", &spec.cwd]);
    list.add(["--add-seccomp-fd", &descriptors.allow.to_string()]);
    list.add(["--add-seccomp-fd", &descriptors.deny.to_string()]);
    list.0
}

/// The system: /usr read-only with its links, and an /etc that says nothing about the host.
fn system(list: &mut List, layout: &RootLayout, descriptors: &Descriptors) {
    list.add(["--ro-bind", "/usr", "/usr"]);
    for (target, link) in &layout.links {
        list.add(["--symlink", target, link]);
    }
    for folder in &layout.folders {
        list.add(["--ro-bind", folder, folder]);
    }
    list.add(["--perms", "0755", "--dir", "/etc"]);
    for path in ["/etc/alternatives", "/etc/ld.so.cache", "/etc/ssl/certs"] {
        list.add(["--ro-bind-try", path, path]);
    }
    for ((path, _), number) in ETC_FILES.iter().zip(&descriptors.etc) {
        list.add(["--perms", "0444", "--file", &number.to_string(), path]);
    }
}

/// The host's bundles of certificate authorities where they do not lie in /etc/ssl/certs.
fn authorities(list: &mut List) {
    for path in ["/etc/pki/ca-trust/extracted", "/etc/pki/tls/certs", "/etc/ca-certificates/extracted"] {
        list.add(["--ro-bind-try", path, path]);
    }
}

/// The volumes, parents before what lies below them; a temporary /workspace where no volume is.
fn volumes(list: &mut List, spec: &SandboxSpec, size: &str, descriptors: &Descriptors) {
    if !spec.mounts.iter().any(|mount| mount.target == WORKSPACE) {
        list.add(["--perms", "0755", "--size", size, "--tmpfs", WORKSPACE]);
    }
    let mut mounts: Vec<_> = spec.mounts.iter().zip(&descriptors.mounts).collect();
    mounts.sort_by_key(|(mount, _)| mount.target.split('/').count());
    for (mount, number) in mounts {
        for parent in parents(&mount.target) {
            list.add(["--dir", &parent.to_string_lossy()]);
        }
        let bind = if mount.read_only { "--ro-bind-fd" } else { "--bind-fd" };
        list.add([bind, &number.to_string(), &mount.target]);
    }
}

/// The folders above a target, from the top, without the root.
fn parents(target: &str) -> Vec<PathBuf> {
    let above = Path::new(target).ancestors().skip(1).filter(|path| path.parent().is_some());
    let mut above: Vec<PathBuf> = above.map(Path::to_path_buf).collect();
    above.reverse();
    above
}

struct List(Vec<u8>);

impl List {
    fn add<const N: usize>(&mut self, arguments: [&str; N]) {
        for argument in arguments {
            self.0.extend_from_slice(argument.as_bytes());
            self.0.push(0);
        }
    }
}

#[cfg(test)]
#[path = "arguments_tests.rs"]
mod tests;
