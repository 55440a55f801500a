//! Where agents run: the process sandbox, made of bubblewrap, two seccomp filters and control groups.
//!
//! Inside is untrusted. The root of a sandbox is built from nothing, its processes run as a host user of their own
//! under a root daemon, nothing but the descriptors chosen here goes in, and a sandbox that has ended is proved empty.
//! Everything unsafe of this crate is in `sys`.

mod arguments;
mod cgroup;
mod control;
mod doors;
mod egress;
mod guardian;
mod launch;
mod name;
mod probe;
mod process;
mod run_folder;
mod running;
mod sandbox;
mod seccomp;
mod settings;
mod spawner;
mod sys;
mod tail;
mod uids;
mod unrecorded;

pub use egress::{EgressProxy, Resolver, SystemResolver};
pub use sandbox::ProcessSandbox;
pub use settings::SandboxSettings;
pub use sys::keep_large_buffers_apart;
