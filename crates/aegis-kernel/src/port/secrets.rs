//! Where credentials come from: stores that keep them, and the resolution of references to them.

use std::fmt;
use std::str::FromStr;

use aegis_core::{Tenant, Timestamp};
use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};

/// Longest name of a secret, in bytes.
const SECRET_NAME_BYTES_MAX: usize = 200;
/// Shortest value that is kept, in bytes: a shorter one occurs in any text, so it could not be redacted.
pub const SECRET_BYTES_MIN: usize = 8;
/// Longest value that is kept, in bytes.
pub const SECRET_BYTES_MAX: usize = 16 << 10;
/// How redacted values are written, so no value may hold it.
const MARK: &str = "[secret:";

/// What went wrong with a secret. Never holds a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Nothing is there under the reference.
    #[error(
        "no secret under `{0}`; set it with `aegis secret set`, or the variable in the daemon's environment"
    )]
    Missing(String),
    /// No store on this node serves such references.
    #[error("this node has no secret store for `{0}`")]
    NoStore(String),
    /// Not a secret's name.
    #[error(
        "`{0}` is not a secret's name: use 1 to {SECRET_NAME_BYTES_MAX} of a-z, A-Z, 0-9, `-`, `_`, `.` in parts \
         divided by `/`, none of them empty, `.` or `..`"
    )]
    Name(String),
    /// Not a reference.
    #[error("`{0}` is not a reference to a secret: use `secret:NAME`, `env:NAME` or `literal:VALUE`")]
    Reference(String),
    /// A value that cannot be kept or redacted.
    #[error("the value of `{name}` {reason}")]
    Value {
        /// Whose.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// The store did not do it.
    #[error("the secret store failed: {0}")]
    Store(String),
    /// The store refuses this node.
    #[error("the secret store refuses this node: {0}")]
    Refused(String),
    /// The store did not answer in time, or cannot be reached.
    #[error("the secret store does not answer: {0}")]
    Unreachable(String),
}

/// The name of a stored secret: parts of `[A-Za-z0-9._-]` divided by `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(String);

impl SecretName {
    /// The text of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretName {
    type Err = SecretError;
    fn from_str(text: &str) -> Result<Self, SecretError> {
        let part = |part: &str| {
            !matches!(part, "" | "." | "..")
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        };
        let well_formed = text.len() <= SECRET_NAME_BYTES_MAX && text.split('/').all(part);
        if well_formed { Ok(Self(text.to_owned())) } else { Err(SecretError::Name(text.to_owned())) }
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A reference to a credential, as the node's configuration holds it. Its text never shows a literal value.
#[derive(Debug, Clone)]
pub enum SecretReference {
    /// `secret:NAME`: the newest version in the store.
    Stored(SecretName),
    /// `env:NAME`: a variable of the daemon's environment.
    Environment(String),
    /// `literal:VALUE`, or text without a prefix.
    Literal(SecretString),
}

impl FromStr for SecretReference {
    type Err = SecretError;
    fn from_str(text: &str) -> Result<Self, SecretError> {
        match text.split_once(':') {
            Some(("secret", name)) => name.parse().map(Self::Stored),
            Some(("env", "")) => Err(SecretError::Reference(text.to_owned())),
            Some(("env", name)) => Ok(Self::Environment(name.to_owned())),
            Some(("literal", value)) => Ok(Self::Literal(value.to_owned().into())),
            _ => Ok(Self::Literal(text.to_owned().into())),
        }
    }
}

impl fmt::Display for SecretReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stored(name) => write!(f, "secret:{name}"),
            Self::Environment(name) => write!(f, "env:{name}"),
            Self::Literal(_) => f.write_str("literal"),
        }
    }
}

/// A resolved reference.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The value.
    pub value: SecretString,
    /// The reference as it may be recorded: `secret:NAME`, `env:NAME` or `literal`.
    pub reference: String,
    /// The version, where the source has versions.
    pub version: Option<u64>,
}

/// What may be told of a stored secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRecord {
    /// Its name.
    pub name: SecretName,
    /// The versions that can still be opened, oldest first; the last is the one that references give.
    pub versions: Vec<u64>,
    /// When the newest version was made.
    pub updated_at: Timestamp,
}

/// A value that must be redacted, and the name it is replaced by.
#[derive(Debug, Clone)]
pub struct KnownSecret {
    /// The name in `[secret:NAME]`.
    pub name: String,
    /// The value.
    pub value: SecretString,
}

/// A stored value.
#[derive(Debug, Clone)]
pub struct StoredSecret {
    /// The value.
    pub value: SecretString,
    /// Its version, from 1.
    pub version: u64,
}

