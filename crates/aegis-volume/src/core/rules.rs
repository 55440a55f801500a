//! The rules of a grant, compiled, and the one function that asks them. Pure.
//!
//! Patterns are compared component by component, so that `/workspace2` is not below `/workspace`, and so that it can
//! be told whether something below a directory may match, and whether everything below it does.

use std::fmt;

use aegis_kernel::port::{Grant, VolumeError};
use globset::{Glob, GlobMatcher};

use super::fault::Fault;
use super::path::VolumePath;

/// Most components of one pattern: positions are kept as bits of a `u64`.
const PATTERN_PARTS_MAX: usize = 62;
/// Most patterns of one grant; each operation asks all of them.
const PATTERNS_MAX: usize = 256;

/// What an operation needs of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// To know that it is there: readable, or a directory on the way to something permitted.
    Look,
    /// To read its content.
    Read,
    /// To change it.
    Write,
    /// To change it and all below it.
    WriteAll,
    /// To make it as a directory: writable, or on the way to something writable.
    MakeDirectory,
}

impl Need {
    /// The list of the manifest that would permit it.
    pub(crate) fn list(self) -> &'static str {
        match self {
            Self::Look | Self::Read => "read",
            Self::Write | Self::WriteAll | Self::MakeDirectory => "write",
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Look => "seen",
            Self::Read => "read",
            Self::Write => "written",
            Self::WriteAll => "changed with all below it",
            Self::MakeDirectory => "made",
        })
    }
}

/// The compiled rules of a grant.
#[derive(Debug)]
pub(crate) struct Rules {
    read: Vec<Pattern>,
    write: Vec<Pattern>,
    read_only: bool,
}

impl Rules {
    /// Compiles a grant's rules; a pattern that cannot be understood refuses the grant.
    pub(crate) fn compile(grant: &Grant) -> Result<Self, VolumeError> {
        if grant.rules.read.len() + grant.rules.write.len() > PATTERNS_MAX {
            return Err(VolumeError::NotAllowed(format!("more than {PATTERNS_MAX} path rules in one grant")));
        }
        let compile = |list: &[String]| {
            list.iter().map(|text| Pattern::compile(text, &grant.mount_path)).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            read: compile(&grant.rules.read)?,
            write: compile(&grant.rules.write)?,
            read_only: grant.read_only,
        })
    }

    /// No limits but reading: the operator's view.
    pub(crate) fn operator() -> Self {
        Self { read: vec![Pattern::everything()], write: Vec::new(), read_only: true }
    }

    /// The one check: every operation of tools and fronts asks here, for each path it concerns.
    pub(crate) fn check(&self, path: &VolumePath, need: Need) -> Result<(), Fault> {
        // A mount point is there whether or not anything below it may be seen: a sandbox has to bind it.
        if need == Need::Look && path.is_root() {
            return Ok(());
        }
        let writes = matches!(need, Need::Write | Need::WriteAll | Need::MakeDirectory);
        if writes && self.read_only {
            return Err(Fault::ReadOnly);
        }
        let lists: [&[Pattern]; 2] = if writes { [&self.write, &[]] } else { [&self.write, &self.read] };
        let permitted = lists.into_iter().flatten().any(|pattern| {
            let reach = pattern.reach(path);
            match need {
                Need::Look | Need::MakeDirectory => reach.itself || reach.some_below,
                Need::Read | Need::Write => reach.itself,
                Need::WriteAll => reach.itself && reach.all_below,
            }
        });
        if permitted { Ok(()) } else { Err(Fault::Rule(need)) }
    }
}

/// What a pattern says of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reach {
    itself: bool,
    some_below: bool,
    all_below: bool,
}

#[derive(Debug)]
enum Part {
    /// Any number of components, also none.
    Deep,
    Literal(String),
    Glob(GlobMatcher),
}

/// A pattern as a small automaton: bit `i` set = the parts before `i` are matched. Bits start where the mount path
/// has been consumed.
#[derive(Debug)]
struct Pattern {
    parts: Vec<Part>,
    at_root: u64,
}

impl Pattern {
    fn everything() -> Self {
        let mut pattern = Self { parts: vec![Part::Deep], at_root: 0 };
        pattern.at_root = pattern.close(1);
        pattern
    }

    fn compile(text: &str, mount_path: &str) -> Result<Self, VolumeError> {
        let wrong = |why: &str| VolumeError::NotAllowed(format!("the path rule `{text}` {why}"));
        let below = text.strip_prefix('/').ok_or_else(|| wrong("is not an absolute path"))?;
        let mut parts = Vec::new();
        let mut plain = true;
        for component in below.split('/').filter(|part| !part.is_empty()) {
            if matches!(component, "." | "..") {
                return Err(wrong("contains `.` or `..`"));
            }
            if component == "**" {
                plain = false;
                parts.push(Part::Deep);
            } else if component.contains(['*', '?', '[', ']', '{', '}', '\\']) {
                plain = false;
                let glob = Glob::new(component).map_err(|_| wrong("is not a valid pattern"))?;
                parts.push(Part::Glob(glob.compile_matcher()));
            } else {
                parts.push(Part::Literal(component.to_owned()));
            }
        }
        if plain {
            parts.push(Part::Deep);
        } else if matches!(parts.last(), Some(Part::Deep)) {
            // `/a/**` is all below `/a`, not `/a` itself.
            let any = Glob::new("*").map_err(|_| wrong("is not a valid pattern"))?;
            parts.insert(parts.len() - 1, Part::Glob(any.compile_matcher()));
        }
        if parts.len() > PATTERN_PARTS_MAX {
            return Err(wrong("has too many components"));
        }
        let mut pattern = Self { parts, at_root: 0 };
        let start = pattern.close(1);
        pattern.at_root = mount_path
            .split('/')
            .filter(|part| !part.is_empty())
            .fold(start, |positions, component| pattern.step(positions, component));
        Ok(pattern)
    }

