//! Redaction of a text that comes in pieces.

use zeroize::Zeroizing;

use super::secrets::Redactor;

/// Gives out a stream redacted, just as the whole text would have been. It holds back what may yet turn out to be the
/// beginning of a secret: as many bytes as the longest form of a secret and the longest mark have.
#[derive(Debug)]
pub struct StreamRedactor<'redactor> {
    redactor: &'redactor Redactor,
    held: Zeroizing<String>,
}

impl<'redactor> StreamRedactor<'redactor> {
    /// A stream that begins.
    pub fn new(redactor: &'redactor Redactor) -> Self {
        Self { redactor, held: Zeroizing::default() }
    }

    /// Takes the next piece; answers with what can be given out now.
    pub fn push(&mut self, piece: &str) -> String {
        if self.redactor.is_empty() {
            return piece.to_owned();
        }
        let mut held = Zeroizing::new(String::with_capacity(self.held.len() + piece.len()));
        held.push_str(&self.held);
        held.push_str(piece);
        let decided = (held.len() + 1).saturating_sub(self.redactor.lookahead());
        let mut out = String::new();
        let done = self.redactor.pass(&held, decided, &mut out);
        held.drain(..done);
        self.held = held;
        out
    }

    /// The rest, once no more comes.
    pub fn finish(mut self) -> String {
        let held = std::mem::take(&mut self.held);
        let mut out = String::new();
        self.redactor.pass(&held, held.len(), &mut out);
        out
    }
}
