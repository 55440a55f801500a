//! What of a node's sandboxes and volumes the machine shows: processes, mounts, control groups, run folders.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// A process that was seen. No later one with the same number has the same start time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) start_ticks: u64,
    pub(crate) command: String,
}

/// The marks by which what belongs to one data folder is found.
pub(crate) struct Marks {
    /// In every prompt and command of this node's runs, and so in the command lines of its sandboxes.
    tag: String,
    /// What names of control groups and run folders begin with.
    group: String,
    /// The source of its mounts.
    mount: String,
}

/// Everything found at one moment.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    pub(crate) processes: BTreeSet<Process>,
    /// Ids of mounts; the kernel does not use one again soon, and mount points are checked with them.
    pub(crate) mounts: BTreeSet<String>,
    pub(crate) groups: BTreeSet<PathBuf>,
    pub(crate) folders: BTreeSet<PathBuf>,
}

impl Marks {
    /// The marks of the node whose data folder is `home`, as the sandbox and the volumes of the product form them.
    pub(crate) fn of(home: &Path, tag: &str) -> Self {
        let home = home.canonicalize().expect("the data folder");
        let volumes = home.join("volumes");
        Self {
            tag: tag.to_owned(),
            group: format!("aegis-{}-", digest(&home, 6)),
            mount: format!("aegis-{}", digest(&volumes, 8)),
        }
    }

    /// Looks at everything.
    pub(crate) fn look(&self) -> Leftovers {
        let mut found =
            Leftovers { processes: self.processes(), mounts: self.mounts(), ..Leftovers::default() };
        folders_named(Path::new("/sys/fs/cgroup"), &self.group, 6, &mut found.groups);
        folders_named(Path::new("/run/aegis"), &self.group, 1, &mut found.folders);
        found
    }

    /// Live processes that carry the tag, but for the tests' own commands.
    pub(crate) fn processes(&self) -> BTreeSet<Process> {
        let entries = std::fs::read_dir("/proc").expect("/proc");
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        pids.filter_map(|pid| self.process(pid)).collect()
    }

    fn process(&self, pid: u32) -> Option<Process> {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        if !command.contains(&self.tag) && !groups.contains(&self.group) {
            return None;
        }
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        if matches!(fields.next()?, "Z" | "X") {
            return None;
        }
        // Field 22 of proc_pid_stat(5); the state just read is field 3.
        let start_ticks = fields.nth(18)?.parse().ok()?;
        Some(Process { pid, start_ticks, command: command.chars().take(200).collect() })
    }

    fn mounts(&self) -> BTreeSet<String> {
        let text = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let ours = text.lines().filter(|line| {
            line.split_once(" - ").and_then(|(_, rest)| rest.split(' ').nth(1)) == Some(self.mount.as_str())
        });
        ours.map(|line| line.split(' ').take(5).collect::<Vec<_>>().join(" ")).collect()
    }
}

impl Leftovers {
    /// Adds what another look found.
    pub(crate) fn join(&mut self, other: Self) {
        self.processes.extend(other.processes);
        self.mounts.extend(other.mounts);
        self.groups.extend(other.groups);
        self.folders.extend(other.folders);
    }

    /// Whether nothing was found.
    pub(crate) fn is_empty(&self) -> bool {
        self.processes.is_empty()
            && self.mounts.is_empty()
            && self.groups.is_empty()
            && self.folders.is_empty()
    }
}

fn digest(path: &Path, bytes: usize) -> String {
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    digest.iter().take(bytes).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn folders_named(folder: &Path, prefix: &str, depth: u32, found: &mut BTreeSet<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            found.insert(entry.path());
        }
        if depth > 0 {
            folders_named(&entry.path(), prefix, depth - 1, found);
        }
    }
}
