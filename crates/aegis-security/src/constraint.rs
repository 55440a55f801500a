//! Static constraints: what a security context permits, decided from the call alone.
//!
//! Paths are normalised before they are compared, always by whole components; commands are argument vectors; deny is
//! the default. Rate and concurrency are no constraints of this kind: see [`crate::rate`].

mod command;
mod context;
mod domain;
mod evaluate;
mod path;
mod tool;

pub use context::{Capability, RateLimit, SecurityContext};
pub use domain::DomainPattern;
pub(crate) use domain::canonical_host;
pub use evaluate::{ArgumentCheck, Decision, GovernedValue, Matching, Request, evaluate, matching};
pub use path::{
    COMPONENT_BYTES_MAX, PATH_BYTES_MAX, PATTERN_COMPONENTS_MAX, PathError, PathPattern, WORKSPACE,
    is_at_or_below, normalise, normalise_against,
};
pub use tool::ToolPattern;

/// A rule that cannot be understood. A context that holds one permits nothing; it is refused when it is read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// Not a tool pattern.
    #[error("`{0}` is not a tool pattern: use a whole name, `prefix.*`, or `*` alone")]
    Tool(String),
    /// Not a path pattern.
    #[error("`{pattern}` is not a path pattern: {reason}")]
    Path {
        /// As written.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Not a domain pattern.
    #[error("`{0}` is not a domain pattern: use a host name, or `*.` and one")]
    Domain(String),
    /// Not a command name.
    #[error("`{0}` is not a command: use the program's name or absolute path, without arguments")]
    Command(String),
    /// A rate limit that cannot be kept.
    #[error("a rate limit of {calls} calls per {per_seconds} s cannot be kept: both are at least 1, calls at most {max}", max = crate::rate::CALLS_MAX)]
    Rate {
        /// As written.
        calls: u32,
        /// As written.
        per_seconds: u32,
    },
}
