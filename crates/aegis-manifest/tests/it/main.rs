//! Manifests as users write them.

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod malformed;
#[cfg(test)]
mod templates;
#[cfg(test)]
mod unenforced;
#[cfg(test)]
mod valid;
