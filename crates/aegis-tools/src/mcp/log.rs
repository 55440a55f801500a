//! What a server writes to standard error: the last lines are kept, for `aegis server logs`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aegis_core::Timestamp;
use aegis_kernel::port::Clock;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::Instant;

/// Longest line kept; the rest of a longer one is dropped.
const LINE_BYTES_MAX: usize = 4096;
/// Bytes read in a second; whoever writes more waits.
const BYTES_PER_SECOND: usize = 1 << 20;
const CHUNK: usize = 8192;

/// A line of a server's standard error. Untrusted text: never shown to a model, and escaped before a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was read.
    pub at: Timestamp,
    /// The text, cut at 4096 bytes.
    pub text: String,
}

/// The last lines.
pub(super) struct LogRing {
    lines: Mutex<VecDeque<LogLine>>,
    max: usize,
}

impl LogRing {
    /// Keeps the last `max` lines.
    pub(super) fn new(max: usize) -> Self {
        Self { lines: Mutex::new(VecDeque::new()), max }
    }
    /// The lines kept, oldest first.
    pub(super) fn lines(&self) -> Vec<LogLine> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
    fn push(&self, line: LogLine) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= self.max {
            lines.pop_front();
        }
        if self.max > 0 {
            lines.push_back(line);
        }
    }
    /// Reads `stream` to its end.
    pub(super) async fn fill(self: Arc<Self>, mut stream: impl AsyncRead + Unpin, clock: Arc<dyn Clock>) {
        let mut chunk = vec![0; CHUNK];
        let mut line = Vec::new();
        let (mut since, mut read) = (Instant::now(), 0);
        loop {
            let count = match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(count) => count,
            };
            for part in chunk.get(..count).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
                let room = LINE_BYTES_MAX.saturating_sub(line.len());
                line.extend(part.iter().take(room).filter(|byte| **byte != b'\n'));
                if part.ends_with(b"\n") {
                    self.keep(&mut line, &*clock);
                }
            }
            read += count;
            if read >= BYTES_PER_SECOND {
                tokio::time::sleep_until(since + Duration::from_secs(1)).await;
                (since, read) = (Instant::now(), 0);
            }
        }
        if !line.is_empty() {
            self.keep(&mut line, &*clock);
        }
    }
    fn keep(&self, line: &mut Vec<u8>, clock: &dyn Clock) {
        self.push(LogLine { at: clock.now(), text: String::from_utf8_lossy(line).into_owned() });
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use aegis_testkit::TestClock;

    use super::*;

    #[tokio::test]
    async fn the_last_lines_are_kept_and_long_ones_are_cut() {
        let ring = Arc::new(LogRing::new(2));
        let text = format!("one\ntwo\n{}\nlast", "x".repeat(5000));
        let clock = Arc::new(TestClock::at(Timestamp::from_micros(7)));
        Arc::clone(&ring).fill(text.as_bytes(), clock).await;
        let lines = ring.lines();
        assert_eq!(lines.iter().map(|line| line.text.len()).collect::<Vec<_>>(), [4096, 4]);
        assert_eq!(lines[1].at, Timestamp::from_micros(7));
    }
}
