//! `aegis daemon install` and `uninstall`: a systemd unit, for the system as root, else for the user.

use std::path::{Path, PathBuf};
use std::process::Command;

use aegis_core::{Diagnosis, ErrorCode};

use super::file_error;
use crate::args::Global;
use crate::failure::Failure;
use crate::output;

const UNIT: &str = "aegis.service";

pub(super) fn install(global: &Global, print: bool) -> Result<(), Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Diagnosis::internal(format!("this program cannot be found again: {error}")))?;
    let unit = unit(&program, &global.home()?, global.config_file()?.as_deref())?;
    if print {
        return output::text(&unit);
    }
    let path = unit_path()?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| file_error(folder, &error))?;
    }
    std::fs::write(&path, unit).map_err(|error| file_error(&path, &error))?;
    systemctl(&["daemon-reload"])?;
    systemctl(&["enable", "--now", UNIT])?;
    output::line(&format!("Installed and started {}", path.display()))
}

pub(super) fn uninstall() -> Result<(), Failure> {
    let path = unit_path()?;
    if !path.exists() {
        return Err(Diagnosis::new(ErrorCode::NotFound, format!("no unit `{}`", path.display())).into());
    }
    systemctl(&["disable", "--now", UNIT])?;
    std::fs::remove_file(&path).map_err(|error| file_error(&path, &error))?;
    systemctl(&["daemon-reload"])?;
    output::line(&format!("Removed {}; the data stays", path.display()))
}

fn unit_path() -> Result<PathBuf, Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(Path::new("/etc/systemd/system").join(UNIT));
    }
    let home =
        std::env::home_dir().ok_or_else(|| Diagnosis::new(ErrorCode::InvalidInput, "`HOME` is not set"))?;
    Ok(home.join(".config/systemd/user").join(UNIT))
}

fn systemctl(arguments: &[&str]) -> Result<(), Failure> {
    let mut command = Command::new("systemctl");
    if !rustix::process::geteuid().is_root() {
        command.arg("--user");
    }
    let failed = |why: String| {
        Diagnosis::capability_missing(
            format!("`systemctl {}`: {why}", arguments.join(" ")),
            "`aegis daemon install --print` prints the unit, to install by hand; `aegis up` needs no systemd",
        )
    };
    let done = command.args(arguments).output().map_err(|error| failed(error.to_string()))?;
    if done.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&done.stderr).trim().to_owned()).into())
}

/// The unit. `Delegate=yes` lets the daemon bound whole process trees.
fn unit(program: &Path, home: &Path, config: Option<&Path>) -> Result<String, Failure> {
    let config = match config {
        Some(path) => format!(" --config {}", quoted(path)?),
        None => String::new(),
    };
    let target = if rustix::process::geteuid().is_root() { "multi-user.target" } else { "default.target" };
    Ok(format!(
        "[Unit]\nDescription=AEGIS, a runtime for AI agents\nAfter=network.target\n\n\
         [Service]\nExecStart={} daemon start{config}\nExecReload=/bin/kill -HUP $MAINPID\n\
         Environment={}\nDelegate=yes\nRestart=on-failure\nTimeoutStopSec=60\n\n\
         [Install]\nWantedBy={target}\n",
        quoted(program)?,
        quoted(Path::new(&format!("AEGIS_HOME={}", home.display())))?,
    ))
}

/// A word of a unit file. What could not be one is refused.
fn quoted(path: &Path) -> Result<String, Failure> {
    let text = path.to_string_lossy();
    if text.contains(['"', '\\', '\n', '$', '%']) {
        return Err(Diagnosis::new(ErrorCode::InvalidInput, format!("`{text}` cannot stand in a unit file"))
            .hint("choose a path without quotes, `\\`, `$` and `%`")
            .into());
    }
    Ok(format!("\"{text}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_names_program_folder_and_configuration() {
        let text =
            unit(Path::new("/usr/bin/aegis"), Path::new("/var/lib/my aegis"), Some(Path::new("/etc/a.yaml")));
        let text = text.unwrap();
        assert!(
            text.contains("ExecStart=\"/usr/bin/aegis\" daemon start --config \"/etc/a.yaml\"\n"),
            "{text}"
        );
        assert!(text.contains("Environment=\"AEGIS_HOME=/var/lib/my aegis\"\n"), "{text}");
        assert!(unit(Path::new("/a\"b"), Path::new("/"), None).is_err());
    }
}
