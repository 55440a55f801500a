//! Starting one sandbox.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Write, pipe};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aegis_core::{ExecutionId, SandboxFacts};
use aegis_kernel::port::{Doors as SpecDoors, Pipes, Role, SandboxCapabilities, SandboxError, SandboxSpec};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, SeekFrom, memfd_create, seek};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::arguments::{self, Descriptors, ETC_FILES, RootLayout};
use crate::cgroup::{Groups, Hierarchies};
use crate::doors::{DOORS_MISSING, Doors};
use crate::guardian::{self, Guarded, Status};
use crate::name::{Owner, SandboxName};
use crate::process::{Identity, ProcessHandle, timespec};
use crate::run_folder::{RunFolder, open_path};
use crate::running::Running;
use crate::seccomp::Filters;
use crate::settings::SandboxSettings;
use crate::spawner::Spawner;
use crate::sys::Launch;
use crate::uids::Uids;
use crate::unrecorded;

/// How long bubblewrap may take to report its child.
const REPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// Open descriptors per process inside.
const DESCRIPTORS_MAX: u64 = 4096;
/// Processes of the sandbox's host user beyond the workload's: bubblewrap's, while it sets things up.
const PROCESSES_OF_THE_ENGINE: u64 = 4;

/// What all sandboxes of a daemon share.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) settings: SandboxSettings,
    pub(crate) owner: Owner,
    pub(crate) run_root: PathBuf,
    /// Where new sandboxes get groups; none if they do not start in them.
    pub(crate) hierarchies: Hierarchies,
    /// Where a former daemon may have left groups.
    pub(crate) former_hierarchies: Hierarchies,
    pub(crate) filters: Filters,
    pub(crate) layout: RootLayout,
    pub(crate) spawner: Spawner,
    /// The daemon's own user.
    pub(crate) own_uid: u32,
    pub(crate) capabilities: SandboxCapabilities,
    uids: Mutex<Uids>,
    running: Mutex<HashSet<String>>,
}

impl Engine {
    /// An engine that has started nothing yet.
    pub(crate) fn new(
        settings: SandboxSettings,
        run_root: PathBuf,
        hierarchies: Hierarchies,
        filters: Filters,
    ) -> io::Result<Self> {
        Ok(Self {
            owner: Owner::of(&settings.data_folder),
            run_root,
            former_hierarchies: hierarchies.clone(),
            hierarchies,
            filters,
            layout: RootLayout::read(),
            spawner: Spawner::new()?,
            own_uid: rustix::process::geteuid().as_raw(),
            capabilities: SandboxCapabilities::default(),
            uids: Mutex::new(Uids::new(settings.uid_first, settings.uid_count)),
            running: Mutex::new(HashSet::new()),
            settings,
        })
    }

    /// The host user of an execution's sandboxes.
    pub(crate) fn uid_for(&self, execution: ExecutionId) -> u32 {
        if self.own_uid == 0 { self.lock_uids().assign(execution) } else { self.own_uid }
    }

    /// Whether a sandbox of this name was started by this engine and has not ended.
    pub(crate) fn is_running(&self, name: &str) -> bool {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    /// Notes that a sandbox is no longer this engine's to watch. `proved`: nobody runs as its user any more.
    pub(crate) fn released(&self, name: &SandboxName, execution: ExecutionId, proved: bool) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(name.as_str());
        if proved && self.own_uid == 0 {
            self.lock_uids().ended(execution);
        }
    }

    fn lock_uids(&self) -> std::sync::MutexGuard<'_, Uids> {
        self.uids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the name and the user for a new sandbox.
    fn claim(&self, name: &SandboxName, spec: &SandboxSpec) -> Result<(), SandboxError> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.contains(name.as_str()) {
            return Err(SandboxError::Start(format!("the sandbox `{name}` runs already")));
        }
        if self.own_uid == 0 && !self.lock_uids().started(spec.execution, spec.uid) {
            return Err(SandboxError::Start(format!("`{}` is not the execution's host user", spec.uid)));
        }
        running.insert(name.as_str().to_owned());
        Ok(())
    }
}

