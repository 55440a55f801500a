//! Volumes through the port and through mounted fronts.

mod attack;
mod conformance;
mod crash;
mod front;
mod setting;
