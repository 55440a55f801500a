//! Stories told to the real binary.

#[cfg(test)]
mod added_servers;
#[cfg(test)]
mod asked;
#[cfg(test)]
mod attacks;
#[cfg(test)]
mod bootstrap_end;
#[cfg(test)]
mod calls;
#[cfg(test)]
mod cancel_and_timeouts;
#[cfg(test)]
mod command_line;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod door;
#[cfg(test)]
mod endings;
#[cfg(test)]
mod evidence;
#[cfg(test)]
mod fields;
#[cfg(test)]
mod first_run;
#[cfg(test)]
mod git;
#[cfg(test)]
mod labels;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod load;
#[cfg(test)]
mod manifests;
#[cfg(test)]
mod mcp;
#[cfg(test)]
mod misbehaving_models;
#[cfg(test)]
mod models;
#[cfg(test)]
mod network;
#[cfg(test)]
mod observe;
#[cfg(test)]
mod offers;
#[cfg(test)]
mod ordinary_user;
#[cfg(test)]
mod personal_data;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod quickstart_example;
#[cfg(test)]
mod redaction;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod seed;
#[cfg(test)]
mod servers;
#[cfg(test)]
mod serving_conformance;
#[cfg(test)]
mod sign_in;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod three_secrets;
#[cfg(test)]
mod tools;
#[cfg(test)]
mod upstreams;
#[cfg(test)]
mod validators;
