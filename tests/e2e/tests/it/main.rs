//! Stories told to the real binary.

#[cfg(test)]
mod first_run;
#[cfg(test)]
mod manifests;
#[cfg(test)]
mod quickstart_example;
#[cfg(test)]
mod seed;
