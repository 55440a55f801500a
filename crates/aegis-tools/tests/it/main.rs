//! The file tools on volumes in memory.

#[cfg(test)]
mod files;
