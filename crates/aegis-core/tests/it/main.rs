//! The pure machines, driven by scripts with crashes at every point.

#[cfg(test)]
mod bounds;
#[cfg(test)]
mod execution;