/// Starts a sandbox; blocks for some milliseconds.
pub(crate) fn launch(engine: &Arc<Engine>, spec: &SandboxSpec) -> Result<Running, SandboxError> {
    arguments::check(spec)?;
    if engine.own_uid != 0 && spec.doors != SpecDoors::NONE {
        return Err(SandboxError::CapabilityMissing(DOORS_MISSING.to_owned()));
    }
    if spec.limits.explicit && engine.hierarchies.is_none() {
        let missing = engine.capabilities.limits_missing.clone();
        return Err(SandboxError::CapabilityMissing(
            missing.unwrap_or_else(|| "no control groups".to_owned()),
        ));
    }
    let name = engine.owner.sandbox(spec.execution, spec.generation, spec.ordinal);
    engine.claim(&name, spec)?;
    let started = prepare_and_start(engine, spec, &name);
    if started.is_err() {
        engine.released(&name, spec.execution, true);
    }
    started
}

/// Makes what the sandbox needs; takes it away again if the start fails.
fn prepare_and_start(
    engine: &Arc<Engine>,
    spec: &SandboxSpec,
    name: &SandboxName,
) -> Result<Running, SandboxError> {
    let owner = (engine.own_uid == 0).then_some(spec.uid);
    let folder = RunFolder::create(&engine.run_root, name, owner).map_err(|error| {
        SandboxError::Io(format!("run folder `{}` of {name}: {error}", engine.run_root.display()))
    })?;
    let groups = match Groups::create(&engine.hierarchies, name, &spec.limits) {
        Ok(groups) => groups,
        Err(error) => {
            let _ = folder.remove();
            return Err(SandboxError::Io(error.to_string()));
        }
    };
    start(engine, spec, name, folder, groups).map_err(|(error, folder, groups)| {
        groups.kill_all(REPORT_TIMEOUT);
        groups.remove(guardian::GROUP_REMOVAL_TIMEOUT);
        let _ = folder.remove();
        error
    })
}

type Failed = (SandboxError, RunFolder, Groups);

fn start(
    engine: &Arc<Engine>,
    spec: &SandboxSpec,
    name: &SandboxName,
    folder: RunFolder,
    groups: Groups,
) -> Result<Running, Failed> {
    let (listener, mut born) = match begin(engine, spec, &folder) {
        Ok(begun) => begun,
        Err(error) => return Err((error, folder, groups)),
    };
    // The first process waits for its byte: it is in its groups, and on record, before it becomes the program. To move
    // it while bubblewrap builds its root takes no time of its own; to fork into the groups would.
    let ready = folder.record(born.first).and_then(|()| {
        groups.enter(&[born.child.id(), born.first.pid])?;
        let handles = (ProcessHandle::open(born.child.id())?, ProcessHandle::open(born.first.pid)?);
        let doors = Doors::open(spec, &folder, &handles.1)?;
        // Nobody reads it where the set-up failed; the guardian then says why.
        let _ = born.go.write_all(b"\n");
        Ok((handles, doors))
    });
    let ((outer, first), doors) = match ready {
        Ok(handles) => handles,
        Err(error) => {
            let _ = born.child.kill();
            let _ = born.child.wait();
            return Err((SandboxError::Io(format!("{name}: {error}")), folder, groups));
        }
    };
    let facts = SandboxFacts {
        engine: "process".to_owned(),
        pid: born.first.pid,
        start_ticks: born.first.start_ticks,
        uid: if engine.own_uid == 0 { spec.uid } else { engine.own_uid },
        cgroup: !engine.hierarchies.is_none(),
        interpreter: interpreter(&engine.capabilities, spec),
    };
    let guarded = Arc::new(Guarded::new(first, groups, folder));
    let watch = guardian::Watch {
        engine: Arc::clone(engine),
        name: name.clone(),
        execution: spec.execution,
        child: born.child,
        outer,
        stdout: born.stdout,
        stderr: born.stderr,
        status: born.status,
        output_bytes_max: spec.output_bytes_max,
    };
    let ended = guardian::start(watch, Arc::clone(&guarded));
    Ok(Running::new(facts, guarded, (listener, doors, born.pipes), ended))
}

