//! Standard output of a server, of which no line may be longer than permitted.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::sync::CancellationToken;

/// What is known of a stream that ended.
#[derive(Debug, Clone, Default)]
pub(super) struct StreamEnd {
    /// Cancelled when nothing more comes.
    pub(super) ended: CancellationToken,
    too_large: Arc<AtomicBool>,
}

impl StreamEnd {
    /// Whether it was ended here, because a line was too long.
    pub(super) fn too_large(&self) -> bool {
        self.too_large.load(Ordering::Acquire)
    }
}

/// A stream of lines that ends at the first line longer than `max` bytes. The SDK would drop such a line, and whoever
/// waits for its answer would wait until the time is over.
pub(super) struct BoundedLines<R> {
    inner: R,
    max: usize,
    line: usize,
    end: StreamEnd,
}

impl<R> BoundedLines<R> {
    /// Bounds `inner`.
    pub(super) fn new(inner: R, max: usize) -> (Self, StreamEnd) {
        let end = StreamEnd::default();
        (Self { inner, max, line: 0, end: end.clone() }, end)
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for BoundedLines<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.end.ended.is_cancelled() {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = std::task::ready!(Pin::new(&mut self.inner).poll_read(context, buffer));
        let fresh = buffer.filled().get(before..).unwrap_or_default();
        if read.is_err() || fresh.is_empty() {
            self.end.ended.cancel();
            return Poll::Ready(read);
        }
        let mut line = self.line;
        let mut longest = 0;
        for part in fresh.split_inclusive(|byte| *byte == b'\n') {
            line += part.len();
            longest = longest.max(line);
            if part.ends_with(b"\n") {
                line = 0;
            }
        }
        self.line = line;
        if longest > self.max {
            buffer.set_filled(before);
            self.end.too_large.store(true, Ordering::Release);
            self.end.ended.cancel();
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_line_too_long_ends_the_stream() {
        let (mut lines, end) = BoundedLines::new(&b"1234567\n1234567\n"[..], 8);
        let mut text = String::new();
        lines.read_to_string(&mut text).await.unwrap();
        assert_eq!((text.as_str(), end.too_large()), ("1234567\n1234567\n", false));
        assert!(end.ended.is_cancelled());

        let (mut lines, end) = BoundedLines::new(&b"12345678\n"[..], 8);
        let mut text = String::new();
        lines.read_to_string(&mut text).await.unwrap();
        assert_eq!((text.as_str(), end.too_large()), ("", true));
    }
}
