//! Secrets on the wire: values go in and never come out.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A stored secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// Its name.
    pub name: String,
    /// The version that references give; 0 where none is left.
    pub version: u64,
    /// The versions that can still be opened, oldest first.
    pub versions: Vec<u64>,
    /// When it was changed last.
    pub updated_at: String,
}

/// A value to store: the body of `PUT /v1/secrets/{name}`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetSecret {
    /// The value.
    pub value: String,
    /// Replaces the value of a secret that is there, and goes on redacting the former one for a day.
    #[serde(default)]
    pub rotate: bool,
}

impl fmt::Debug for SetSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetSecret").field("rotate", &self.rotate).finish_non_exhaustive()
    }
}
