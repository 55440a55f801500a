//! Tool servers: the official ones, whose answers must be those of a direct call, and one that is hostile.

mod bench;
mod hostile;
mod official;
mod server;
