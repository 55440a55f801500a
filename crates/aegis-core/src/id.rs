//! Identifiers. Every entity has a type of its own, so that one id cannot stand for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An identifier or name that does not have its type's form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a UUID.
    #[error("`{0}` is not a UUID")]
    Uuid(String),
    /// Not a name of the form `^[a-z0-9][a-z0-9-]{0,62}$`.
    #[error("`{0}` is not a valid name: use 1 to 63 of a-z, 0-9 and `-`, not starting with `-`")]
    Name(String),
    /// Not the given number of lower-case hexadecimal digits.
    #[error("`{0}` is not {1} hexadecimal digits")]
    Hex(String, usize),
}

macro_rules! uuid_id {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID; who makes ids is the `Ids` port.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }
            /// The UUID inside.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::try_parse(text).map(Self).map_err(|_| IdError::Uuid(text.to_owned()))
            }
        }
    )*};
}

uuid_id! {
    /// An agent: belongs to (tenant, name), stable across versions.
    AgentId,
    /// One run of an agent.
    ExecutionId,
    /// One journal event.
    EventId,
    /// One action that passed, or was refused by, the monitor.
    ActionId,
    /// A sealed blob; random, says nothing about its content.
    BlobId,
    /// A volume.
    VolumeId,
    /// An API key; says nothing about the key itself.
    ApiKeyId,
}

impl AgentId {
    /// The id of the agent called `name` in `tenant`: UUIDv5 (RFC 9562) over `tenant/name`.
    pub fn of(tenant: &Tenant, name: &Name) -> Self {
        const NAMESPACE: Uuid = Uuid::from_u128(0x8d0f_1f0a_6f5e_5c0b_9c55_41e7_6a6b_0001);
        Self(Uuid::new_v5(&NAMESPACE, format!("{tenant}/{name}").as_bytes()))
    }
}

impl VolumeId {
    /// The id of the volume that `execution` calls `name`: UUIDv5 (RFC 9562), so that a resumed run finds its files.
    pub fn of(execution: ExecutionId, name: &str) -> Self {
        Self(Uuid::new_v5(&execution.uuid(), name.as_bytes()))
    }
}

/// A name as in `metadata.name`: `^[a-z0-9][a-z0-9-]{0,62}$`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The text of the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let well_formed = (1..=63).contains(&text.len())
            && !text.starts_with('-')
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if well_formed { Ok(Self(text.to_owned())) } else { Err(IdError::Name(text.to_owned())) }
    }
}
impl TryFrom<String> for Name {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}
impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tenant; every entity belongs to one. `default` unless named, `platform` is read-only and seen by all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tenant(Name);

impl Tenant {
    /// The tenant of requests that name none.
    pub fn default_tenant() -> Self {
        Self(Name("default".to_owned()))
    }
    /// The read-only tenant whose agents every tenant sees.
    pub fn platform() -> Self {
        Self(Name("platform".to_owned()))
    }
    /// The text of the tenant's name.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}
impl FromStr for Tenant {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        text.parse().map(Self)
    }
}
impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! hex_id {
    ($($(#[$doc:meta])* $name:ident[$bytes:literal]),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// Wraps raw bytes.
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }
            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let wrong = || IdError::Hex(text.to_owned(), $bytes * 2);
                if text.len() != $bytes * 2 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                    return Err(wrong());
                }
                let mut bytes = [0u8; $bytes];
                for (slot, at) in bytes.iter_mut().zip((0..text.len()).step_by(2)) {
                    let pair = text.get(at..at + 2).ok_or_else(wrong)?;
                    *slot = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
                }
                Ok(Self(bytes))
            }
        }
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    )*};
}

hex_id! {
    /// A W3C trace id: one for everything that follows from one request.
    TraceId[16],
    /// A W3C span id.
    SpanId[8],
    /// The random bytes that keep equal events from having equal leaves.
    LeafNonce[16],
    /// A SHA-256 digest, or an HMAC-SHA-256.
    Sha256[32],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        for good in ["a", "pr-reviewer", "0a", &"x".repeat(63)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a_b", "a.b", "é", &"x".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn agent_id_depends_on_tenant_and_name_alone() {
        let (default, other) = (Tenant::default_tenant(), Tenant::platform());
        let (a, b): (Name, Name) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert_eq!(AgentId::of(&default, &a), AgentId::of(&default, &a));
        assert_ne!(AgentId::of(&default, &a), AgentId::of(&default, &b));
        assert_ne!(AgentId::of(&default, &a), AgentId::of(&other, &a));
    }

    #[test]
    fn hex_ids_round_trip_and_refuse_other_forms() {
        let id = TraceId::from_bytes([0xab; 16]);
        assert_eq!(id.to_string().parse::<TraceId>().unwrap(), id);
        assert!("AB".repeat(16).parse::<TraceId>().is_err());
        assert!("ab".repeat(15).parse::<TraceId>().is_err());
        assert!(format!("{}é", "a".repeat(30)).parse::<TraceId>().is_err());
    }
}