/// A sandbox whose first process is known and waits for a byte before it becomes the program: a program that ends at
/// once is not gone before it was looked at, and none runs that a later daemon would not find on record.
struct Born {
    child: Child,
    first: Identity,
    go: PipeWriter,
    stdout: PipeReader,
    stderr: PipeReader,
    status: Status,
    /// A server's streams, which the guardian does not read.
    pipes: Option<Pipes>,
}

type Listener = Option<std::os::unix::net::UnixListener>;

fn begin(engine: &Engine, spec: &SandboxSpec, folder: &RunFolder) -> Result<(Listener, Born), SandboxError> {
    let io = |error: io::Error| SandboxError::Io(error.to_string());
    folder.write_files(&spec.files).map_err(io)?;
    let listener = match spec.role {
        Role::Bootstrap => Some(folder.listen().map_err(io)?),
        Role::Validator | Role::Server => None,
    };
    let (status, status_end) = pipe().map_err(io)?;
    let (stdout, stdout_end) = pipe().map_err(io)?;
    let (stderr, stderr_end) = pipe().map_err(io)?;
    let (block, go) = pipe().map_err(io)?;
    let (stdin_end, stdin) = pipe().map_err(io)?;
    let launch = bubblewrap(engine, spec, folder, [status_end, stdout_end, stderr_end], [block, stdin_end])?;
    let child = engine.spawner.spawn(launch).map_err(|error| {
        SandboxError::Start(format!("`{}` did not start: {error}", engine.settings.bubblewrap.display()))
    })?;
    let mut born = first_process(child, status, stdout, stderr, go)?;
    if spec.role == Role::Server {
        // The guardian is given streams that have ended already.
        let (ended_out, ended_err) = (pipe().map_err(io)?.0, pipe().map_err(io)?.0);
        let stdout = std::mem::replace(&mut born.stdout, ended_out);
        let stderr = std::mem::replace(&mut born.stderr, ended_err);
        born.pipes = Some(Pipes { stdin, stdout, stderr });
    }
    if engine.own_uid != 0 && engine.hierarchies.is_none() {
        limit_processes(born.first.pid, spec.limits.pids);
    }
    Ok((listener, born))
}

/// The command, with every descriptor it needs.
fn bubblewrap(
    engine: &Engine,
    spec: &SandboxSpec,
    folder: &RunFolder,
    [status, stdout, stderr]: [PipeWriter; 3],
    [block, stdin]: [PipeReader; 2],
) -> Result<Launch, SandboxError> {
    let io = |error: io::Error| SandboxError::Io(error.to_string());
    let mut keep: Vec<OwnedFd> = vec![status.into()];
    let mut take = |descriptor: OwnedFd| {
        let number = descriptor.as_raw_fd();
        keep.push(descriptor);
        number
    };
    let mut descriptors = Descriptors {
        etc: Vec::new(),
        run: take(folder.open_inside().map_err(io)?),
        mounts: Vec::new(),
        status: 0,
        block: take(block.into()),
        allow: take(in_memory(&engine.filters.allow).map_err(io)?),
        deny: take(in_memory(&engine.filters.deny).map_err(io)?),
    };
    for (_, content) in ETC_FILES {
        descriptors.etc.push(take(in_memory(content.as_bytes()).map_err(io)?));
    }
    for mount in &spec.mounts {
        let opened = open_path(&mount.source).map_err(|error| {
            SandboxError::Io(format!("volume front `{}`: {error}", mount.source.display()))
        })?;
        descriptors.mounts.push(take(opened));
    }
    descriptors.status = keep.first().map_or(-1, AsRawFd::as_raw_fd);
    let list = in_memory(&arguments::arguments(&engine.layout, spec, &descriptors)).map_err(io)?;
    let mut command = Command::new(&engine.settings.bubblewrap);
    command.args(["--args", &list.as_raw_fd().to_string(), "--"]).args(&spec.argv);
    keep.push(list);
    command.env_clear().env(unrecorded::NAME_VARIABLE, folder.name());
    command.current_dir("/").stdin(stdin).stdout(stdout).stderr(stderr);
    if engine.own_uid == 0 {
        command.gid(spec.uid).uid(spec.uid);
    }
    Ok(Launch { command, keep, limits: limits(engine, spec) })
}

