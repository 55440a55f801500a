//! The reference monitor, the drivers and the ports they need. Names no vendor: what touches the world
//! comes in through a port.
//!
//! The way of the data: `kernel` takes a command, `schedule` lets an execution run, `execution` drives it, every wish
//! of the agent passes `monitor`, `tools` and `dispatch` perform, `validation` judges, `record` writes it down.

mod dispatch;
mod door;
mod egress;
mod execution;
mod kernel;
mod monitor;
pub mod policy;
pub mod port;
mod record;
mod redaction;
mod schedule;
#[cfg(test)]
mod test_journal;
mod tools;
mod validation;
mod workers;

pub use door::{Admits, DoorRefusal, Speaker, TokenKeys};
pub use kernel::{
    Act, Acted, Acting, AgentSelector, Asked, Caller, DeployOptions, Deployed, Execute, Kernel,
    KernelSettings, NodeInfo, Overlay, Ports, Refusal, Started,
};
