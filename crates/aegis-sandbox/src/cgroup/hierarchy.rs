//! Which control group hierarchies this daemon may make groups in.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// What a hierarchy is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Version 1 memory.
    Memory,
    /// Version 1 pids.
    Pids,
    /// Version 1 processor quota.
    Cpu,
    /// Version 2 beside version 1: no controllers, but `cgroup.kill`.
    KillOnly,
    /// Version 2 with memory, pids and cpu.
    Unified,
}

/// The folders in which groups are made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hierarchies {
    parents: Vec<(Kind, PathBuf)>,
}

/// A control group mount of `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
struct Mounted {
    point: PathBuf,
    version2: bool,
    controllers: BTreeSet<String>,
}

const CONTROLLERS: [(&str, Kind); 3] = [("memory", Kind::Memory), ("pids", Kind::Pids), ("cpu", Kind::Cpu)];

impl Hierarchies {
    /// No hierarchy: nothing can be limited for a tree.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// Looks for hierarchies that carry memory, pids and cpu, all of them or none.
    ///
    /// # Errors
    /// What is missing, and what to do about it.
    pub(crate) fn find() -> Result<Self, String> {
        let text =
            fs::read_to_string("/proc/self/mountinfo").map_err(|error| format!("mountinfo: {error}"))?;
        let mounted: Vec<Mounted> = text.lines().filter_map(parse_mount).collect();
        let unified = mounted.iter().find(|mount| mount.version2);
        if let Some(parents) = version1(&mounted) {
            let mut parents = parents?;
            if let Some(mount) = unified.filter(|mount| writable(&mount.point)) {
                parents.push((Kind::KillOnly, mount.point.clone()));
            }
            return Ok(Self { parents });
        }
        let mount = unified.ok_or("no control groups are mounted; mount cgroup2 on /sys/fs/cgroup")?;
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| format!("own group: {error}"))?;
        let parent = delegated(&mount.point, &own)?;
        Ok(Self { parents: vec![(Kind::Unified, parent)] })
    }

    /// Each hierarchy's kind and the folder in which groups are made.
    pub(crate) fn parents(&self) -> &[(Kind, PathBuf)] {
        &self.parents
    }

    /// Whether a group holds a whole tree here.
    pub(crate) fn is_none(&self) -> bool {
        self.parents.is_empty()
    }

    /// The names of all groups that start with `prefix`.
    pub(crate) fn names(&self, prefix: &str) -> BTreeSet<String> {
        let entries = self.parents.iter().filter_map(|(_, parent)| fs::read_dir(parent).ok()).flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter(|name| name.starts_with(prefix)).collect()
    }
}

/// The three version 1 controllers, if version 1 carries any of them.
fn version1(mounted: &[Mounted]) -> Option<Result<Vec<(Kind, PathBuf)>, String>> {
    let find = |name: &str| mounted.iter().find(|mount| !mount.version2 && mount.controllers.contains(name));
    if CONTROLLERS.iter().all(|(name, _)| find(name).is_none()) {
        return None;
    }
    let parents = CONTROLLERS.iter().map(|(name, kind)| {
        let mount = find(name).ok_or_else(|| {
            format!(
                "the control group controller `{name}` is not mounted; mount it under /sys/fs/cgroup/{name}"
            )
        })?;
        if writable(&mount.point) {
            Ok((*kind, mount.point.clone()))
        } else {
            Err(format!(
                "{} is not writable for this user; run the daemon as root, or on a system with cgroup2 under \
                 `systemd-run --user --scope -p Delegate=yes`",
                mount.point.display()
            ))
        }
    });
    Some(parents.collect())
}

/// The daemon's own version 2 group, made ready to have groups with memory, pids and cpu below it.
fn delegated(point: &Path, own: &str) -> Result<PathBuf, String> {
    const REMEDY: &str = "start the daemon in a group of its own, for example with `systemd-run --user --scope \
                          -p Delegate=yes`";
    let path =
        own.lines().find_map(|line| line.strip_prefix("0::/")).ok_or("the daemon has no cgroup2 group")?;
    // After an earlier start of the daemon in the same scope it may still be in the leaf it made for itself.
    let path = path.strip_suffix(LEAF).unwrap_or(path);
    let group = point.join(path);
    if !writable(&group) {
        return Err(format!("{} is not writable for this user; {REMEDY}", group.display()));
    }
    let offered = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    if let Some((missing, _)) =
        CONTROLLERS.iter().find(|(name, _)| !offered.split_whitespace().any(|c| c == *name))
    {
        return Err(format!("{} does not offer the controller `{missing}`; {REMEDY}", group.display()));
    }
    enable(&group).map_err(|error| format!("controllers of {}: {error}; {REMEDY}", group.display()))?;
    Ok(group)
}

/// The leaf into which the daemon moves itself: a group with processes of its own cannot give controllers to others.
const LEAF: &str = "/aegis-daemon";

fn enable(group: &Path) -> io::Result<()> {
    let control = group.join("cgroup.subtree_control");
    let all = "+memory +pids +cpu";
    let Err(error) = fs::write(&control, all) else { return Ok(()) };
    let members = fs::read_to_string(group.join("cgroup.procs"))?;
    let own = std::process::id().to_string();
    if error.raw_os_error() != Some(libc::EBUSY) || members.lines().any(|member| member != own) {
        return Err(error);
    }
    let leaf = group.join(LEAF.trim_start_matches('/'));
    match fs::create_dir(&leaf) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => fs::write(leaf.join("cgroup.procs"), own)?,
    }
    fs::write(&control, all)
}

fn writable(folder: &Path) -> bool {
    access(folder, Access::WRITE_OK).is_ok()
}

/// A control group mount, or `None` for a line of another kind. Fields: proc_pid_mountinfo(5).
fn parse_mount(line: &str) -> Option<Mounted> {
    let (before, after) = line.split_once(" - ")?;
    let point = before.split(' ').nth(4)?;
    let mut after = after.split(' ');
    let version2 = match after.next()? {
        "cgroup" => false,
        "cgroup2" => true,
        _ => return None,
    };
    let controllers = after.nth(1)?.split(',').map(str::to_owned).collect();
    Some(Mounted { point: PathBuf::from(point), version2, controllers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_both_versions_are_read() {
        let line = "34 25 0:30 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct";
        let mount = parse_mount(line).unwrap();
        assert_eq!(mount.point, Path::new("/sys/fs/cgroup/cpu"));
        assert!(!mount.version2 && mount.controllers.contains("cpu"));
        assert!(parse_mount("1 1 0:2 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw").unwrap().version2);
        assert_eq!(parse_mount("1 1 0:2 / /tmp rw - tmpfs tmpfs rw"), None);
    }

    #[test]
    fn a_missing_controller_is_named() {
        let only_memory =
            parse_mount("1 1 0:2 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory").unwrap();
        let error = version1(&[only_memory]).unwrap().unwrap_err();
        assert!(
            error.contains("memory is not writable") || error.contains("`pids` is not mounted"),
            "{error}"
        );
    }

    #[test]
    fn without_version_1_controllers_version_2_decides() {
        let line = "1 1 0:2 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd";
        assert!(version1(&[parse_mount(line).unwrap()]).is_none());
    }

    #[test]
    fn a_group_without_controllers_is_refused_with_a_remedy() {
        let point = tempfile::tempdir().unwrap();
        let error = delegated(point.path(), "0::/\n").unwrap_err();
        assert!(error.contains("`memory`") && error.contains("Delegate=yes"), "{error}");
    }
}
