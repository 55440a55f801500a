//! What this node can enforce: looked up where the kernel says it, and tried by running a sandbox.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use aegis_core::{ExecutionId, ExitStatus};
use aegis_kernel::port::Sandboxed;
use aegis_kernel::port::{Role, SandboxCapabilities, SandboxError, SandboxLimits, SandboxSpec};
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::cgroup::Hierarchies;
use crate::doors::DOORS_MISSING;
use crate::launch::{self, Engine};
use crate::seccomp::Filters;
use crate::settings::SandboxSettings;

/// The oldest bubblewrap with `--bind-fd` and repeatable filters.
const BUBBLEWRAP_MIN: (u32, u32) = (0, 8);
/// Interpreters by the language a manifest names.
const INTERPRETERS: [(&str, &str); 1] = [("python", "/usr/bin/python3")];
/// Output kept of the sandbox that is run to see.
const CANARY_OUTPUT_BYTES_MAX: usize = 4096;
const CANARY_MEMORY_BYTES: u64 = 64 << 20;
const CANARY_DISK_BYTES: u64 = 1 << 20;
const CANARY_PIDS: u32 = 8;

/// Builds the engine with its capabilities. Blocks for one sandbox's life.
pub(crate) fn probe(settings: SandboxSettings) -> Result<Engine, SandboxError> {
    let interpreters = thread::spawn(interpreters);
    let mut missing = None;
    let filters = Filters::compile().unwrap_or_else(|reason| {
        missing = Some(reason);
        Filters { allow: Vec::new(), deny: Vec::new() }
    });
    let run_root = run_root(&settings).unwrap_or_else(|reason| {
        missing.get_or_insert(reason);
        PathBuf::new()
    });
    let (hierarchies, mut limits_missing) = match Hierarchies::find() {
        Ok(hierarchies) => (hierarchies, None),
        Err(reason) => (Hierarchies::none(), Some(reason)),
    };
    missing = missing.or_else(|| bubblewrap_missing(&settings.bubblewrap));
    let io = |error: std::io::Error| SandboxError::Io(error.to_string());
    let engine = Engine::new(settings, run_root, hierarchies, filters).map_err(io)?;
    let mut engine = Arc::new(engine);
    if missing.is_none() {
        let (tried, group_reason) = try_canary(engine)?;
        engine = tried.0;
        missing = tried.1;
        limits_missing = limits_missing.or(group_reason);
    }
    let mut engine = Arc::into_inner(engine)
        .ok_or_else(|| SandboxError::Io("the first sandbox has not been let go".to_owned()))?;
    let mut warnings: Vec<String> = limits_missing
        .iter()
        .map(|reason| format!("memory, cpu and pids of a process tree are not limited as a whole: {reason}"))
        .collect();
    let network_missing = (engine.own_uid != 0).then(|| DOORS_MISSING.to_owned());
    warnings.extend(subordinate_ids_warning(&engine));
    engine.capabilities = SandboxCapabilities {
        isolation_missing: missing,
        limits_missing,
        network_missing,
        interpreters: interpreters.join().unwrap_or_default(),
        warnings,
    };
    Ok(engine)
}

type Tried = ((Arc<Engine>, Option<String>), Option<String>);

/// Runs a sandbox; without control groups if it does not start with them.
fn try_canary(engine: Arc<Engine>) -> Result<Tried, SandboxError> {
    let Err(reason) = canary(&engine) else { return Ok(((engine, None), None)) };
    if engine.hierarchies.is_none() {
        return Ok(((engine, Some(explain(&reason))), None));
    }
    let mut engine = Arc::into_inner(engine)
        .ok_or_else(|| SandboxError::Io("the first sandbox has not been let go".to_owned()))?;
    engine.hierarchies = Hierarchies::none();
    let engine = Arc::new(engine);
    match canary(&engine) {
        Ok(()) => {
            Ok(((engine, None), Some(format!("a sandbox does not start in a control group: {reason}"))))
        }
        Err(reason) => Ok(((engine, Some(explain(&reason))), Some(reason))),
    }
}

