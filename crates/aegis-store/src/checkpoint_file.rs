//! The file of signed heads beside the database: append-only text, each note followed by an empty line.
//!
//! It is what names a cut tail when the database was cut: so it is synced at each head, and may be copied elsewhere.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::error::OpenError;
use crate::folder::private_file;

/// The notes of a checkpoint file, oldest first. A note torn off by a crash is left out.
pub(crate) fn notes(text: &str) -> Vec<&str> {
    whole_notes(text).0
}

/// The notes, and how many bytes they fill.
fn whole_notes(text: &str) -> (Vec<&str>, usize) {
    let mut notes = Vec::new();
    let mut begin = 0;
    // A note is a text, an empty line and signature lines; the separator is a second empty line.
    let mut ends = text.match_indices("\n\n").map(|(at, _)| at);
    while let (Some(_), Some(end)) = (ends.next(), ends.next()) {
        if let Some(note) = text.get(begin..=end) {
            notes.push(note);
        }
        begin = end + 2;
    }
    (notes, begin)
}

/// The file, open to append.
pub(crate) struct CheckpointFile {
    file: File,
    last: Option<String>,
}

impl CheckpointFile {
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let mut file = private_file(path).map_err(OpenError::io("open", path))?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(OpenError::io("read", path))?;
        let (notes, whole) = whole_notes(&text);
        let last = notes.last().map(|note| (*note).to_owned());
        if whole < text.len() {
            file.set_len(whole as u64).map_err(OpenError::io("mend", path))?;
        }
        file.seek(SeekFrom::End(0)).map_err(OpenError::io("read", path))?;
        Ok(Self { file, last })
    }
    /// The newest note there was when the file was opened.
    pub(crate) fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }
    /// Another handle on the same file and position.
    pub(crate) fn handle(&self) -> std::io::Result<Self> {
        Ok(Self { file: self.file.try_clone()?, last: None })
    }
    /// Appends a note and syncs it.
    pub(crate) fn append(&mut self, note: &str) -> std::io::Result<()> {
        self.file.write_all(note.as_bytes())?;
        self.file.write_all(b"\n")?;
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torn_notes_are_left_out() {
        let whole = "origin\n1\nroot\n\n— name sig\n\norigin\n2\nroot\n\n— name sig\n\n";
        assert_eq!(notes(whole), ["origin\n1\nroot\n\n— name sig\n", "origin\n2\nroot\n\n— name sig\n"]);
        let first_end = whole.find("\n\norigin").unwrap() + 2;
        for cut in (first_end..whole.len()).filter(|at| whole.is_char_boundary(*at)) {
            assert_eq!(notes(&whole[..cut]).len(), 1, "{cut}");
        }
    }
}
