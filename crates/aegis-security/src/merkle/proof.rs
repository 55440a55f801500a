//! Proofs that a leaf is in a tree and that one tree extends another: made as in RFC 6962, sections 2.1.1 and 2.1.2,
//! checked as in RFC 9162, sections 2.1.3.2 and 2.1.4.2.

use std::ops::Range;

use aegis_core::Sha256;

use super::{Node, TREE_SIZE_MAX, empty_root, node_hash, root_of};

/// A proof that cannot be made, or does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The leaf or the smaller tree does not lie in the tree.
    #[error("position {position} does not lie in a tree of {size} leaves")]
    Range {
        /// Index of the leaf, or size of the smaller tree.
        position: u64,
        /// Size of the tree.
        size: u64,
    },
    /// A hash the proof is made of is not at hand.
    #[error("the hash of the tree node at level {}, index {} is missing", .0.level, .0.index)]
    Missing(Node),
    /// The number of hashes does not fit the positions.
    #[error("the proof has the wrong length")]
    Length,
    /// The hashes do not lead to the root.
    #[error("the proof does not lead to the root")]
    Root,
}

/// The complete subtrees that make up each step of an inclusion proof, each step from left to right. What a store
/// must load before it calls [`inclusion_proof`].
///
/// # Errors
///
/// Fails if the leaf does not lie in the tree.
pub fn inclusion_nodes(index: u64, size: u64) -> Result<Vec<Vec<Node>>, ProofError> {
    if index >= size || size > TREE_SIZE_MAX {
        return Err(ProofError::Range { position: index, size });
    }
    let mut steps = Vec::new();
    let (mut begin, mut end) = (0, size);
    while end - begin > 1 {
        let middle = begin + split(end - begin);
        if index < middle {
            steps.push(complete_subtrees(middle..end));
            end = middle;
        } else {
            steps.push(complete_subtrees(begin..middle));
            begin = middle;
        }
    }
    steps.reverse();
    Ok(steps)
}

/// The complete subtrees that make up each step of a consistency proof from `old` to `new` leaves.
///
/// # Errors
///
/// Fails if the old tree is larger than the new.
pub fn consistency_nodes(old: u64, new: u64) -> Result<Vec<Vec<Node>>, ProofError> {
    if old > new || new > TREE_SIZE_MAX {
        return Err(ProofError::Range { position: old, size: new });
    }
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    let mut steps = Vec::new();
    let (mut begin, mut end) = (0, new);
    // SUBPROOF of RFC 6962: descend to the subtree that ends where the old tree ended.
    while end != old {
        let middle = begin + split(end - begin);
        if old <= middle {
            steps.push(complete_subtrees(middle..end));
            end = middle;
        } else {
            steps.push(complete_subtrees(begin..middle));
            begin = middle;
        }
    }
    // The old tree's own root is known to who checks; any other subtree must be shown.
    if begin != 0 {
        steps.push(complete_subtrees(begin..end));
    }
    steps.reverse();
    Ok(steps)
}

/// The audit path of leaf `index` in the tree of `size` leaves, lowest first.
///
/// `lookup` gives the hash of a complete subtree, or nothing if it is not at hand.
///
/// # Errors
///
/// Fails if the leaf does not lie in the tree or a hash is missing.
pub fn inclusion_proof(
    index: u64,
    size: u64,
    lookup: impl Fn(Node) -> Option<Sha256>,
) -> Result<Vec<Sha256>, ProofError> {
    hashes(inclusion_nodes(index, size)?, lookup)
}

/// The proof that the tree of `new` leaves extends the tree of `old` leaves. Empty if `old` is 0 or `new`.
///
/// # Errors
///
/// Fails if the old tree is larger than the new or a hash is missing.
pub fn consistency_proof(
    old: u64,
    new: u64,
    lookup: impl Fn(Node) -> Option<Sha256>,
) -> Result<Vec<Sha256>, ProofError> {
    hashes(consistency_nodes(old, new)?, lookup)
}

/// A lookup for proofs over leaf hashes that are all in memory.
pub fn leaf_lookup(leaves: &[Sha256]) -> impl Fn(Node) -> Option<Sha256> {
    |node| {
        let below = node.leaves();
        let (begin, end) = (usize::try_from(below.start).ok()?, usize::try_from(below.end).ok()?);
        leaves.get(begin..end).map(root_of)
    }
}

