//! The questions put to the machine, each answered by trying.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Finding, Lack};

/// Any unprivileged user will do: the daemon gives each sandbox one.
const UNPRIVILEGED_ID: u32 = 65534;
const PYTHON_MINOR_MIN: u32 = 8;
const CGROUP_ROOT: &str = "/sys/fs/cgroup";
const CGROUP_CONTROLLERS: &[&str] = &["cpu", "memory", "pids"];
const APPARMOR_SWITCH: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";

/// Everything the probe looks at, in the order in which it is printed.
pub(super) fn findings() -> Vec<Finding> {
    vec![
        Finding { name: "cc", needed_for: "the build", state: program("cc", "gcc libc6-dev") },
        Finding { name: "git", needed_for: "tests", state: program("git", "git") },
        Finding { name: "jq", needed_for: "quick start and tests", state: program("jq", "jq") },
        Finding { name: "curl", needed_for: "quick start and tests", state: program("curl", "curl") },
        Finding {
            name: "bubblewrap",
            needed_for: "process isolation",
            state: program("bwrap", "bubblewrap"),
        },
        Finding { name: "user-namespaces", needed_for: "process isolation", state: user_namespaces() },
        Finding { name: "python3", needed_for: "agents in the process sandbox", state: system_python() },
        Finding { name: "fuse", needed_for: "writable volumes", state: fuse_device() },
        Finding {
            name: "fusermount3",
            needed_for: "volumes of a daemon that is not root",
            state: fusermount(),
        },
        Finding { name: "cgroups", needed_for: "limits on a whole sandbox", state: cgroups() },
        Finding { name: "pip", needed_for: "the small local model of the quick start", state: pip() },
    ]
}

fn program(name: &str, package: &str) -> Result<String, Lack> {
    let version = first_line(Command::new(name).arg("--version"));
    version.ok_or_else(|| Lack::new(format!("`{name}` does not run"), apt(package)))
}

fn apt(package: &str) -> String {
    format!("`apt-get install {package}`")
}

fn user_namespaces() -> Result<String, Lack> {
    let mut command = Command::new("bwrap");
    command.args(["--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "--proc", "/proc", "/bin/true"]);
    // A root daemon drops to an unprivileged user before it makes the sandbox, so root proves nothing.
    if is_root() {
        command.uid(UNPRIVILEGED_ID).gid(UNPRIVILEGED_ID);
    }
    let output = command.stdin(Stdio::null()).current_dir("/").output();
    let reason = match output {
        Ok(output) if output.status.success() => return Ok("an unprivileged user can make them".to_owned()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().replace('\n', " "),
        Err(error) => return Err(Lack::new(format!("cannot be tried: `bwrap`: {error}"), apt("bubblewrap"))),
    };
    let restricted = fs::read_to_string(APPARMOR_SWITCH).is_ok_and(|switch| switch.trim() == "1");
    let remedy = if restricted {
        "AppArmor restricts them: allow `bwrap` by an AppArmor profile with `userns,`, \
         or `sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
    } else {
        "`sysctl user.max_user_namespaces=15000` (Debian 10 and older: `sysctl kernel.unprivileged_userns_clone=1`); \
         in a container, allow `unshare` in its seccomp profile"
    };
    Err(Lack::new(reason, remedy))
}

fn system_python() -> Result<String, Lack> {
    // Only /usr is inside a sandbox: a Python from elsewhere on the search path does not help.
    let remedy = apt("python3");
    let version = first_line(Command::new("/usr/bin/python3").args(["-I", "-S", "--version"]))
        .ok_or_else(|| Lack::new("/usr/bin/python3 does not run", remedy.clone()))?;
    match python_minor(&version) {
        Some(minor) if minor >= PYTHON_MINOR_MIN => Ok(format!("{version} in /usr/bin")),
        _ => {
            Err(Lack::new(format!("{version} in /usr/bin, at least 3.{PYTHON_MINOR_MIN} is needed"), remedy))
        }
    }
}

fn python_minor(version: &str) -> Option<u32> {
    version.strip_prefix("Python 3.")?.split('.').next()?.parse().ok()
}

fn fuse_device() -> Result<String, Lack> {
    match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        Ok(_) => Ok("/dev/fuse opens".to_owned()),
        Err(error) => Err(Lack::new(
            format!("/dev/fuse: {error}"),
            "`modprobe fuse`; in a container, start it with `--device /dev/fuse`; as a normal user, `chmod 0666 /dev/fuse`",
        )),
    }
}

fn fusermount() -> Result<String, Lack> {
    program("fusermount3", "fuse3")
}

fn cgroups() -> Result<String, Lack> {
    let remedy = "run as root, or start the daemon under `systemd-run --user --scope -p Delegate=yes`; \
                  without it limits hold for each process alone";
    if is_writable_version_1() {
        return Ok("version 1, writable".to_owned());
    }
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(group) = own.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return Err(Lack::new("no control group is writable", remedy));
    };
    let folder = Path::new(CGROUP_ROOT).join(group);
    let offered = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    let absent: Vec<&str> = CGROUP_CONTROLLERS
        .iter()
        .copied()
        .filter(|name| !offered.split_whitespace().any(|one| one == *name))
        .collect();
    if !absent.is_empty() {
        return Err(Lack::new(format!("no control of {} here", absent.join(", ")), remedy));
    }
    if can_make_group(&folder) {
        return Ok("version 2, writable".to_owned());
    }
    Err(Lack::new(format!("{} is not writable", folder.display()), remedy))
}

fn is_writable_version_1() -> bool {
    CGROUP_CONTROLLERS.iter().all(|controller| {
        let folder = Path::new(CGROUP_ROOT).join(controller);
        folder.join("cgroup.procs").exists() && can_make_group(&folder)
    })
}

fn can_make_group(folder: &Path) -> bool {
    let group: PathBuf = folder.join(format!("aegis-probe-{}", std::process::id()));
    fs::create_dir(&group).is_ok() && fs::remove_dir(&group).is_ok()
}

fn pip() -> Result<String, Lack> {
    let works =
        first_line(Command::new("python3").args(["-c", "import ensurepip, venv; print('venv with pip')"]));
    works.ok_or_else(|| Lack::new("python3 cannot make a virtual environment with pip", apt("python3-venv")))
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output.status.success().then(|| text.lines().next().unwrap_or_default().to_owned())
}

/// Who owns this process, as the kernel shows it; the standard library has no call for it.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_minor_version_of_python() {
        assert_eq!(python_minor("Python 3.11.2"), Some(11));
        assert_eq!(python_minor("Python 3.14.0rc1"), Some(14));
        assert_eq!(python_minor("Python 2.7.18"), None);
    }
}
