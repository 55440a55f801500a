//! The reference monitor, the drivers and the ports they need. Names no vendor: what touches the world
//! comes in through a port.

mod kernel;
pub mod port;

pub use kernel::{
    AgentSelector, Caller, DeployOptions, Deployed, Execute, Kernel, KernelSettings, NodeInfo, Ports,
    Refusal, Started,
};
