//! The tree's inner nodes, kept as tiles: filled in memory by the writer, written at checkpoints, read for proofs.

use std::collections::BTreeMap;

use aegis_core::Sha256;
use aegis_security::merkle::{Node, TILE_HEIGHT, TILE_WIDTH, Tile, root_of};
use sqlx::{Row, SqliteConnection};

const HASH_BYTES: usize = 32;

/// Tiles that grew since the last checkpoint.
#[derive(Debug, Default)]
pub(crate) struct TileBuffer {
    /// By level and number; each begins at the tile's first hash.
    grown: BTreeMap<(u32, u64), Vec<u8>>,
}

impl TileBuffer {
    /// The last, partial tiles of a tree of `size` leaves, to go on from.
    pub(crate) async fn load(connection: &mut SqliteConnection, size: u64) -> Result<Self, sqlx::Error> {
        let mut grown = BTreeMap::new();
        for level in 0..u64::BITS / TILE_HEIGHT {
            let hashes = size >> (level * TILE_HEIGHT);
            let width = hashes % TILE_WIDTH;
            if width > 0 {
                let number = hashes / TILE_WIDTH;
                let mut bytes = read_tile(connection, level, number).await?.unwrap_or_default();
                bytes.truncate(usize::try_from(width).unwrap_or(usize::MAX).saturating_mul(HASH_BYTES));
                grown.insert((level, number), bytes);
            }
        }
        Ok(Self { grown })
    }

    /// Takes a node the tree completed; nodes between tile levels are computed again when they are read.
    pub(crate) fn complete(&mut self, node: Node, hash: &Sha256) {
        if node.level.is_multiple_of(TILE_HEIGHT) {
            let key = (node.level / TILE_HEIGHT, node.index / TILE_WIDTH);
            self.grown.entry(key).or_default().extend_from_slice(hash.as_bytes());
        }
    }

    /// Writes what grew; call [`Self::written`] once that is committed.
    pub(crate) async fn write(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        for ((level, number), hashes) in &self.grown {
            sqlx::query(
                "INSERT INTO tiles (level, number, hashes) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (level, number) DO UPDATE SET hashes = excluded.hashes",
            )
            .bind(i64::from(*level))
            .bind(number.cast_signed())
            .bind(hashes.clone())
            .execute(&mut *connection)
            .await?;
        }
        Ok(())
    }

    /// Forgets full tiles, which cannot grow.
    pub(crate) fn written(&mut self) {
        let full = usize::try_from(TILE_WIDTH).unwrap_or(usize::MAX) * HASH_BYTES;
        self.grown.retain(|_, hashes| hashes.len() < full);
    }
}

pub(crate) async fn read_tile(
    connection: &mut SqliteConnection,
    level: u32,
    number: u64,
) -> Result<Option<Vec<u8>>, sqlx::Error> {
    sqlx::query("SELECT hashes FROM tiles WHERE level = ?1 AND number = ?2")
        .bind(i64::from(level))
        .bind(number.cast_signed())
        .fetch_optional(connection)
        .await?
        .map(|row| row.try_get(0))
        .transpose()
}

/// The hashes of these nodes, as far as the stored tiles hold them.
pub(crate) async fn load_nodes(
    connection: &mut SqliteConnection,
    nodes: impl IntoIterator<Item = Node>,
) -> Result<BTreeMap<Node, Sha256>, sqlx::Error> {
    let mut tiles: BTreeMap<(u32, u64), Vec<Sha256>> = BTreeMap::new();
    let mut hashes = BTreeMap::new();
    for node in nodes {
        let (tile, covered) = Tile::holding(node);
        let key = (tile.level, tile.index);
        if let std::collections::btree_map::Entry::Vacant(slot) = tiles.entry(key) {
            let bytes = read_tile(connection, tile.level, tile.index).await?.unwrap_or_default();
            slot.insert(split_hashes(&bytes));
        }
        let range = usize::try_from(covered.start).ok().zip(usize::try_from(covered.end).ok());
        let row = range.and_then(|(start, end)| tiles.get(&key)?.get(start..end));
        if let Some(row) = row {
            hashes.insert(node, root_of(row));
        }
    }
    Ok(hashes)
}

pub(crate) fn split_hashes(bytes: &[u8]) -> Vec<Sha256> {
    bytes.as_chunks::<HASH_BYTES>().0.iter().copied().map(Sha256::from_bytes).collect()
}
