//! Manifests as users write them.

mod hostile;
mod malformed;
mod templates;
mod valid;