fn hashes(steps: Vec<Vec<Node>>, lookup: impl Fn(Node) -> Option<Sha256>) -> Result<Vec<Sha256>, ProofError> {
    let hash = |node: Node| lookup(node).ok_or(ProofError::Missing(node));
    steps
        .into_iter()
        .map(|nodes| {
            let mut smallest_first = nodes.into_iter().rev();
            let smallest = hash(smallest_first.next().ok_or(ProofError::Length)?)?;
            smallest_first.try_fold(smallest, |right, left| Ok(node_hash(&hash(left)?, &right)))
        })
        .collect()
}

/// The largest power of two smaller than `count`, where RFC 6962 splits a tree of `count` > 1 leaves.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// The complete subtrees of a range that begins where a split put it, from left to right.
fn complete_subtrees(range: Range<u64>) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut begin = range.start;
    while begin < range.end {
        let level = (range.end - begin).ilog2();
        nodes.push(Node { level, index: begin >> level });
        begin += 1 << level;
    }
    nodes
}

/// Checks that the leaf with hash `leaf` is number `index` of the tree of `size` leaves with root `root`.
///
/// # Errors
///
/// Fails with [`ProofError::Range`], [`ProofError::Length`] or [`ProofError::Root`].
pub fn verify_inclusion(
    leaf: &Sha256,
    index: u64,
    size: u64,
    proof: &[Sha256],
    root: &Sha256,
) -> Result<(), ProofError> {
    if index >= size || size > TREE_SIZE_MAX {
        return Err(ProofError::Range { position: index, size });
    }
    let mut walk = Walk { position: index, last: size - 1 };
    let mut hash = *leaf;
    for sibling in proof {
        hash = match walk.step()? {
            Side::Left => node_hash(sibling, &hash),
            Side::Right => node_hash(&hash, sibling),
        };
    }
    if walk.last != 0 {
        return Err(ProofError::Length);
    }
    if hash == *root { Ok(()) } else { Err(ProofError::Root) }
}

/// Checks that the tree of `new` leaves with root `new_root` extends the tree of `old` leaves with root `old_root`.
///
/// # Errors
///
/// Fails with [`ProofError::Range`], [`ProofError::Length`] or [`ProofError::Root`].
pub fn verify_consistency(
    old: u64,
    old_root: &Sha256,
    new: u64,
    new_root: &Sha256,
    proof: &[Sha256],
) -> Result<(), ProofError> {
    if old > new || new > TREE_SIZE_MAX {
        return Err(ProofError::Range { position: old, size: new });
    }
    if old == 0 || old == new {
        // Every tree extends the empty one, but only if that is really the empty one.
        let holds = if old == new { old_root == new_root } else { *old_root == empty_root() };
        return match (proof.is_empty(), holds) {
            (false, _) => Err(ProofError::Length),
            (true, false) => Err(ProofError::Root),
            (true, true) => Ok(()),
        };
    }
    // A complete old tree is itself the first node of the path.
    let mut path = old.is_power_of_two().then_some(old_root).into_iter().chain(proof);
    let first = path.next().ok_or(ProofError::Length)?;
    let complete = (old - 1).trailing_ones();
    let mut walk = Walk { position: (old - 1) >> complete, last: (new - 1) >> complete };
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in path {
        match walk.step()? {
            Side::Left => {
                old_hash = node_hash(sibling, &old_hash);
                new_hash = node_hash(sibling, &new_hash);
            }
            Side::Right => new_hash = node_hash(&new_hash, sibling),
        }
    }
    if walk.last != 0 {
        return Err(ProofError::Length);
    }
    if old_hash == *old_root && new_hash == *new_root { Ok(()) } else { Err(ProofError::Root) }
}

/// The way from a node up to the root (`fn` and `sn` of RFC 9162).
struct Walk {
    position: u64,
    last: u64,
}

/// On which side of the path a sibling stands.
enum Side {
    Left,
    Right,
}

impl Walk {
    fn step(&mut self) -> Result<Side, ProofError> {
        if self.last == 0 {
            return Err(ProofError::Length);
        }
        let side = if self.position % 2 == 1 || self.position == self.last {
            // At the right edge, levels without a sibling are skipped.
            while self.position.is_multiple_of(2) && self.position != 0 {
                self.shift();
            }
            Side::Left
        } else {
            Side::Right
        };
        self.shift();
        Ok(side)
    }
    fn shift(&mut self) {
        self.position >>= 1;
        self.last >>= 1;
    }
}
