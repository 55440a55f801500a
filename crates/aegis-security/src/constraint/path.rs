//! Paths inside a sandbox, and patterns over them.

use globset::{GlobBuilder, GlobMatcher};

use super::ConstraintError;

/// Where relative paths begin.
pub const WORKSPACE: &str = "/workspace";
/// Longest path, in bytes (Linux `PATH_MAX`, without its final NUL).
pub const PATH_BYTES_MAX: usize = 4095;
/// Longest component of a path, in bytes (Linux `NAME_MAX`).
pub const COMPONENT_BYTES_MAX: usize = 255;
/// Most components of a pattern.
pub const PATTERN_COMPONENTS_MAX: usize = 60;

/// A path that names nothing inside a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Nothing at all.
    #[error("the path is empty")]
    Empty,
    /// No file name holds a NUL.
    #[error("the path holds a NUL character")]
    Nul,
    /// No system takes it.
    #[error("the path is longer than {PATH_BYTES_MAX} bytes, or a part of it than {COMPONENT_BYTES_MAX}")]
    Long,
    /// A relative path that climbs out of the folder it is relative to.
    #[error("the relative path `{0}` leaves its folder")]
    Escape(String),
}

/// The one spelling of a path: absolute, without `.`, `..`, doubled or trailing slashes. Relative paths are resolved
/// against [`WORKSPACE`] and may not leave it. Links are not followed: this is about names alone.
///
/// # Errors
///
/// Fails on what cannot name a file, and on relative paths that climb out.
pub fn normalise(path: &str) -> Result<String, PathError> {
    normalise_against(WORKSPACE, path)
}

/// As [`normalise`], but relative paths are resolved against `folder`, a normalised path.
///
/// # Errors
///
/// As [`normalise`].
pub fn normalise_against(folder: &str, path: &str) -> Result<String, PathError> {
    if path.is_empty() {
        return Err(PathError::Empty);
    }
    if path.contains('\0') {
        return Err(PathError::Nul);
    }
    let is_absolute = path.starts_with('/');
    let mut components: Vec<&str> = if is_absolute { Vec::new() } else { components(folder).collect() };
    let floor = components.len();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." if components.len() > floor => drop(components.pop()),
            // Above the root is the root, as in every system; above a folder is an escape.
            ".." if is_absolute => {}
            ".." => return Err(PathError::Escape(path.to_owned())),
            _ if component.len() > COMPONENT_BYTES_MAX => return Err(PathError::Long),
            _ => components.push(component),
        }
    }
    let normal = format!("/{}", components.join("/"));
    if normal.len() > PATH_BYTES_MAX { Err(PathError::Long) } else { Ok(normal) }
}

/// Whether the normalised `path` is `base` or lies below it, by whole components.
pub fn is_at_or_below(path: &str, base: &str) -> bool {
    base == "/" || path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|component| !component.is_empty())
}

/// Which paths a rule means: a plain path means it and all below; a glob means what it matches. `*`, `?`, `[…]` and
/// `{a,b}` stay within one component, `**` stands for any number of whole ones, also none.
#[derive(Debug, Clone)]
pub struct PathPattern {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Literal(String),
    Glob(Box<GlobMatcher>),
    AnyDepth,
}