fn canary(engine: &Arc<Engine>) -> Result<(), String> {
    // Processes are counted by host user: two daemons that start at the same time must not share one.
    let execution = ExecutionId::from_uuid(Uuid::from_u128(std::process::id().into()));
    let spec = SandboxSpec {
        execution,
        generation: 0,
        ordinal: std::process::id(),
        role: Role::Validator,
        argv: vec!["/usr/bin/true".to_owned()],
        env: Vec::new(),
        cwd: "/".to_owned(),
        files: Vec::new(),
        mounts: Vec::new(),
        doors: aegis_kernel::port::Doors::NONE,
        uid: engine.uid_for(execution),
        limits: SandboxLimits {
            cpu_millicores: 1000,
            memory_bytes: CANARY_MEMORY_BYTES,
            disk_bytes: CANARY_DISK_BYTES,
            pids: CANARY_PIDS,
            explicit: false,
        },
        output_bytes_max: CANARY_OUTPUT_BYTES_MAX,
    };
    let running = launch::launch(engine, &spec).map_err(|error| error.to_string())?;
    let ended = Handle::current().block_on(running.wait()).map_err(|error| error.to_string())?;
    match ended.status {
        ExitStatus::Exited { code: 0 } => Ok(()),
        status => {
            Err(format!("`true` ended with {status:?}: {}", String::from_utf8_lossy(&ended.stderr).trim()))
        }
    }
}

/// The reason with what is known about its cause on this host, and a remedy.
fn explain(reason: &str) -> String {
    const SWITCHES: [(&str, &str, &str); 3] = [
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile that lets bwrap use `userns`",
        ),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
        ("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000"),
    ];
    let is = |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    let remedies: Vec<&str> =
        SWITCHES.iter().filter(|(path, value, _)| is(path, value)).map(|(_, _, remedy)| *remedy).collect();
    if remedies.is_empty() {
        format!("{reason}; unprivileged user namespaces, and folders that others may traverse, are needed")
    } else {
        format!("{reason}; this host forbids unprivileged user namespaces: {}", remedies.join(", and "))
    }
}

fn bubblewrap_missing(program: &Path) -> Option<String> {
    let shown = program.display();
    let Some(version) = version_of(program) else {
        return Some(format!("`{shown}` cannot be run; install the package `bubblewrap`"));
    };
    let mut numbers = version.split('.').filter_map(|part| part.parse::<u32>().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (found < BUBBLEWRAP_MIN).then(|| format!("`{shown}` is version {version}; at least 0.8 is needed"))
}

fn interpreters() -> Vec<(String, String, String)> {
    let running = INTERPRETERS.map(|(language, path)| {
        thread::spawn(move || Some((language.to_owned(), version_of(Path::new(path))?, path.to_owned())))
    });
    running.into_iter().filter_map(|thread| thread.join().ok().flatten()).collect()
}

/// The last word of what `--version` prints, without a leading `v`.
fn version_of(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").env_clear().stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().last()?;
    output.status.success().then(|| version.trim_start_matches('v').to_owned())
}

fn run_root(settings: &SandboxSettings) -> Result<PathBuf, String> {
    if let Some(folder) = &settings.run_folder {
        return Ok(folder.clone());
    }
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/run/aegis"));
    }
    let folder = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty());
    folder.map(|folder| Path::new(&folder).join("aegis")).ok_or_else(|| {
        "`XDG_RUNTIME_DIR` is not set; set it to a short folder of this user, such as /run/user/1000"
            .to_owned()
    })
}

/// Somebody who was given the sandboxes' users as subordinate ids could act as them.
fn subordinate_ids_warning(engine: &Engine) -> Option<String> {
    if engine.own_uid != 0 {
        return None;
    }
    let first = u64::from(engine.settings.uid_first);
    let end = first + u64::from(engine.settings.uid_count);
    let text = fs::read_to_string("/etc/subuid").ok()?;
    let granted = text.lines().find(|line| {
        let mut fields = line.split(':').skip(1).map_while(|field| field.trim().parse::<u64>().ok());
        match (fields.next(), fields.next()) {
            (Some(start), Some(count)) => start < end && first < start.saturating_add(count),
            _ => false,
        }
    })?;
    let owner = granted.split(':').next().unwrap_or(granted);
    Some(format!("/etc/subuid gives `{owner}` host users that sandboxes run as; choose another range"))
}
