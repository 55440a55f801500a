//! The execution driver: folds the record, does what is next, records what came of it. Recovery is the same path.

mod blueprint;
mod call_record;
mod door_keeping;
mod driver;
mod file_recorder;
mod generation;
mod inner_loop;
mod prompt;
mod recovery;
mod signals;
mod workspace;

pub(crate) use blueprint::{Blueprint, loop_plan};
pub(crate) use call_record::CallNotes;
pub(crate) use driver::{Driver, Halt, Services};
pub(crate) use generation::{base_environment, words};
pub(crate) use inner_loop::model_failed;
pub(crate) use recovery::{recover, settle_unknown};
pub(crate) use signals::{Signals, StopReason, Stopper};