impl PathPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// Patterns are absolute, have no `..`, and no `/` inside `[…]` or `{…}`.
    pub fn new(text: &str) -> Result<Self, ConstraintError> {
        let wrong =
            |reason: &str| ConstraintError::Path { pattern: text.to_owned(), reason: reason.to_owned() };
        if !text.starts_with('/') {
            return Err(wrong("it must be absolute, such as `/workspace/src`"));
        }
        if text.contains('\0') || text.len() > PATH_BYTES_MAX {
            return Err(wrong("it cannot be a path"));
        }
        if components(text).any(|component| component == "..") {
            return Err(wrong("it must not hold `..`"));
        }
        let mut parts = Vec::new();
        for component in components(text).filter(|component| *component != ".") {
            parts.push(match component {
                "**" => Part::AnyDepth,
                _ if component.contains(['*', '?', '[', '{']) => {
                    Part::Glob(Box::new(component_glob(component).map_err(|error| {
                        wrong(&format!("{error}; `/` cannot stand inside `[…]` or `{{…}}`"))
                    })?))
                }
                _ => Part::Literal(component.to_owned()),
            });
        }
        if parts.iter().all(|part| matches!(part, Part::Literal(_))) {
            parts.push(Part::AnyDepth);
        }
        if parts.len() > PATTERN_COMPONENTS_MAX {
            return Err(wrong("it has too many components"));
        }
        Ok(Self { text: text.to_owned(), parts })
    }
    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
    /// Whether it means the normalised `path`.
    pub fn matches(&self, path: &str) -> bool {
        self.reached(path) & (1 << self.parts.len()) != 0
    }
    /// Whether something it means may lie below the normalised folder `path`: such a folder may be walked through.
    pub fn leads_below(&self, path: &str) -> bool {
        self.reached(path) & ((1 << self.parts.len()) - 1) != 0
    }

    /// Which parts may come next once `path` is consumed, as bits; the bit after the last part means a match. Every
    /// component is looked at once for each part, however many `**` there are.
    fn reached(&self, path: &str) -> u64 {
        let mut states = self.with_skipped(1);
        for component in components(path) {
            let mut next = 0;
            for (at, part) in self.parts.iter().enumerate() {
                if states & (1 << at) == 0 {
                    continue;
                }
                next |= match part {
                    Part::AnyDepth => 1 << at,
                    Part::Literal(literal) if literal == component => 1 << (at + 1),
                    Part::Glob(glob) if glob.is_match(component) => 1 << (at + 1),
                    Part::Literal(_) | Part::Glob(_) => 0,
                };
            }
            if next == 0 {
                return 0;
            }
            states = self.with_skipped(next);
        }
        states
    }

    /// Adds what is reached when `**` stands for nothing.
    fn with_skipped(&self, mut states: u64) -> u64 {
        for (at, part) in self.parts.iter().enumerate() {
            if matches!(part, Part::AnyDepth) && states & (1 << at) != 0 {
                states |= 1 << (at + 1);
            }
        }
        states
    }
}