/// A store of secrets, by tenant and name.
///
/// References give the newest version alone. [`Self::set`] makes the former versions unreadable at once; after
/// [`Self::rotate`] the former stays in [`Self::known`] for the store's overlap, because it may still be valid, and
/// echoed, at its far side, but no reference gives it any more.
#[async_trait]
pub trait SecretStore: Send + Sync {
    /// The newest version.
    async fn read(&self, tenant: &Tenant, name: &SecretName) -> Result<StoredSecret, SecretError>;
    /// What is stored, by name. Never a value.
    async fn list(&self, tenant: &Tenant) -> Result<Vec<SecretRecord>, SecretError>;
    /// Stores a value as a new version, and answers with it. Former versions are gone.
    async fn set(&self, tenant: &Tenant, name: &SecretName, value: SecretString) -> Result<u64, SecretError>;
    /// Replaces the value of a secret that is there, and answers with the new version.
    async fn rotate(
        &self,
        tenant: &Tenant,
        name: &SecretName,
        value: SecretString,
    ) -> Result<u64, SecretError>;
    /// Destroys all versions.
    async fn delete(&self, tenant: &Tenant, name: &SecretName) -> Result<(), SecretError>;
    /// The values that may not appear in a prompt, a result or a record of `tenant`.
    async fn known(&self, tenant: &Tenant) -> Result<Vec<KnownSecret>, SecretError>;
    /// Changes whenever [`Self::known`] of some tenant may have changed: what is built from it is built anew then.
    fn revision(&self) -> u64;
}

/// Resolves references from the node's configuration: `secret:NAME`, `env:NAME`, `literal:VALUE`.
#[async_trait]
pub trait Secrets: Send + Sync {
    /// The value that `reference` stands for in `tenant`.
    async fn resolve(&self, tenant: &Tenant, reference: &str) -> Result<Resolved, SecretError>;
    /// The values to redact: those stored for `tenant`, and those of other sources that were handed out.
    async fn known(&self, tenant: &Tenant) -> Result<Vec<KnownSecret>, SecretError>;
    /// Changes whenever [`Self::known`] of some tenant may have changed.
    fn revision(&self) -> u64;
}

/// Refuses a value that could not be kept or redacted.
///
/// # Errors
/// [`SecretError::Value`] if it is too short, too long, its own name, or holds a redaction's mark.
pub fn check_secret_value(name: &SecretName, value: &SecretString) -> Result<(), SecretError> {
    let text = value.expose_secret();
    let refuse = |reason| Err(SecretError::Value { name: name.to_string(), reason });
    match text.len() {
        length if length < SECRET_BYTES_MIN => {
            refuse("is shorter than 8 bytes: it would occur in any text and could not be redacted")
        }
        length if length > SECRET_BYTES_MAX => refuse("is longer than 16 KiB"),
        _ if text.contains(MARK) => refuse("holds `[secret:`, by which redacted values are written"),
        _ if format!("{MARK}{name}]").contains(text) => {
            refuse("is part of the text it would be redacted to; choose another name")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paths_that_lead_nowhere_else() {
        for good in ["a", "github/token", "A.b-c_d/2", &"x".repeat(200)] {
            assert!(good.parse::<SecretName>().is_ok(), "{good}");
        }
        for bad in
            ["", "/a", "a/", "a//b", "..", "a/../b", "a/.", "a b", "ä", "a?x", "a%2f", &"x".repeat(201)]
        {
            assert!(bad.parse::<SecretName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn references_show_no_literal() {
        for (text, shown) in [
            ("secret:github/token", "secret:github/token"),
            ("env:TOKEN", "env:TOKEN"),
            ("literal:hunter22", "literal"),
            ("http://localhost:1", "literal"),
        ] {
            let reference: SecretReference = text.parse().unwrap();
            assert_eq!(reference.to_string(), shown);
            assert!(!format!("{reference:?}").contains("hunter22"));
        }
        assert!("secret:../x".parse::<SecretReference>().is_err());
        assert!("env:".parse::<SecretReference>().is_err());
    }

    #[test]
    fn values_that_cannot_be_redacted_are_refused() {
        let name: SecretName = "github-token".parse().unwrap();
        let check = |value: String| check_secret_value(&name, &value.into());
        assert!(check("12345678".to_owned()).is_ok());
        for bad in
            ["1234567".to_owned(), "x".repeat(16_385), "x[secret:y".to_owned(), "github-token".to_owned()]
        {
            let error = check(bad.clone()).unwrap_err();
            assert!(bad == "github-token" || !error.to_string().contains(&bad), "{error}");
        }
    }
}
