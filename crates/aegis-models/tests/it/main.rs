//! The router against a real server that answers by a script.

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod misbehaviour;
#[cfg(test)]
mod process;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod retry;
#[cfg(test)]
mod setup;
#[cfg(test)]
mod wire;
