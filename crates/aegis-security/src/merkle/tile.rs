//! How inner nodes are grouped for storage: C2SP `tlog-tiles`, tiles of height 8.

use std::fmt;

use super::Node;

/// Levels of the tree in one tile.
pub const TILE_HEIGHT: u32 = 8;
/// Hashes in a full tile.
pub const TILE_WIDTH: u64 = 1 << TILE_HEIGHT;

/// A tile: `width` consecutive hashes of tree level 8 × `level`, starting with number `index` × 256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// 0 for tiles of leaf hashes.
    pub level: u32,
    /// Its place within the level.
    pub index: u64,
    /// 1 to 255 for a partial tile, 256 for a full one.
    pub width: u64,
}

impl Tile {
    /// The nodes whose hashes it holds, in order.
    pub fn nodes(self) -> impl Iterator<Item = Node> {
        let first = self.index * TILE_WIDTH;
        (first..first + self.width).map(move |index| Node { level: self.level * TILE_HEIGHT, index })
    }
    /// The full tile a node is computed from, and which of its hashes the node covers: `root_of` them is the node's.
    pub fn holding(node: Node) -> (Self, std::ops::Range<u64>) {
        let above = node.level % TILE_HEIGHT;
        let first = node.index << above;
        let tile = Self { level: node.level / TILE_HEIGHT, index: first / TILE_WIDTH, width: TILE_WIDTH };
        let offset = first % TILE_WIDTH;
        (tile, offset..offset + (1 << above))
    }
}

impl fmt::Display for Tile {
    /// The path `tile/L/N[.p/W]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile/{}/", self.level)?;
        let mut groups = vec![self.index % 1000];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        while groups.len() > 1
            && let Some(group) = groups.pop()
        {
            write!(f, "x{group:03}/")?;
        }
        write!(f, "{:03}", self.index % 1000)?;
        if self.width < TILE_WIDTH { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

/// The tiles that a tree of `new` leaves has and the tree of `old` leaves did not have, or had less of.
pub fn tiles_between(old: u64, new: u64) -> Vec<Tile> {
    let mut tiles = Vec::new();
    for level in 0..=(u64::BITS / TILE_HEIGHT - 1) {
        let (had, has) = (old >> (level * TILE_HEIGHT), new >> (level * TILE_HEIGHT));
        if has <= had {
            break;
        }
        for index in had / TILE_WIDTH..has.div_ceil(TILE_WIDTH) {
            let width = (has - index * TILE_WIDTH).min(TILE_WIDTH);
            tiles.push(Tile { level, index, width });
        }
    }
    tiles
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of C2SP tlog-tiles.
    #[test]
    fn tiles_are_those_of_the_specification() {
        assert_eq!(Tile { level: 0, index: 1_234_067, width: 256 }.to_string(), "tile/0/x001/x234/067");
        let of_70_000 = tiles_between(0, 70_000);
        let full = |level| of_70_000.iter().filter(|t| t.level == level && t.width == TILE_WIDTH).count();
        let partial = |level| {
            of_70_000
                .iter()
                .filter(|t| t.level == level && t.width < 256)
                .map(|t| t.width)
                .collect::<Vec<_>>()
        };
        assert_eq!((full(0), partial(0)), (273, vec![112]));
        assert_eq!((full(1), partial(1)), (1, vec![17]));
        assert_eq!((full(2), partial(2)), (0, vec![1]));
        assert_eq!(of_70_000.len(), 273 + 1 + 1 + 1 + 1);
        assert_eq!(
            tiles_between(0, 256).iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["tile/0/000", "tile/1/000.p/1"]
        );
    }

    #[test]
    fn only_what_grew_is_written_again() {
        assert!(tiles_between(300, 300).is_empty());
        assert_eq!(
            tiles_between(300, 301).iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["tile/0/001.p/45"]
        );
        assert_eq!(
            tiles_between(511, 513).iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["tile/0/001", "tile/0/002.p/1", "tile/1/000.p/2"]
        );
    }

    #[test]
    fn every_node_is_found_in_its_tile() {
        for node in [
            Node { level: 0, index: 700 },
            Node { level: 3, index: 100 },
            Node { level: 8, index: 3 },
            Node { level: 11, index: 77 },
        ] {
            let (tile, covered) = Tile::holding(node);
            let lowest: Vec<Node> = tile.nodes().collect();
            let first = lowest[usize::try_from(covered.start).unwrap()];
            let last = lowest[usize::try_from(covered.end - 1).unwrap()];
            assert_eq!(first.leaves().start..last.leaves().end, node.leaves());
        }
    }
}
