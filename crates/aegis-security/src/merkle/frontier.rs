//! What must be kept of a tree to append to it: the roots of its complete subtrees.

use aegis_core::Sha256;

use super::{Node, TREE_SIZE_MAX, empty_root, node_hash};

/// Bytes that are not a frontier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrontierError {
    /// Too short, too long, or the number of hashes does not follow from the size.
    #[error("a frontier of {size} leaves does not have {bytes} bytes")]
    Length {
        /// The size they claim.
        size: u64,
        /// How many bytes there are.
        bytes: usize,
    },
    /// More leaves than a tree may have.
    #[error("a tree of {0} leaves is too large")]
    Size(u64),
}

/// A tree that grows to the right, in at most 62 hashes.
///
/// Invariant: `nodes` holds one hash for each bit set in `size`, largest subtree first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    nodes: Vec<Sha256>,
}

impl Frontier {
    /// The tree without leaves.
    pub fn new() -> Self {
        Self::default()
    }
    /// How many leaves it has.
    pub fn size(&self) -> u64 {
        self.size
    }
    /// Appends the hash of a leaf.
    pub fn push(&mut self, leaf: Sha256) {
        self.push_with(leaf, |_, _| {});
    }
    /// Appends the hash of a leaf and names each node this completes, from the leaf upwards.
    pub fn push_with(&mut self, leaf: Sha256, mut completed: impl FnMut(Node, Sha256)) {
        let mut node = Node { level: 0, index: self.size };
        let mut hash = leaf;
        completed(node, hash);
        while node.index % 2 == 1
            && let Some(left) = self.nodes.pop()
        {
            hash = node_hash(&left, &hash);
            node = Node { level: node.level + 1, index: node.index / 2 };
            completed(node, hash);
        }
        self.nodes.push(hash);
        self.size += 1;
    }
    /// The root hash.
    pub fn root(&self) -> Sha256 {
        let mut smallest_first = self.nodes.iter().rev();
        match smallest_first.next() {
            None => empty_root(),
            Some(smallest) => smallest_first.fold(*smallest, |right, left| node_hash(left, &right)),
        }
    }
    /// The size (8 bytes, big-endian), then the hashes, largest subtree first.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.size.to_be_bytes().to_vec();
        for node in &self.nodes {
            bytes.extend_from_slice(node.as_bytes());
        }
        bytes
    }
    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    ///
    /// Fails unless there are exactly as many bytes as the size asks for.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FrontierError> {
        let wrong = |size| FrontierError::Length { size, bytes: bytes.len() };
        let (size, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| wrong(0))?;
        let size = u64::from_be_bytes(*size);
        if size > TREE_SIZE_MAX {
            return Err(FrontierError::Size(size));
        }
        let (hashes, remainder) = rest.as_chunks::<32>();
        if !remainder.is_empty() || hashes.len() != size.count_ones() as usize {
            return Err(wrong(size));
        }
        Ok(Self { size, nodes: hashes.iter().copied().map(Sha256::from_bytes).collect() })
    }
}