fn component_glob(component: &str) -> Result<GlobMatcher, globset::Error> {
    Ok(GlobBuilder::new(component).literal_separator(true).backslash_escape(true).build()?.compile_matcher())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_spelling() {
        for (path, normal) in [
            ("/", "/"),
            ("/a/../b//c/.", "/b/c"),
            ("/../../etc", "/etc"),
            ("/workspace/", "/workspace"),
            ("notes.md", "/workspace/notes.md"),
            ("./a/../b", "/workspace/b"),
            (".", "/workspace"),
            ("/workspace/...", "/workspace/..."),
            ("~/x", "/workspace/~/x"),
            ("/a\\..\\b", "/a\\..\\b"),
        ] {
            assert_eq!(normalise(path).as_deref(), Ok(normal), "{path}");
        }
    }

    #[test]
    fn paths_are_as_long_as_the_kernel_takes_and_no_longer() {
        let part = "a".repeat(COMPONENT_BYTES_MAX);
        assert_eq!(normalise(&format!("/{part}")), Ok(format!("/{part}")));
        assert_eq!(normalise(&format!("/{part}a")), Err(PathError::Long));
        let longest = format!("/{}", [part.as_str(); 15].join("/")) + &format!("/{}", "b".repeat(254));
        assert_eq!(longest.len(), PATH_BYTES_MAX);
        assert_eq!(normalise(&longest), Ok(longest.clone()));
        assert_eq!(normalise(&format!("{longest}b")), Err(PathError::Long));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        assert_eq!(normalise(""), Err(PathError::Empty));
        assert_eq!(normalise("/a\0b"), Err(PathError::Nul));
        assert_eq!(normalise(&"/a".repeat(3000)), Err(PathError::Long));
        assert_eq!(normalise(&format!("/{}", "x".repeat(256))), Err(PathError::Long));
        for escape in ["..", "../etc/passwd", "a/../../etc", "./.././workspace/x"] {
            assert_eq!(normalise(escape), Err(PathError::Escape(escape.to_owned())));
        }
    }

    #[test]
    fn a_plain_path_means_itself_and_all_below_by_whole_components() {
        let pattern = PathPattern::new("/workspace/").unwrap();
        for inside in ["/workspace", "/workspace/a", "/workspace/a/b"] {
            assert!(pattern.matches(inside), "{inside}");
        }
        for outside in ["/", "/workspace2", "/workspace2/a", "/work", "/a/workspace", "/workspac"] {
            assert!(!pattern.matches(outside), "{outside}");
        }
        assert!(PathPattern::new("/").unwrap().matches("/anything"));
    }

    #[test]
    fn globs_stay_within_components() {
        for (pattern, inside, outside) in [
            ("/w/*.md", &["/w/a.md", "/w/.md"][..], &["/w/a/b.md", "/w/a.mdx", "/w", "/w2/a.md"][..]),
            ("/w/**", &["/w", "/w/a", "/w/a/b"], &["/w2", "/"]),
            ("/w/**/*.rs", &["/w/a.rs", "/w/a/b/c.rs"], &["/w/a.rs/b", "/a.rs"]),
            ("/w/src[!x]y", &["/w/srcay"], &["/w/src/y", "/w/srcxy"]),
            ("/w/src?y", &["/w/srcay"], &["/w/src/y"]),
            ("/w/{a,b}/c", &["/w/a/c", "/w/b/c"], &["/w/c/c", "/w/a/c/d"]),
            ("/w/./x/*", &["/w/x/y"], &["/w/x"]),
        ] {
            let compiled = PathPattern::new(pattern).unwrap();
            inside.iter().for_each(|path| assert!(compiled.matches(path), "{pattern} {path}"));
            outside.iter().for_each(|path| assert!(!compiled.matches(path), "{pattern} {path}"));
        }
    }

    #[test]
    fn folders_on_the_way_may_be_walked_through() {
        let pattern = PathPattern::new("/w/*/deep/*.md").unwrap();
        for way in ["/", "/w", "/w/x", "/w/x/deep"] {
            assert!(pattern.leads_below(way), "{way}");
            assert!(!pattern.matches(way), "{way}");
        }
        for aside in ["/v", "/w/x/shallow", "/w/x/deep/a.md"] {
            assert!(!pattern.leads_below(aside), "{aside}");
        }
    }

    #[test]
    fn patterns_that_could_mean_anything_are_refused() {
        for wrong in ["", "src/**", "../x", "/a/../b", "/w/{a/b,c}", "/w/[a/b]", "/w/[", "/w/\0", "/w/{a"] {
            assert!(PathPattern::new(wrong).is_err(), "{wrong}");
        }
        assert!(PathPattern::new(&"/**/a".repeat(31)).is_err());
    }

    #[test]
    fn patterns_have_so_many_parts_and_bytes() {
        let parts = |count: usize, part: &str| part.repeat(count);
        for (pattern, fits) in [
            (parts(PATTERN_COMPONENTS_MAX, "/*"), true),
            (parts(PATTERN_COMPONENTS_MAX + 1, "/*"), false),
            // What is below a plain path is a part of its own.
            (parts(PATTERN_COMPONENTS_MAX - 1, "/a"), true),
            (parts(PATTERN_COMPONENTS_MAX, "/a"), false),
            (format!("/{}", "a".repeat(PATH_BYTES_MAX - 1)), true),
            (format!("/{}", "a".repeat(PATH_BYTES_MAX)), false),
        ] {
            let read = PathPattern::new(&pattern);
            assert_eq!(read.is_ok(), fits, "{pattern}");
            assert!(read.is_err() || read.unwrap().as_str() == pattern);
        }
    }

    #[test]
    fn many_wildcards_cost_no_more_than_their_number() {
        let pattern = PathPattern::new(&format!("{}/b", "/**/a".repeat(25))).unwrap();
        assert!(!pattern.matches(&"/a".repeat(2000)));
    }
}
