//! The pure machines, driven by scripts with crashes at every point.

mod execution;
