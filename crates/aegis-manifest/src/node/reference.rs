//! Values that may lie elsewhere: `env:NAME`, `secret:path`, `literal:value`.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use crate::quantity::text_form;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value, or where it lies. Kept unresolved: who starts the node resolves it.
#[derive(Clone, PartialEq, Eq)]
pub enum Reference {
    /// An environment variable of the daemon.
    Env(String),
    /// A secret of the node's store.
    Secret(String),
    /// The value itself.
    Literal(String),
}

impl Reference {
    /// The value itself, without a prefix.
    pub fn literal(value: impl Into<String>) -> Self {
        Self::Literal(value.into())
    }
    /// The value, where it can be had without the secret store: `None` for a secret or a variable that is not set.
    pub fn resolve(&self, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
        match self {
            Self::Literal(value) => Some(value.clone()),
            Self::Env(name) => variable(name),
            Self::Secret(_) => None,
        }
    }
}

impl FromStr for Reference {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.split_once(':') {
            Some(("env", name)) => Self::Env(name.to_owned()),
            Some(("secret", path)) => Self::Secret(path.to_owned()),
            Some(("literal", value)) => Self::Literal(value.to_owned()),
            _ => Self::Literal(text.to_owned()),
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::Secret(path) => write!(f, "secret:{path}"),
            Self::Literal(value) => write!(f, "literal:{value}"),
        }
    }
}

impl fmt::Debug for Reference {
    /// Never shows a literal: it may be a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::Secret(path) => write!(f, "secret:{path}"),
            Self::Literal(_) => f.write_str("literal:[REDACTED]"),
        }
    }
}

text_form!(
    Reference,
    "reference",
    "A value, or where it lies: `env:NAME`, `secret:path` or `literal:value`."
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_is_never_shown_by_debug() {
        let key: Reference = "sk-123".parse().unwrap();
        assert_eq!(key, Reference::literal("sk-123"));
        assert_eq!(format!("{key:?}"), "literal:[REDACTED]");
        assert_eq!("http://x:1".parse::<Reference>().unwrap(), Reference::literal("http://x:1"));
        assert_eq!(
            "env:KEY".parse::<Reference>().unwrap().resolve(|n| Some(format!("<{n}>"))).unwrap(),
            "<KEY>"
        );
    }
}
