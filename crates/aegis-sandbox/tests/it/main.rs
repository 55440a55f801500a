//! The process sandbox, run for real: the port's suite and attacks from inside.

mod attacks;
mod bootstrap;
mod conformance;
mod crash;
mod door;
mod fixture;
