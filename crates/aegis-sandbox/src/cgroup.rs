//! Control groups: limits for a whole process tree, and a sure way to kill it.
//!
//! Version 1 hierarchies, version 2, and both together are spoken. Only groups whose name carries this data folder's
//! mark are ever made, entered, killed or removed.

mod hierarchy;

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use aegis_kernel::port::SandboxLimits;
use rustix::process::{Pid, Signal, kill_process};

pub(crate) use hierarchy::{Hierarchies, Kind};

use crate::name::SandboxName;

/// How long to wait after the first look at a group that is being emptied: the kernel mostly needs less.
const LOOK_AGAIN_FIRST: Duration = Duration::from_micros(50);
/// How long to wait at most between two looks.
const LOOK_AGAIN_MAX: Duration = Duration::from_millis(5);
/// Period of the processor quota, microseconds.
const CPU_PERIOD_US: u64 = 100_000;
/// The least quota the kernel takes, microseconds.
const CPU_QUOTA_US_MIN: u64 = 1_000;
/// Processes of a sandbox that are not the workload's: bubblewrap's outer one.
const PROCESSES_OF_THE_ENGINE: u64 = 1;

/// The groups of one sandbox: one per hierarchy.
#[derive(Debug)]
pub(crate) struct Groups {
    folders: Vec<(Kind, PathBuf)>,
}

/// What the kernel counted in a sandbox's groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counters {
    /// Processes killed for memory.
    pub(crate) oom_kills: u64,
    /// Processes or threads refused.
    pub(crate) pids_refused: u64,
}

impl Groups {
    /// Makes the groups and sets their limits. On failure nothing is left.
    pub(crate) fn create(
        hierarchies: &Hierarchies,
        name: &SandboxName,
        limits: &SandboxLimits,
    ) -> io::Result<Self> {
        let mut groups = Self { folders: Vec::new() };
        for (kind, parent) in hierarchies.parents() {
            let folder = parent.join(name.as_str());
            let made = fs::create_dir(&folder).and_then(|()| {
                groups.folders.push((*kind, folder.clone()));
                set_limits(*kind, &folder, limits)
            });
            if let Err(error) = made {
                groups.remove(Duration::ZERO);
                return Err(io::Error::new(
                    error.kind(),
                    format!("control group {}: {error}", folder.display()),
                ));
            }
        }
        Ok(groups)
    }

    /// The groups of this name that a former daemon left.
    pub(crate) fn existing(hierarchies: &Hierarchies, name: &str) -> Self {
        let folders = hierarchies.parents().iter().map(|(kind, parent)| (*kind, parent.join(name)));
        Self { folders: folders.filter(|(_, folder)| folder.is_dir()).collect() }
    }

    /// Moves processes into the groups. The kernel lets the first move wait for some milliseconds, until no process
    /// forks; those after it cost next to nothing.
    pub(crate) fn enter(&self, processes: &[u32]) -> io::Result<()> {
        for (_, folder) in &self.folders {
            let mut entrance = fs::OpenOptions::new().write(true).open(folder.join("cgroup.procs"))?;
            for process in processes {
                entrance.write_all(process.to_string().as_bytes())?;
            }
        }
        Ok(())
    }

    /// Kills all members once. Members that fork meanwhile need another round.
    pub(crate) fn kill(&self) {
        if self.folders.iter().any(|(_, folder)| fs::write(folder.join("cgroup.kill"), "1").is_ok()) {
            return;
        }
        for (kind, folder) in &self.folders {
            if matches!(kind, Kind::Pids) {
                let _ = fs::write(folder.join("pids.max"), "0");
            }
        }
        for member in self.members() {
            let _ = kill_process(member, Signal::KILL);
        }
    }

    /// Kills until nobody is left; `false` if somebody is at the deadline.
    pub(crate) fn kill_all(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut pauses = pauses();
        loop {
            if self.is_empty() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            self.kill();
            sleep(pauses.next().unwrap_or(LOOK_AGAIN_MAX));
        }
    }

    /// Whether nobody is in any of the groups. A group that cannot be read is not empty unless it is gone.
    pub(crate) fn is_empty(&self) -> bool {
        self.folders.iter().all(|(_, folder)| match fs::read_to_string(folder.join("cgroup.procs")) {
            Ok(members) => members.trim().is_empty(),
            Err(error) => {
                error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
            }
        })
    }

    /// What the kernel counted.
    pub(crate) fn counters(&self) -> Counters {
        let mut counters = Counters::default();
        for (kind, folder) in &self.folders {
            let count = |file: &str, key: &str| keyed(&folder.join(file), key).unwrap_or(0);
            match kind {
                Kind::Memory => counters.oom_kills += count("memory.oom_control", "oom_kill"),
                Kind::Pids => counters.pids_refused += count("pids.events", "max"),
                Kind::Cpu | Kind::KillOnly => {}
                Kind::Unified => {
                    counters.oom_kills += count("memory.events", "oom_kill");
                    counters.pids_refused += count("pids.events", "max");
                }
            }
        }
        counters
    }

