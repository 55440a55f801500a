//! Server-sent events, as far as model protocols use them: the data of each event.
//! Source: WHATWG HTML, section 9.2.6, "Interpreting an event stream".

/// Largest single event, in bytes. An event may hold a whole answer with every character escaped.
pub(crate) const EVENT_BYTES_MAX: usize = aegis_core::limits::MODEL_ANSWER_BYTES_MAX * 2;

/// An event larger than [`EVENT_BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventTooLarge;

/// Takes bytes in pieces of any size and gives back the data of whole events.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    after_return: bool,
    begun: bool,
}

impl Decoder {
    /// The data of the events that `bytes` complete.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<String>, EventTooLarge> {
        let mut events = Vec::new();
        for &byte in bytes {
            let follows_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if follows_return => {}
                b'\n' | b'\r' => events.extend(self.end_line()),
                _ => self.line.push(byte),
            }
            if self.line.len() + self.data.len() > EVENT_BYTES_MAX {
                return Err(EventTooLarge);
            }
        }
        Ok(events)
    }

    /// The event that the end of the stream completes: some servers leave out the last blank line.
    pub(crate) fn finish(&mut self) -> Option<String> {
        self.end_line().or_else(|| self.dispatch())
    }

    fn end_line(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        let mut line = line.as_slice();
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        }
        if line.is_empty() {
            return self.dispatch();
        }
        if let Some(value) = line.strip_prefix(b"data:") {
            if std::mem::replace(&mut self.has_data, true) {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
        }
        None
    }

    fn dispatch(&mut self) -> Option<String> {
        let data = std::mem::take(&mut self.data);
        std::mem::take(&mut self.has_data).then(|| String::from_utf8_lossy(&data).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(chunks: &[&[u8]]) -> Vec<String> {
        let mut decoder = Decoder::default();
        let mut events: Vec<String> = chunks.iter().flat_map(|chunk| decoder.feed(chunk).unwrap()).collect();
        events.extend(decoder.finish());
        events
    }

    #[test]
    fn every_line_ending_and_field_is_understood() {
        assert_eq!(events(&[b"data: a\n\ndata:b\r\n\r\ndata: c\r\r"]), ["a", "b", "c"]);
        assert_eq!(events(&[b"event: x\nid: 7\n: comment\ndata: 1\ndata: 2\n\n"]), ["1\n2"]);
        assert_eq!(events(&[b"\xEF\xBB\xBFdata: bom\n\n"]), ["bom"]);
        assert_eq!(events(&[b"event: nothing\n\n"]), Vec::<String>::new());
        assert_eq!(events(&[b"data: last"]), ["last"]);
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut decoder = Decoder::default();
        let piece = vec![b'x'; 1 << 20];
        let fed = (0..9).find_map(|_| decoder.feed(&piece).err());
        assert_eq!(fed, Some(EventTooLarge));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "(data: [a-zß€😀\r\n:]{0,9}\n\n|\r|\n){0,8}", size in 1usize..7) {
            let chunks: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            prop_assert_eq!(events(&chunks), events(&[text.as_bytes()]));
        }
        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
            let mut decoder = Decoder::default();
            let given: usize = decoder.feed(&bytes).unwrap().iter().map(String::len).sum();
            // A byte that is not UTF-8 becomes one character of three bytes.
            prop_assert!(given + decoder.data.len() + decoder.line.len() <= bytes.len() * 3);
        }
    }
}