/// Limits each process carries. Where no group limits the tree, memory and processes are limited by them as well.
fn limits(engine: &Engine, spec: &SandboxSpec) -> Vec<(Resource, u64)> {
    let mut limits = vec![(Resource::Nofile, DESCRIPTORS_MAX), (Resource::Core, 0)];
    if engine.own_uid == 0 {
        // Counted per user, and this user is the execution's own.
        limits.push((Resource::Nproc, u64::from(spec.limits.pids) + PROCESSES_OF_THE_ENGINE));
    }
    if engine.hierarchies.is_none() {
        limits.push((Resource::Data, spec.limits.memory_bytes));
    }
    limits
}

/// Limits processes of a sandbox that shares the daemon's user: set once it is in its own user namespace, the kernel
/// counts those of that namespace alone. Best effort, as all of this without control groups.
fn limit_processes(first: u32, pids: u32) {
    let Some(pid) = i32::try_from(first).ok().and_then(Pid::from_raw) else { return };
    let limit = Some(u64::from(pids));
    if let Err(error) = prlimit(Some(pid), Resource::Nproc, Rlimit { current: limit, maximum: limit }) {
        tracing::warn!(%error, "processes of a sandbox are not limited");
    }
}

/// Reads bubblewrap's report of its child. The child is the sandbox's first process, before and after its exec.
fn first_process(
    mut child: Child,
    status: PipeReader,
    stdout: PipeReader,
    stderr: PipeReader,
    go: PipeWriter,
) -> Result<Born, SandboxError> {
    let deadline = Instant::now() + REPORT_TIMEOUT;
    let mut status = Status::new(status);
    loop {
        if let Some(first) = status.child_pid().and_then(Identity::read) {
            return Ok(Born { child, first, go, stdout, stderr, status, pipes: None });
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let readable = {
            let mut fds = [PollFd::from_borrowed_fd(status.as_fd(), PollFlags::IN)];
            poll(&mut fds, Some(&timespec(left))).unwrap_or(0) > 0
        };
        let open = readable && status.read();
        if !open && (readable || left.is_zero()) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(SandboxError::Start(guardian::complaint(stderr)));
        }
    }
}

/// A file in memory that holds `bytes`, positioned at its start.
fn in_memory(bytes: &[u8]) -> io::Result<OwnedFd> {
    let descriptor = memfd_create("aegis", MemfdFlags::CLOEXEC)?;
    let mut file = File::from(descriptor);
    file.write_all(bytes)?;
    let descriptor = OwnedFd::from(file);
    seek(&descriptor, SeekFrom::Start(0))?;
    Ok(descriptor)
}

/// What runs the program, with its version where it is known.
fn interpreter(capabilities: &SandboxCapabilities, spec: &SandboxSpec) -> String {
    let program = spec.argv.first().map(String::as_str).unwrap_or_default();
    let short = program.rsplit('/').next().unwrap_or(program);
    let known = capabilities.interpreters.iter().find(|(_, _, path)| path == program);
    known.map_or_else(|| short.to_owned(), |(_, version, _)| format!("{short} {version}"))
}