    /// Removes the groups, which must be empty; the kernel may call them busy for a moment after the last death.
    pub(crate) fn remove(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut pauses = pauses();
        loop {
            let left = self.folders.iter().filter(|(_, folder)| {
                fs::remove_dir(folder).is_err_and(|error| error.kind() != io::ErrorKind::NotFound)
            });
            if left.count() == 0 {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            sleep(pauses.next().unwrap_or(LOOK_AGAIN_MAX));
        }
    }

    fn members(&self) -> Vec<Pid> {
        let lists = self
            .folders
            .iter()
            .filter_map(|(_, folder)| fs::read_to_string(folder.join("cgroup.procs")).ok());
        let mut members: Vec<i32> = lists
            .flat_map(|list| list.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>())
            .collect();
        members.sort_unstable();
        members.dedup();
        members.into_iter().filter_map(Pid::from_raw).collect()
    }
}

/// Ever longer pauses: an end is seen at once, and a long wait costs next to nothing.
fn pauses() -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(LOOK_AGAIN_FIRST), |pause| Some((*pause * 2).min(LOOK_AGAIN_MAX)))
}

fn set_limits(kind: Kind, folder: &Path, limits: &SandboxLimits) -> io::Result<()> {
    let write = |file: &str, value: String| fs::write(folder.join(file), value);
    let write_if_there = |file: &str, value: String| {
        if folder.join(file).exists() { write(file, value) } else { Ok(()) }
    };
    let pids = (u64::from(limits.pids) + PROCESSES_OF_THE_ENGINE).to_string();
    let quota_us = (u64::from(limits.cpu_millicores) * CPU_PERIOD_US / 1000).max(CPU_QUOTA_US_MIN);
    let memory = limits.memory_bytes.to_string();
    match kind {
        Kind::Memory => {
            write("memory.limit_in_bytes", memory.clone())?;
            write_if_there("memory.memsw.limit_in_bytes", memory)
        }
        Kind::Pids => write("pids.max", pids),
        Kind::Cpu => {
            write("cpu.cfs_period_us", CPU_PERIOD_US.to_string())?;
            write("cpu.cfs_quota_us", quota_us.to_string())
        }
        Kind::KillOnly => Ok(()),
        Kind::Unified => {
            write("memory.max", memory)?;
            write_if_there("memory.swap.max", "0".to_owned())?;
            write("pids.max", pids)?;
            write("cpu.max", format!("{quota_us} {CPU_PERIOD_US}"))
        }
    }
}

/// The number after `key` in a file of `key number` lines.
fn keyed(path: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.find(|(name, _)| *name == key)?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_looks_follow_at_once_and_later_ones_do_not_burn_time() {
        let early: Duration = pauses().take(3).sum();
        assert!(early < Duration::from_micros(500), "{early:?}");
        assert_eq!(pauses().nth(20), Some(LOOK_AGAIN_MAX));
    }

    #[test]
    fn each_limit_is_written_where_its_hierarchy_reads_it() {
        let limits = SandboxLimits {
            cpu_millicores: 250,
            memory_bytes: 64 << 20,
            disk_bytes: 1,
            pids: 9,
            explicit: true,
        };
        let written = |kind: Kind, limits: &SandboxLimits| {
            let folder = tempfile::tempdir().unwrap();
            for there in ["memory.memsw.limit_in_bytes", "memory.swap.max"] {
                fs::write(folder.path().join(there), "").unwrap();
            }
            set_limits(kind, folder.path(), limits).unwrap();
            let entries = fs::read_dir(folder.path()).unwrap().flatten();
            let mut files: Vec<(String, String)> = entries
                .map(|entry| {
                    let text = fs::read_to_string(entry.path()).unwrap();
                    (entry.file_name().into_string().unwrap(), text)
                })
                .filter(|(_, text)| !text.is_empty())
                .collect();
            files.sort();
            files
        };
        let is = |files: Vec<(String, String)>, expected: &[(&str, &str)]| {
            let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
            assert_eq!(files, expected);
        };
        let cpu = [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "25000")];
        is(written(Kind::Cpu, &limits), &cpu);
        let memory = [("memory.limit_in_bytes", "67108864"), ("memory.memsw.limit_in_bytes", "67108864")];
        is(written(Kind::Memory, &limits), &memory);
        is(written(Kind::Pids, &limits), &[("pids.max", "10")]);
        is(written(Kind::KillOnly, &limits), &[]);
        let unified = [
            ("cpu.max", "25000 100000"),
            ("memory.max", "67108864"),
            ("memory.swap.max", "0"),
            ("pids.max", "10"),
        ];
        is(written(Kind::Unified, &limits), &unified);
        let least = SandboxLimits { cpu_millicores: 1, ..limits };
        is(written(Kind::Cpu, &least), &[("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "1000")]);
    }
}
