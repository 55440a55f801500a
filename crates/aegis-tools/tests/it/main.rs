//! The file tools on volumes in memory, and clients of tool servers on real and hostile ones.

#[cfg(test)]
mod files;
#[cfg(test)]
mod mcp;
