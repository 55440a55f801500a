//! The kernel's inode numbers and the paths they stand for. Numbers are never used twice; a node lives until the
//! kernel forgets it, and a node whose file lost its name has no path any more.

use std::collections::HashMap;
use std::sync::Arc;

use crate::core::VolumePath;

/// The number of the root (fuse(4)).
pub(super) const ROOT: u64 = 1;

struct Node {
    parent: u64,
    name: Arc<str>,
    attached: bool,
    lookups: u64,
    /// The inode of the store below: another one under the same name is another file.
    backing: u64,
}

pub(super) struct Nodes {
    nodes: HashMap<u64, Node>,
    children: HashMap<u64, HashMap<Arc<str>, u64>>,
    next: u64,
}

impl Default for Nodes {
    fn default() -> Self {
        Self { nodes: HashMap::new(), children: HashMap::new(), next: ROOT + 1 }
    }
}

impl Nodes {
    /// Where a node is; `None` if it, or a directory above it, lost its name.
    pub(super) fn path(&self, number: u64) -> Option<VolumePath> {
        let mut names = Vec::new();
        let mut at = number;
        while at != ROOT {
            let node = self.nodes.get(&at).filter(|node| node.attached)?;
            names.push(&node.name);
            at = node.parent;
        }
        names.into_iter().rev().try_fold(VolumePath::root(), |path, name| path.join(name)).ok()
    }

    /// The number of an entry that was just looked at; the kernel holds it once more.
    pub(super) fn looked_up(&mut self, parent: u64, name: &str, backing: u64) -> u64 {
        if let Some(number) = self.child(parent, name) {
            match self.nodes.get_mut(&number) {
                Some(node) if node.backing == backing => {
                    node.lookups += 1;
                    return number;
                }
                _ => self.detach(parent, name),
            }
        }
        let number = self.next;
        self.next += 1;
        let name: Arc<str> = name.into();
        self.children.entry(parent).or_default().insert(Arc::clone(&name), number);
        self.nodes.insert(number, Node { parent, name, attached: true, lookups: 1, backing });
        number
    }

    /// The kernel gave up `count` of its holds.
    pub(super) fn forget(&mut self, number: u64, count: u64) {
        let Some(node) = self.nodes.get_mut(&number) else { return };
        node.lookups = node.lookups.saturating_sub(count);
        if node.lookups == 0
            && let Some(node) = self.nodes.remove(&number).filter(|node| node.attached)
        {
            self.unname(node.parent, &node.name);
        }
    }

    /// The name no longer stands for the file it did.
    pub(super) fn detach(&mut self, parent: u64, name: &str) {
        if let Some(node) = self.unname(parent, name).and_then(|number| self.nodes.get_mut(&number)) {
            node.attached = false;
        }
    }

    /// An entry moved; what was at the new place lost its name.
    pub(super) fn moved(&mut self, from: (u64, &str), to: (u64, &str)) {
        self.detach(to.0, to.1);
        if let Some(number) = self.unname(from.0, from.1) {
            self.name(number, to);
        }
    }

    /// Two entries changed places.
    pub(super) fn exchanged(&mut self, one: (u64, &str), other: (u64, &str)) {
        let (first, second) = (self.unname(one.0, one.1), self.unname(other.0, other.1));
        if let Some(number) = first {
            self.name(number, other);
        }
        if let Some(number) = second {
            self.name(number, one);
        }
    }

    /// Directory and name of a path, if the kernel knows the directory.
    pub(super) fn find<'a>(&self, path: &'a VolumePath) -> Option<(u64, &'a str)> {
        let (parent, name) = path.split()?;
        let parent = parent.components().try_fold(ROOT, |at, name| self.child(at, name))?;
        Some((parent, name))
    }

    /// The number of an entry, if the kernel knows it.
    pub(super) fn child(&self, parent: u64, name: &str) -> Option<u64> {
        self.children.get(&parent)?.get(name).copied()
    }

    fn name(&mut self, number: u64, place: (u64, &str)) {
        let name: Arc<str> = place.1.into();
        if let Some(node) = self.nodes.get_mut(&number) {
            node.parent = place.0;
            node.name = Arc::clone(&name);
            node.attached = true;
            self.children.entry(place.0).or_default().insert(name, number);
        }
    }

    fn unname(&mut self, parent: u64, name: &str) -> Option<u64> {
        let names = self.children.get_mut(&parent)?;
        let number = names.remove(name);
        if names.is_empty() {
            self.children.remove(&parent);
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_renames_and_are_never_used_twice() {
        let mut nodes = Nodes::default();
        let directory = nodes.looked_up(ROOT, "d", 10);
        let file = nodes.looked_up(directory, "f", 11);
        assert_eq!(nodes.looked_up(directory, "f", 11), file);
        assert_eq!(nodes.path(file).unwrap().as_str(), "d/f");
        nodes.moved((ROOT, "d"), (ROOT, "e"));
        assert_eq!(nodes.path(file).unwrap().as_str(), "e/f");
        let other = nodes.looked_up(directory, "f", 12);
        assert_ne!(other, file, "another file under the same name");
        assert_eq!(nodes.path(file), None);
        nodes.forget(other, 1);
        assert_ne!(nodes.looked_up(directory, "f", 12), other);
    }

    #[test]
    fn forgotten_nodes_leave_nothing() {
        let mut nodes = Nodes::default();
        let a = nodes.looked_up(ROOT, "a", 1);
        let b = nodes.looked_up(ROOT, "b", 2);
        nodes.exchanged((ROOT, "a"), (ROOT, "b"));
        assert_eq!((nodes.path(a).unwrap().as_str(), nodes.path(b).unwrap().as_str()), ("b", "a"));
        nodes.detach(ROOT, "a");
        nodes.forget(a, 1);
        nodes.forget(b, 1);
        assert!(nodes.nodes.is_empty() && nodes.children.is_empty());
    }
}
