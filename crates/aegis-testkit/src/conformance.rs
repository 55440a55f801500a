//! One suite per port; every implementation passes it.

pub mod journal;
pub mod model;
pub mod sandbox;
pub mod secrets;
pub mod tool_host;
pub mod volume;
