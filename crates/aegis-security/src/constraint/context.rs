//! Security contexts: capabilities, and what is denied before any of them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{ConstraintError, DomainPattern, PathPattern, ToolPattern};
use crate::rate::CALLS_MAX;

/// How often a capability may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Most calls in any window.
    pub calls: u32,
    /// Length of the window, in seconds.
    pub per_seconds: u32,
}

/// What a security context permits, as its author writes it. An absent list does not constrain; an empty one permits
/// nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Capability {
    /// Which tools.
    pub tool_pattern: String,
    /// Every path argument lies at or below one of these, or matches one.
    pub path_allowlist: Option<Vec<String>>,
    /// Every host argument is one of these.
    pub domain_allowlist: Option<Vec<String>>,
    /// The program is one of these, whole.
    pub command_allowlist: Option<Vec<String>>,
    /// The first argument of a program, by program. Without a `command_allowlist`, its programs alone are permitted.
    pub subcommand_allowlist: Option<BTreeMap<String, Vec<String>>>,
    /// JSON Schema the arguments satisfy.
    pub arguments: Option<Value>,
    /// Largest result, in bytes.
    pub max_response_size: Option<u64>,
    /// How often.
    pub rate_limit: Option<RateLimit>,
    /// How many calls at once.
    pub max_concurrent: Option<u32>,
}

/// A capability, read.
#[derive(Debug, Clone)]
pub(super) struct Compiled {
    pub(super) tool: ToolPattern,
    pub(super) paths: Option<Vec<PathPattern>>,
    pub(super) domains: Option<Vec<DomainPattern>>,
    pub(super) source: Capability,
}

/// A named set of capabilities and denials, ready to be asked.
#[derive(Debug, Clone)]
pub struct SecurityContext {
    name: String,
    pub(super) capabilities: Vec<Compiled>,
    pub(super) deny_list: Vec<ToolPattern>,
}

impl SecurityContext {
    /// Reads the rules of the context called `name`.
    ///
    /// # Errors
    ///
    /// Fails on the first rule that cannot be understood: a context is never used in part.
    pub fn new(
        name: impl Into<String>,
        capabilities: Vec<Capability>,
        deny_list: &[String],
    ) -> Result<Self, ConstraintError> {
        Ok(Self {
            name: name.into(),
            capabilities: capabilities.into_iter().map(compile).collect::<Result<_, _>>()?,
            deny_list: deny_list.iter().map(|text| ToolPattern::new(text)).collect::<Result<_, _>>()?,
        })
    }
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// The capability at `index`, as written: its limits apply to the call it permitted.
    pub fn capability(&self, index: usize) -> Option<&Capability> {
        self.capabilities.get(index).map(|compiled| &compiled.source)
    }
    /// The tools each capability is about, in order.
    pub(crate) fn tool_patterns(&self) -> impl Iterator<Item = &ToolPattern> {
        self.capabilities.iter().map(|compiled| &compiled.tool)
    }
    /// What is denied before any capability.
    pub(crate) fn deny_patterns(&self) -> &[ToolPattern] {
        &self.deny_list
    }
}

fn compile(source: Capability) -> Result<Compiled, ConstraintError> {
    if let Some(RateLimit { calls, per_seconds }) = source.rate_limit
        && (calls == 0 || calls > CALLS_MAX || per_seconds == 0)
    {
        return Err(ConstraintError::Rate { calls, per_seconds });
    }
    let programs = source.command_allowlist.iter().flatten();
    for program in programs.chain(source.subcommand_allowlist.iter().flat_map(BTreeMap::keys)) {
        let relative_path = program.contains('/') && !program.starts_with('/');
        if program.is_empty() || relative_path || program.contains(char::is_whitespace) {
            return Err(ConstraintError::Command(program.clone()));
        }
    }
    let compiled = Compiled {
        tool: ToolPattern::new(&source.tool_pattern)?,
        paths: read_all(source.path_allowlist.as_deref(), PathPattern::new)?,
        domains: read_all(source.domain_allowlist.as_deref(), DomainPattern::new)?,
        source,
    };
    Ok(compiled)
}

fn read_all<T>(
    texts: Option<&[String]>,
    read: impl Fn(&str) -> Result<T, ConstraintError>,
) -> Result<Option<Vec<T>>, ConstraintError> {
    texts.map(|texts| texts.iter().map(|text| read(text)).collect()).transpose()
}
