//! Paths within a volume: relative to its root, normal form, UTF-8. Pure.

use std::sync::Arc;

use super::fault::Fault;

/// Longest path within a volume in bytes. Well under `PATH_MAX` (4096), so that every file of a volume can be
/// reached by one path from the root.
pub(crate) const PATH_BYTES_MAX: usize = 3072;

/// A path within a volume. INVARIANT: no empty, `.` or `..` component, no NUL, at most [`PATH_BYTES_MAX`] bytes.
/// The empty text is the root.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct VolumePath(Arc<str>);

impl VolumePath {
    /// The volume's root.
    pub(crate) fn root() -> Self {
        Self(Arc::from(""))
    }

    /// The path within the volume of an absolute path of the sandbox. `..` is refused, not resolved: what it
    /// means depends on symbolic links.
    pub(crate) fn from_sandbox(path: &str, mount_path: &str) -> Result<Self, Fault> {
        let below = if mount_path == "/" {
            path.strip_prefix('/')
        } else {
            path.strip_prefix(mount_path)
                .and_then(|rest| if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') })
        };
        Self::from_relative(below.ok_or(Fault::Name)?)
    }

    /// A relative path; empty and `.` components are dropped.
    pub(crate) fn from_relative(path: &str) -> Result<Self, Fault> {
        let mut whole = Self::root();
        for component in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
            whole = whole.join(component)?;
        }
        Ok(whole)
    }

    /// The entry `name` of this directory.
    pub(crate) fn join(&self, name: &str) -> Result<Self, Fault> {
        let well_formed = !matches!(name, "" | "." | "..") && !name.contains(['/', '\0']);
        if !well_formed || self.0.len() + 1 + name.len() > PATH_BYTES_MAX {
            return Err(Fault::Name);
        }
        Ok(if self.is_root() { Self(Arc::from(name)) } else { Self(format!("{}/{name}", self.0).into()) })
    }

    /// Whether it is the root.
    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Directory and name; `None` for the root.
    pub(crate) fn split(&self) -> Option<(Self, &str)> {
        match self.0.rsplit_once('/') {
            Some((parent, name)) => Some((Self(parent.into()), name)),
            None if self.is_root() => None,
            None => Some((Self::root(), &self.0)),
        }
    }

    /// The names on the way from the root.
    pub(crate) fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|part| !part.is_empty())
    }

    /// The text; empty for the root.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The text to open relative to the root's descriptor.
    pub(crate) fn to_open(&self) -> &str {
        if self.is_root() { "." } else { &self.0 }
    }

    /// The absolute path in the sandbox.
    pub(crate) fn in_sandbox(&self, mount_path: &str) -> Arc<str> {
        match (mount_path, self.is_root()) {
            ("/", _) => format!("/{}", self.0).into(),
            (_, true) => mount_path.into(),
            (_, false) => format!("{mount_path}/{}", self.0).into(),
        }
    }

    /// Where a symbolic link here with `target` leads: the directory its leading `..` reach, and the names that
    /// follow. `..` after a name is refused, because that name may be a link itself and `..` would then start
    /// elsewhere; with leading ones only, staying within the volume can be told from the path alone.
    pub(crate) fn link_target<'a>(&self, target: &'a str) -> Result<(Self, Vec<&'a str>), Fault> {
        if target.is_empty()
            || target.starts_with('/')
            || target.contains('\0')
            || target.len() > PATH_BYTES_MAX
        {
            return Err(Fault::EscapingLink);
        }
        let mut base = self.split().ok_or(Fault::EscapingLink)?.0;
        let mut names = Vec::new();
        for component in target.split('/').filter(|part| !part.is_empty() && *part != ".") {
            if component != ".." {
                names.push(component);
            } else if names.is_empty() {
                base = base.split().ok_or(Fault::EscapingLink)?.0;
            } else {
                return Err(Fault::EscapingLink);
            }
        }
        Ok((base, names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> VolumePath {
        VolumePath::from_relative(text).unwrap()
    }

    #[test]
    fn sandbox_paths_are_taken_only_below_the_mount_path() {
        let of = |text: &str| VolumePath::from_sandbox(text, "/workspace");
        assert_eq!(of("/workspace").unwrap(), VolumePath::root());
        assert_eq!(of("/workspace//a/./b/").unwrap().as_str(), "a/b");
        for bad in [
            "/workspace2/a",
            "/work",
            "workspace/a",
            "/workspace/../etc",
            "/workspace/a/..",
            "",
            "/workspace/a\0b",
        ] {
            assert_eq!(of(bad), Err(Fault::Name), "{bad:?}");
        }
        assert_eq!(VolumePath::from_sandbox("/a/b", "/").unwrap().as_str(), "a/b");
    }

    #[test]
    fn link_targets_stay_within() {
        let link = path("a/b/link");
        assert_eq!(link.link_target("../x/y").unwrap(), (path("a"), vec!["x", "y"]));
        assert_eq!(link.link_target("../..").unwrap(), (VolumePath::root(), vec![]));
        for bad in ["/etc/passwd", "../../../etc", "x/../../..", "x/..", "", "a\0b"] {
            assert_eq!(link.link_target(bad), Err(Fault::EscapingLink), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_parsed_has_the_invariant(text in "[a./\\x00é]{0,40}") {
            if let Ok(path) = VolumePath::from_sandbox(&text, "/") {
                prop_assert!(path.components().all(|name| !matches!(name, "" | "." | "..") && !name.contains('\0')));
                prop_assert_eq!(VolumePath::from_sandbox(&path.in_sandbox("/"), "/").unwrap(), path);
            }
        }

        #[test]
        fn an_accepted_link_never_climbs_above_the_root(depth in 0usize..5, target in "([.]{1,2}/|a/){0,8}") {
            let link = path(&format!("{}link", "d/".repeat(depth)));
            if link.link_target(&target).is_ok() {
                prop_assert!(target.split('/').filter(|part| *part == "..").count() <= depth);
            }
        }
    }
}
