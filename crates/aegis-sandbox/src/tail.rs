//! The last bytes of a stream.

use std::collections::VecDeque;

/// Keeps at most a fixed number of the last bytes written.
#[derive(Debug)]
pub(crate) struct Tail {
    kept: VecDeque<u8>,
    bytes_max: usize,
    truncated: bool,
}

impl Tail {
    /// An empty tail of at most `bytes_max` bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { kept: VecDeque::new(), bytes_max, truncated: false }
    }

    /// Appends, dropping the oldest bytes beyond the limit.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.kept.extend(bytes);
        let excess = self.kept.len().saturating_sub(self.bytes_max);
        if excess > 0 {
            self.kept.drain(..excess);
            self.truncated = true;
        }
    }

    /// The bytes kept, and whether any were dropped.
    pub(crate) fn finish(self) -> (Vec<u8>, bool) {
        (self.kept.into(), self.truncated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_tail_is_the_suffix_of_what_was_written(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20),
            bytes_max in 0_usize..60,
        ) {
            let mut tail = Tail::new(bytes_max);
            for chunk in &chunks {
                tail.push(chunk);
            }
            let all: Vec<u8> = chunks.concat();
            let (kept, truncated) = tail.finish();
            prop_assert_eq!(&kept[..], &all[all.len().saturating_sub(bytes_max)..]);
            prop_assert_eq!(truncated, all.len() > bytes_max);
        }
    }
}