    fn reach(&self, path: &VolumePath) -> Reach {
        let positions = path.components().fold(self.at_root, |positions, name| self.step(positions, name));
        let end = self.parts.len();
        let ends_deep = matches!(self.parts.last(), Some(Part::Deep));
        Reach {
            itself: positions & (1 << end) != 0,
            some_below: positions & !(1 << end) != 0,
            all_below: ends_deep && positions & (1 << (end - 1)) != 0,
        }
    }

    fn step(&self, positions: u64, component: &str) -> u64 {
        let mut next = 0;
        for (at, part) in self.parts.iter().enumerate().filter(|(at, _)| positions & (1 << at) != 0) {
            match part {
                Part::Deep => next |= 1 << at,
                Part::Literal(name) if name == component => next |= 1 << (at + 1),
                Part::Glob(glob) if glob.is_match(component) => next |= 1 << (at + 1),
                Part::Literal(_) | Part::Glob(_) => {}
            }
        }
        self.close(next)
    }

    /// Adds what is reached without consuming a component.
    fn close(&self, mut positions: u64) -> u64 {
        for (at, part) in self.parts.iter().enumerate() {
            if positions & (1 << at) != 0 && matches!(part, Part::Deep) {
                positions |= 1 << (at + 1);
            }
        }
        positions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aegis_kernel::port::PathRules;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn rules(read: &[&str], write: &[&str]) -> Rules {
        let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        Rules::compile(&Grant {
            volume: aegis_core::VolumeId::from_uuid(Uuid::nil()),
            execution: aegis_core::ExecutionId::from_uuid(Uuid::nil()),
            mount_path: "/workspace".to_owned(),
            read_only: false,
            rules: PathRules { read: owned(read), write: owned(write) },
            size_limit: 0,
            uid: 0,
            mount: false,
        })
        .unwrap()
    }

    fn permits(rules: &Rules, path: &str, need: Need) -> bool {
        rules.check(&VolumePath::from_relative(path).unwrap(), need).is_ok()
    }

    #[test]
    fn a_plain_path_is_it_and_all_below_and_no_prefix_of_names() {
        let rules = rules(&["/workspace/docs"], &["/workspace/out"]);
        assert!(permits(&rules, "out", Need::WriteAll));
        assert!(permits(&rules, "out/a/b", Need::WriteAll));
        assert!(permits(&rules, "out/a", Need::Read), "what is writable is readable");
        assert!(permits(&rules, "docs/a", Need::Read));
        assert!(!permits(&rules, "docs/a", Need::Write));
        assert!(!permits(&rules, "out2", Need::Look));
        assert!(permits(&rules, "", Need::Look), "on the way");
        assert!(!permits(&rules, "", Need::Read));
        assert!(!permits(&rules, "", Need::WriteAll));
        assert!(!permits(&rules, "other", Need::Look));
    }

    #[test]
    fn the_mount_point_is_there_and_empty_where_nothing_is_permitted() {
        let none = rules(&[], &[]);
        assert!(none.check(&VolumePath::root(), Need::Look).is_ok());
        assert!(none.check(&VolumePath::root(), Need::Read).is_err());
        assert!(!permits(&none, "a", Need::Look));
    }

    #[test]
    fn rules_of_other_places_say_nothing() {
        let rules = rules(&["/etc", "/workspace2"], &["/work"]);
        assert!(!permits(&rules, "a", Need::Look));
        assert!(permits(&self::rules(&["/"], &[]), "a/b", Need::Read));
    }

    #[test]
    fn globs_match_by_component() {
        let rules = rules(&["/workspace/**/*.md"], &["/workspace/*.py", "/workspace/build/**"]);
        assert!(permits(&rules, "a.py", Need::Write));
        assert!(!permits(&rules, "a.py", Need::WriteAll), "what is below is not matched");
        assert!(!permits(&rules, "a/b.py", Need::Write), "`*` stays within a component");
        assert!(permits(&rules, "README.md", Need::Read) && permits(&rules, "a/b/c.md", Need::Read));
        assert!(permits(&rules, "a/b", Need::Look), "something below may match");
        assert!(!permits(&rules, "a/b", Need::Read));
        assert!(permits(&rules, "build", Need::MakeDirectory) && !permits(&rules, "build", Need::WriteAll));
        assert!(permits(&rules, "build/x", Need::WriteAll));
    }

    #[test]
    fn patterns_that_cannot_be_understood_are_refused() {
        for bad in ["relative", "/a/../b", "/a/./b", "/a/[", "/a/{b/c}"] {
            assert!(Pattern::compile(bad, "/workspace").is_err(), "{bad}");
        }
        assert!(Pattern::compile(&"/a".repeat(80), "/workspace").is_err());
    }

    proptest! {
        #[test]
        fn the_answers_agree_with_each_other(
            rule in "(/(workspace|a|b|\\*|\\*\\*)){1,4}",
            path in "[ab](/[ab]){0,3}",
            below in "[ab](/[ab]){0,2}",
        ) {
            let pattern = Pattern::compile(&rule, "/workspace").unwrap();
            let here = VolumePath::from_relative(&path).unwrap();
            let deeper = VolumePath::from_relative(&format!("{path}/{below}")).unwrap();
            let (above, under) = (pattern.reach(&here), pattern.reach(&deeper));
            prop_assert!(!above.all_below || (under.itself && under.all_below));
            prop_assert!(!under.itself || above.some_below);
        }
    }
}
