//! Tool servers: the official ones, whose answers must be those of a direct call, and one that is hostile.

mod asking;
mod asking_beside;
mod bench;
mod hostile;
mod oauth;
mod official;
mod server;
