//! What happened under a grant, coalesced: exact counts, a bounded number of ranges.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aegis_kernel::port::{FileRange, FileRecords};

use super::lock;

/// Most ranges kept between two readings of the records.
const RANGES_MAX: usize = 256;

/// What was done, as named in the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Read,
    /// A directory's names, or what a path is; counted, without a range.
    Inspect,
    Write,
    Create,
    CreateDirectory,
    Remove,
    Rename,
    Truncate,
    Link,
    Attributes,
    Refused,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Read | Self::Inspect => "read",
            Self::Write => "write",
            Self::Create => "create",
            Self::CreateDirectory => "create_dir",
            Self::Remove => "remove",
            Self::Rename => "rename",
            Self::Truncate => "truncate",
            Self::Link => "link",
            Self::Attributes => "attributes",
            Self::Refused => "refused",
        }
    }
}

/// Collects records; shared by the tools and the front of a grant.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Mutex<Inner>);

/// First byte, and the one after the last.
type Span = (u64, u64);

#[derive(Debug, Default)]
struct Inner {
    totals: FileRecords,
    ranges: BTreeMap<(Arc<str>, Operation), Vec<Span>>,
    range_count: usize,
}

impl Recorder {
    /// Counts one operation on `[offset, offset + bytes)` of the file at `path` of the sandbox.
    pub(crate) fn record(&self, operation: Operation, path: &Arc<str>, offset: u64, bytes: u64) {
        let mut inner = lock(&self.0);
        let totals = &mut inner.totals;
        match operation {
            Operation::Inspect => {
                totals.reads += 1;
                return;
            }
            Operation::Read => {
                totals.reads += 1;
                totals.read_bytes += bytes;
            }
            // Counted where the reason is known.
            Operation::Refused => {}
            Operation::Write => {
                totals.writes += 1;
                totals.written_bytes += bytes;
            }
            _ => totals.writes += 1,
        }
        inner.add_range((Arc::clone(path), operation), offset, offset.saturating_add(bytes));
    }

    /// Counts one operation that was refused, by its reason.
    pub(crate) fn refuse(&self, why: &'static str, path: &Arc<str>) {
        let mut inner = lock(&self.0);
        inner.totals.refused += 1;
        *inner.totals.refusals.entry(why.to_owned()).or_default() += 1;
        inner.add_range((Arc::clone(path), Operation::Refused), 0, 0);
    }

    /// What happened since last asked; `None` if nothing.
    pub(crate) fn take(&self) -> Option<FileRecords> {
        let Inner { mut totals, ranges, .. } = std::mem::take(&mut *lock(&self.0));
        if totals == FileRecords::default() {
            return None;
        }
        for ((path, operation), mut spans) in ranges {
            spans.sort_unstable();
            totals.ranges.extend(spans.into_iter().map(|(start, end)| FileRange {
                path: path.to_string(),
                op: operation.name().to_owned(),
                offset: start,
                bytes: end - start,
            }));
        }
        Some(totals)
    }
}

impl Inner {
    fn add_range(&mut self, key: (Arc<str>, Operation), start: u64, end: u64) {
        let full = self.range_count >= RANGES_MAX;
        if full && !self.ranges.contains_key(&key) {
            return;
        }
        let spans = self.ranges.entry(key).or_default();
        // The newest span stands last: sequential access ends here at once.
        let touching = spans.iter().rposition(|&(from, to)| start <= to && from <= end);
        match touching {
            Some(at) => {
                let (from, to) = spans.swap_remove(at);
                let mut merged = (from.min(start), to.max(end));
                let before = spans.len();
                spans.retain(|&(from, to)| {
                    let apart = merged.0 > to || from > merged.1;
                    if !apart {
                        merged = (merged.0.min(from), merged.1.max(to));
                    }
                    apart
                });
                self.range_count -= before - spans.len();
                spans.push(merged);
            }
            None if full => {}
            None => {
                spans.push((start, end));
                self.range_count += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn neighbours_become_one_range_and_counts_stay_exact() {
        let recorder = Recorder::default();
        assert_eq!(recorder.take(), None);
        let path: Arc<str> = "/workspace/a".into();
        for at in [0, 10, 30, 20] {
            recorder.record(Operation::Write, &path, at, 10);
        }
        recorder.refuse("hard_link", &path);
        let records = recorder.take().unwrap();
        assert_eq!((records.writes, records.written_bytes, records.refused), (4, 40, 1));
        assert_eq!(records.refusals, BTreeMap::from([("hard_link".to_owned(), 1)]));
        let range =
            |op: &str, bytes| FileRange { path: "/workspace/a".into(), op: op.into(), offset: 0, bytes };
        assert_eq!(records.ranges, vec![range("write", 40), range("refused", 0)]);
        assert_eq!(recorder.take(), None);
    }

    #[test]
    fn ranges_are_bounded_and_counts_are_not() {
        let recorder = Recorder::default();
        for at in 0..2000_u64 {
            recorder.record(Operation::Create, &format!("/workspace/{at}").into(), 0, 0);
        }
        let records = recorder.take().unwrap();
        assert_eq!((records.writes, records.ranges.len()), (2000, RANGES_MAX));
    }

    proptest! {
        #[test]
        fn ranges_cover_exactly_what_was_touched(spans in prop::collection::vec((0u64..200, 1u64..20), 1..40)) {
            let recorder = Recorder::default();
            let mut touched = std::collections::BTreeSet::new();
            for &(offset, bytes) in &spans {
                recorder.record(Operation::Read, &"/a".into(), offset, bytes);
                touched.extend(offset..offset + bytes);
            }
            let ranges = recorder.take().unwrap().ranges;
            let covered: Vec<u64> = ranges.iter().flat_map(|r| r.offset..r.offset + r.bytes).collect();
            prop_assert_eq!(covered, touched.into_iter().collect::<Vec<_>>());
        }
    }
}
