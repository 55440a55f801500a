//! Processes of sandboxes whose daemon was killed before it had put them on record.
//!
//! A daemon can be killed between starting bubblewrap and noting its first process. "Die with the parent" does not cover
//! all of that moment: the kernel forgets it when bubblewrap changes its credentials, and bubblewrap asks for it again
//! only then. So bubblewrap carries the sandbox's name in its own environment, which no program inside is given.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use crate::process::{Identity, kill_and_wait};

/// The variable that holds the name.
pub(crate) const NAME_VARIABLE: &str = "AEGIS_SANDBOX";

/// Kills the processes that carry a name which starts with `prefix` and that `applies` to, and their children, until
/// there are none; `false` if some are left in the end.
///
/// # Errors
/// When `/proc` cannot be read.
pub(crate) fn kill(prefix: &str, applies: impl Fn(&str) -> bool, timeout: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + timeout;
    loop {
        let found = carriers(prefix, &applies)?;
        if found.is_empty() {
            return Ok(true);
        }
        // Stopped from the leaves: a child whose parent is gone would not be found any more.
        let children = found.iter().flat_map(|carrier| children(carrier.pid)).collect::<Vec<_>>();
        for process in children.into_iter().chain(found) {
            let left = deadline.saturating_duration_since(Instant::now());
            if !kill_and_wait(process, left)? {
                return Ok(false);
            }
        }
    }
}

fn carriers(prefix: &str, applies: &impl Fn(&str) -> bool) -> io::Result<Vec<Identity>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // Identified before its environment is read: then both are of one process, or it is gone.
        let Some(identity) = Identity::read(pid) else { continue };
        // Of another user, or gone.
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { continue };
        let carried = environment.split(|byte| *byte == 0).find_map(|variable| {
            std::str::from_utf8(variable).ok()?.strip_prefix(NAME_VARIABLE)?.strip_prefix('=')
        });
        if carried.is_some_and(|name| name.starts_with(prefix) && applies(name)) {
            found.push(identity);
        }
    }
    Ok(found)
}

fn children(pid: u32) -> Vec<Identity> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|child| child.parse().ok()).filter_map(Identity::read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn sleeper(name: &str) -> Child {
        Command::new("sh").args(["-c", "sleep 60 & wait"]).env(NAME_VARIABLE, name).spawn().unwrap()
    }

    #[test]
    fn carriers_of_the_name_die_with_their_children_and_nobody_else() {
        let prefix = format!("aegis-test{}-", std::process::id());
        let mut other = sleeper("aegis-another-1");
        let mut spared = sleeper(&format!("{prefix}spared"));
        let mut meant = sleeper(&format!("{prefix}1"));
        let begun = Instant::now();
        while children(meant.id()).is_empty() && begun.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let child = children(meant.id()).pop().unwrap();
        let spare = format!("{prefix}spared");
        // Reaped meanwhile, as init does with an orphan.
        let reaper = std::thread::spawn(move || meant.wait().unwrap());
        assert!(kill(&prefix, |name| name != spare, Duration::from_secs(5)).unwrap());
        reaper.join().unwrap();
        assert!(child.open().unwrap().is_none());
        for child in [&mut other, &mut spared] {
            assert_eq!(child.try_wait().unwrap(), None);
        }
        assert!(kill(&prefix, |_| true, Duration::from_secs(5)).unwrap());
        spared.wait().unwrap();
        for child in children(other.id()) {
            kill_and_wait(child, Duration::from_secs(5)).unwrap();
        }
        other.wait().unwrap();
    }
}
