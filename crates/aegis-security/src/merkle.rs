//! The Merkle tree of the journal: RFC 6962, section 2.1, with SHA-256.
//!
//! A node is named by its level (0 for leaves) and its index within the level; only complete subtrees have names.

mod frontier;
mod proof;
mod tile;

pub use frontier::{Frontier, FrontierError};
pub use proof::{
    ProofError, consistency_nodes, consistency_proof, inclusion_nodes, inclusion_proof, leaf_lookup,
    verify_consistency, verify_inclusion,
};
pub use tile::{TILE_HEIGHT, TILE_WIDTH, Tile, tiles_between};

use std::ops::Range;

use aegis_core::Sha256;
use sha2::Digest;

use crate::commitment::sha256;

/// Most leaves of a tree. Below it no sum or shift of indices can overflow.
pub const TREE_SIZE_MAX: u64 = 1 << 62;

/// The hash of a leaf: SHA-256(0x00 ‖ bytes).
pub fn leaf_hash(bytes: &[u8]) -> Sha256 {
    let mut hasher = sha2::Sha256::new();
    hasher.update([0x00]);
    hasher.update(bytes);
    Sha256::from_bytes(hasher.finalize().into())
}

/// The hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
pub fn node_hash(left: &Sha256, right: &Sha256) -> Sha256 {
    let mut hasher = sha2::Sha256::new();
    hasher.update([0x01]);
    hasher.update(left.as_bytes());
    hasher.update(right.as_bytes());
    Sha256::from_bytes(hasher.finalize().into())
}

/// The root of the tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Sha256 {
    sha256(b"")
}

/// The root of the tree whose lowest row is `hashes`: leaf hashes, or the hashes of a tile.
pub fn root_of(hashes: &[Sha256]) -> Sha256 {
    let mut frontier = Frontier::new();
    for hash in hashes {
        frontier.push(*hash);
    }
    frontier.root()
}

/// A complete subtree: `index` counts the subtrees of 2^`level` leaves from the left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// 0 for leaves; below 63.
    pub level: u32,
    /// Its place within the level.
    pub index: u64,
}

impl Node {
    /// The leaves below it.
    pub fn leaves(self) -> Range<u64> {
        self.index << self.level..(self.index + 1) << self.level
    }
    /// The two nodes below it; `None` for a leaf.
    pub fn children(self) -> Option<(Self, Self)> {
        let level = self.level.checked_sub(1)?;
        Some((Self { level, index: self.index * 2 }, Self { level, index: self.index * 2 + 1 }))
    }
}
