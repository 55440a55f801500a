//! Patterns over tool names.

use super::ConstraintError;

/// Which tools a rule means: a whole name, everything below a prefix, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolPattern {
    /// `fs.read`
    Name(String),
    /// `fs.*`: `fs.` and what follows. Holds `fs.`, with its dot, so that `fsadmin.x` is never meant.
    Below(String),
    /// `*`
    All,
}

impl ToolPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// A `*` stands alone or after a final dot; names hold no white space or control characters.
    pub fn new(text: &str) -> Result<Self, ConstraintError> {
        let wrong = || ConstraintError::Tool(text.to_owned());
        if text == "*" {
            return Ok(Self::All);
        }
        let (name, below) = match text.strip_suffix('*') {
            None => (text, false),
            Some(prefix) if prefix.len() > 1 && prefix.ends_with('.') => (prefix, true),
            Some(_) => return Err(wrong()),
        };
        if name.is_empty() || name.contains(|c: char| c == '*' || c.is_whitespace() || c.is_control()) {
            return Err(wrong());
        }
        Ok(if below { Self::Below(name.to_owned()) } else { Self::Name(name.to_owned()) })
    }
    /// Whether it means the tool called `name`.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Name(whole) => whole == name,
            Self::Below(prefix) => name.strip_prefix(prefix.as_str()).is_some_and(|rest| !rest.is_empty()),
            Self::All => true,
        }
    }
}

impl std::fmt::Display for ToolPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Below(prefix) => write!(f, "{prefix}*"),
            Self::All => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_whole_names() {
        for (pattern, meant, not_meant) in [
            (
                "fs.*",
                &["fs.read", "fs.a.b"][..],
                &["fsadmin.x", "fs", "fs.", "xfs.read", "FS.read", "fs_read"][..],
            ),
            ("fs.read", &["fs.read"], &["fs.read2", "fs.reads", "fs.rea", "fs.read.x", "fs.read "]),
            ("aegis.memory.*", &["aegis.memory.get"], &["aegis.memoryx", "aegis.memory"]),
            ("*", &["anything", "fs.read"], &[]),
        ] {
            let compiled = ToolPattern::new(pattern).unwrap();
            meant.iter().for_each(|name| assert!(compiled.matches(name), "{pattern} {name}"));
            not_meant.iter().for_each(|name| assert!(!compiled.matches(name), "{pattern} {name}"));
            assert_eq!(compiled.to_string(), pattern);
        }
    }

    #[test]
    fn other_wildcards_are_refused() {
        for wrong in ["", "fs*", "*.read", "fs.*.x", "**", ".*", "fs.* ", "fs read", "*fs", "fs.**"] {
            assert!(ToolPattern::new(wrong).is_err(), "{wrong}");
        }
    }
}
