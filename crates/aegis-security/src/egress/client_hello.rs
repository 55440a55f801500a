//! The server name in a TLS ClientHello (RFC 8446, sections 4.1.2 and 5.1; RFC 6066, section 3).

use super::host::Host;

/// Most bytes that are waited for until a ClientHello is whole, record headers included.
pub const CLIENT_HELLO_BYTES_MAX: usize = 64 * 1024;

/// Record header: type, version, length.
const RECORD_HEADER_BYTES: usize = 5;
/// Most bytes in one record.
const RECORD_BYTES_MAX: usize = 1 << 14;
const RECORD_HANDSHAKE: u8 = 22;
const HANDSHAKE_CLIENT_HELLO: u8 = 1;
const VERSION_MAJOR: u8 = 3;
const EXTENSION_SERVER_NAME: u16 = 0;
const NAME_TYPE_HOST: u8 = 0;
const RANDOM_BYTES: usize = 32;

/// What a ClientHello says about where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientHello {
    /// The name in the `server_name` extension; `None` without the extension.
    pub server_name: Option<Host>,
}

/// First bytes that are no ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClientHelloError {
    /// Something else than TLS.
    #[error("the first bytes are not a TLS ClientHello")]
    NotTls,
    /// TLS, but not as it should be.
    #[error("the TLS ClientHello is malformed")]
    Malformed,
    /// Longer than [`CLIENT_HELLO_BYTES_MAX`].
    #[error("the TLS ClientHello is longer than {CLIENT_HELLO_BYTES_MAX} bytes")]
    TooLong,
}

use ClientHelloError::{Malformed, NotTls, TooLong};

impl ClientHello {
    /// Reads the first bytes of a stream; `None` if more are needed. The message may be split over records.
    ///
    /// # Errors
    ///
    /// As soon as it is certain that no ClientHello comes, or no sound one.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, ClientHelloError> {
        let message = handshake(bytes)?;
        // Type and length of 24 bits.
        let (Some(&kind), Some(length)) = (message.first(), message.get(1..4)) else {
            return match message.first() {
                Some(&kind) if kind != HANDSHAKE_CLIENT_HELLO => Err(NotTls),
                _ => not_yet(bytes),
            };
        };
        if kind != HANDSHAKE_CLIENT_HELLO {
            return Err(NotTls);
        }
        let length = length.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
        if length > CLIENT_HELLO_BYTES_MAX {
            return Err(TooLong);
        }
        match message.get(4..4 + length) {
            Some(body) => hello(Reader(body)).map(Some),
            None => not_yet(bytes),
        }
    }
}

fn not_yet(bytes: &[u8]) -> Result<Option<ClientHello>, ClientHelloError> {
    if bytes.len() >= CLIENT_HELLO_BYTES_MAX { Err(TooLong) } else { Ok(None) }
}

/// The handshake bytes of the records that are there, without their headers; stops before an incomplete header.
fn handshake(mut bytes: &[u8]) -> Result<Vec<u8>, ClientHelloError> {
    let mut message = Vec::new();
    loop {
        if bytes.first().is_some_and(|&kind| kind != RECORD_HANDSHAKE)
            || bytes.get(1).is_some_and(|&major| major != VERSION_MAJOR)
        {
            return Err(if message.is_empty() { NotTls } else { Malformed });
        }
        let Some((header, rest)) = bytes.split_at_checked(RECORD_HEADER_BYTES) else { return Ok(message) };
        let &[_, _, _, high, low] = header else { return Ok(message) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length == 0 || length > RECORD_BYTES_MAX {
            return Err(Malformed);
        }
        let (fragment, rest) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        message.extend_from_slice(fragment);
        bytes = rest;
        // The first message ends here; whatever follows is not looked at, and need not be a record.
        if let Some(&[high, middle, low]) = message.get(1..4) {
            let whole = 4 + (usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low));
            if message.len() >= whole {
                return Ok(message);
            }
        }
        if bytes.is_empty() {
            return Ok(message);
        }
    }
}

fn hello(mut body: Reader<'_>) -> Result<ClientHello, ClientHelloError> {
    let version = body.take(2)?;
    if version.first() != Some(&VERSION_MAJOR) {
        return Err(Malformed);
    }
    body.take(RANDOM_BYTES)?;
    body.vector8()?;
    let suites = body.vector16()?;
    let compressions = body.vector8()?;
    if suites.is_empty() || suites.len() % 2 != 0 || compressions.is_empty() {
        return Err(Malformed);
    }
    if body.0.is_empty() {
        return Ok(ClientHello { server_name: None });
    }
    let mut extensions = Reader(body.vector16()?);
    if !body.0.is_empty() {
        return Err(Malformed);
    }
    let mut server_name = None;
    while !extensions.0.is_empty() {
        let kind = extensions.number16()?;
        let content = extensions.vector16()?;
        if kind == EXTENSION_SERVER_NAME {
            // A second one would be read by some servers instead of the first.
            if server_name.is_some() {
                return Err(Malformed);
            }
            server_name = Some(host_name(Reader(content))?);
        }
    }
    Ok(ClientHello { server_name })
}

/// The one name of the list: RFC 6066 knows one type and one name of a type.
fn host_name(mut extension: Reader<'_>) -> Result<Host, ClientHelloError> {
    let mut list = Reader(extension.vector16()?);
    let kind = list.take(1)?;
    let name = list.vector16()?;
    if kind != [NAME_TYPE_HOST] || !list.0.is_empty() || !extension.0.is_empty() || !name.is_ascii() {
        return Err(Malformed);
    }
    let text = std::str::from_utf8(name).map_err(|_| Malformed)?;
    Host::parse(text).map_err(|_| Malformed)
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], ClientHelloError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number16(&mut self) -> Result<u16, ClientHelloError> {
        let bytes = self.take(2)?;
        <[u8; 2]>::try_from(bytes).map(u16::from_be_bytes).map_err(|_| Malformed)
    }

    fn vector8(&mut self) -> Result<&'a [u8], ClientHelloError> {
        let length = self.take(1)?.first().copied().unwrap_or(0);
        self.take(usize::from(length))
    }

    fn vector16(&mut self) -> Result<&'a [u8], ClientHelloError> {
        let length = self.number16()?;
        self.take(usize::from(length))
    }
}
