//! The built-in tools that work on an execution's files.
//!
//! They hold no authority: the monitor has checked a call before it comes here, and the file core checks every
//! operation again. What a tool itself finds wrong, such as a missing file, is a result the model can learn from.

mod files;

pub use files::FileTools;
