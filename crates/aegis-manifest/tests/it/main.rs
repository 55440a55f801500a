//! Manifests as users write them.
