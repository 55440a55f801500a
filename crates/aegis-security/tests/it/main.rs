//! Tests of the decisions and proofs from the outside.

#[cfg(test)]
mod checkpoint;
#[cfg(test)]
mod constraint;
#[cfg(test)]
mod egress;
#[cfg(test)]
mod merkle;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod smcp;
