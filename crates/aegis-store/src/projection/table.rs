//! One projection's records in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A record of a projection.
pub(crate) trait Row: Serialize + DeserializeOwned + PartialEq {
    /// Its table.
    const TABLE: &'static str;
    /// Reads the records whose ids stand in a JSON array.
    const SELECT: &'static str;
    /// Writes the records of a JSON array of `{id, record}`, which stands between the two halves.
    const UPSERT: [&'static str; 2];
    /// Reads every record in the order of ids.
    const ALL: &'static str;
    /// Deletes every record.
    const CLEAR: &'static str;
}

macro_rules! rows {
    ($($row:ty = $table:literal),* $(,)?) => {$(
        impl $crate::projection::Row for $row {
            const TABLE: &'static str = $table;
            const SELECT: &'static str = concat!(
                "SELECT id, record FROM ", $table, " WHERE id IN (SELECT value FROM json_each(?1))"
            );
            const UPSERT: [&'static str; 2] = [
                concat!(
                    "INSERT INTO ", $table, " (id, record) SELECT value ->> '$.id', value -> '$.record' FROM json_each("
                ),
                ") WHERE true ON CONFLICT (id) DO UPDATE SET record = excluded.record",
            ];
            const ALL: &'static str = concat!("SELECT id, record FROM ", $table, " ORDER BY id");
            const CLEAR: &'static str = concat!("DELETE FROM ", $table);
        }
    )*};
}
pub(crate) use rows;

/// Records by id. A record that is known not to exist is held as `None`.
#[derive(Debug)]
pub(crate) struct Table<R> {
    rows: HashMap<String, Option<R>>,
    changed: BTreeSet<String>,
    wanted: BTreeSet<String>,
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Self { rows: HashMap::new(), changed: BTreeSet::new(), wanted: BTreeSet::new() }
    }
}

#[derive(Serialize)]
struct Stored<'a, R> {
    id: &'a str,
    record: &'a R,
}

impl<R: Row> Table<R> {
    pub(super) fn want(&mut self, id: String) {
        if !self.rows.contains_key(&id) {
            self.wanted.insert(id);
        }
    }
    /// What must be read before events are applied, as a JSON array; `None` if nothing.
    pub(crate) fn take_wanted(&mut self) -> Option<String> {
        let wanted = std::mem::take(&mut self.wanted);
        if wanted.is_empty() {
            return None;
        }
        let ids = serde_json::to_string(&wanted).ok();
        for id in wanted {
            self.rows.entry(id).or_insert(None);
        }
        ids
    }
    /// A record read from the database.
    pub(crate) fn loaded(&mut self, id: String, row: R) {
        self.rows.insert(id, Some(row));
    }
    pub(super) fn put(&mut self, id: String, row: R) {
        self.changed.insert(id.clone());
        self.rows.insert(id, Some(row));
    }
    /// Changes a record, if there is one.
    pub(super) fn change(&mut self, id: &str, change: impl FnOnce(&mut R)) {
        if let Some(Some(row)) = self.rows.get_mut(id) {
            change(row);
            if !self.changed.contains(id) {
                self.changed.insert(id.to_owned());
            }
        }
    }
    pub(super) fn has(&self, id: &str) -> bool {
        matches!(self.rows.get(id), Some(Some(_)))
    }
    /// Changed records in pieces of at most `most`, each a JSON array for [`Row::UPSERT`].
    pub(crate) fn take_changed(&mut self, most: usize) -> Vec<String> {
        let changed: Vec<String> = std::mem::take(&mut self.changed).into_iter().collect();
        let piece = |ids: &[String]| {
            let stored: Vec<Stored<'_, R>> = ids
                .iter()
                .filter_map(|id| Some(Stored { id, record: self.rows.get(id)?.as_ref()? }))
                .collect();
            serde_json::to_string(&stored).ok()
        };
        changed.chunks(most.max(1)).filter_map(piece).collect()
    }
    pub(super) fn trim(&mut self, most: usize) {
        if self.rows.len() > most {
            self.rows.clear();
        }
    }
    /// Every record in the order of ids.
    pub(crate) fn sorted(&self) -> BTreeMap<&str, &R> {
        self.rows.iter().filter_map(|(id, row)| Some((id.as_str(), row.as_ref()?))).collect()
    }
}
