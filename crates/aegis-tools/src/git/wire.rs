//! What Git servers and clients say over HTTP, version 0 of the protocol without side bands (gitprotocol-http,
//! gitprotocol-pack and gitprotocol-common of Git's documentation). Pure.

/// Longest packet, its length included.
const PACKET_BYTES_MAX: usize = 65_520;
/// Most references taken of a server.
const REFERENCES_MAX: usize = 50_000;
/// Hexadecimal digits of an object's id (SHA-1).
const ID_DIGITS: usize = 40;
/// The id that stands for no object.
const NOTHING: &str = "0000000000000000000000000000000000000000";
/// How this client names itself.
const AGENT: &str = concat!("agent=aegis/", env!("CARGO_PKG_VERSION"));

/// What a server shows: its references, and what it can do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Advertised {
    /// Names and ids, as they came.
    pub(super) references: Vec<(String, String)>,
    capabilities: Vec<String>,
}

impl Advertised {
    /// Reads the answer to `info/refs?service=…`.
    ///
    /// # Errors
    /// If it is none.
    pub(super) fn parse(bytes: &[u8], service: &str) -> Result<Self, String> {
        let mut packets = Packets(bytes);
        if packets.text()?.as_deref() != Some(&format!("# service={service}")) || packets.text()?.is_some() {
            return Err("it does not begin as Git servers do".to_owned());
        }
        let mut shown = Self::default();
        while let Some(line) = packets.text()? {
            if let Some(error) = line.strip_prefix("ERR ") {
                return Err(format!("it says {}", foreign(error)));
            }
            let (line, capabilities) = line.split_once('\0').unwrap_or((&line, ""));
            if shown.references.is_empty() && shown.capabilities.is_empty() {
                shown.capabilities = capabilities.split(' ').map(str::to_owned).collect();
            }
            match line.split_once(' ') {
                Some((NOTHING, "capabilities^{}")) => {}
                Some((id, name)) if is_id(id) && !name.is_empty() => {
                    shown.references.push((name.to_owned(), id.to_owned()));
                }
                _ => return Err("it names references in no known way".to_owned()),
            }
            if shown.references.len() > REFERENCES_MAX {
                return Err(format!("it has more than {REFERENCES_MAX} references"));
            }
        }
        match shown.capability("object-format") {
            None | Some("sha1") => Ok(shown),
            Some(_) => Err("its objects are not named by SHA-1".to_owned()),
        }
    }

    /// The id that a reference names.
    pub(super) fn id_of(&self, name: &str) -> Option<&str> {
        self.references.iter().find(|(known, _)| known == name).map(|(_, id)| id.as_str())
    }

    /// The branch that it is usually about.
    pub(super) fn head(&self) -> Option<&str> {
        let symbolic =
            self.capabilities.iter().filter_map(|capability| capability.strip_prefix("symref=HEAD:"));
        symbolic.into_iter().find(|target| target.starts_with("refs/heads/"))
    }

    /// What of `wished` the server can do, as it is asked for.
    fn agreed(&self, wished: &[&str]) -> String {
        let plain = wished.iter().filter(|name| self.capabilities.iter().any(|known| known == *name));
        let agent = self.capability("agent").is_some().then_some(AGENT);
        plain.copied().chain(agent).map(|name| format!(" {name}")).collect()
    }

    fn capability(&self, name: &str) -> Option<&str> {
        self.capabilities.iter().find_map(|capability| capability.strip_prefix(name)?.strip_prefix('='))
    }
}

/// Asks for a commit and all before it.
pub(super) fn want(shown: &Advertised, id: &str) -> Vec<u8> {
    let agreed = shown.agreed(&["no-progress", "ofs-delta"]);
    let mut asked = packet(&format!("want {id}{agreed}\n"));
    asked.extend_from_slice(b"0000");
    asked.extend(packet("done\n"));
    asked
}

/// The pack in the answer to [`want`].
///
/// # Errors
/// If there is none.
pub(super) fn wanted(bytes: &[u8]) -> Result<&[u8], String> {
    let mut packets = Packets(bytes);
    match packets.text()? {
        Some(line) if line == "NAK" && packets.0.starts_with(b"PACK") => Ok(packets.0),
        Some(line) => match line.strip_prefix("ERR ") {
            Some(error) => Err(format!("it says {}", foreign(error))),
            None => Err("it sends no pack".to_owned()),
        },
        None => Err("it sends no pack".to_owned()),
    }
}

/// Asks that `reference` name `commit` where it named `former`, with a pack of what that takes.
///
/// # Errors
/// If the server would not say what came of it.
pub(super) fn update(
    shown: &Advertised,
    (reference, commit, former): (&str, &str, Option<&str>),
    pack: &[u8],
) -> Result<Vec<u8>, String> {
    let (former, agreed) = (former.unwrap_or(NOTHING), shown.agreed(&["report-status"]));
    if !agreed.starts_with(" report-status") {
        return Err("it does not report what came of a push".to_owned());
    }
    let mut asked = packet(&format!("{former} {commit} {reference}\0{agreed}"));
    asked.extend_from_slice(b"0000");
    asked.extend_from_slice(pack);
    Ok(asked)
}

/// Whether the answer to [`update`] says that it was done.
///
/// # Errors
/// What it says instead.
///
/// # Errors
/// What it says instead, told apart by whether it certainly means that nothing was changed.
pub(super) fn updated(bytes: &[u8], reference: &str) -> Result<(), Report> {
    let mut packets = Packets(bytes);
    let unclear = || Report::Unclear("it does not say what came of it".to_owned());
    match packets.text().map_err(Report::Unclear)?.as_deref() {
        Some("unpack ok") => {}
        Some(other) if other.starts_with("unpack ") => {
            return Err(Report::Refused(format!("it says {}", foreign(other))));
        }
        Some(other) => return Err(Report::Unclear(format!("it says {}", foreign(other)))),
        None => return Err(unclear()),
    }
    match packets.text().map_err(Report::Unclear)?.as_deref() {
        Some(line) if line.strip_prefix("ok ") == Some(reference) => Ok(()),
        Some(other) if other.strip_prefix("ng ").and_then(|rest| rest.strip_prefix(reference)).is_some() => {
            Err(Report::Refused(format!("it says {}", foreign(other))))
        }
        Some(other) => Err(Report::Unclear(format!("it says {}", foreign(other)))),
        None => Err(unclear()),
    }
}

/// What a server says of an update but that it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Report {
    /// It was not made.
    Refused(String),
    /// Nobody knows.
    Unclear(String),
}

/// Words of a server, as they may be shown: bounded, escaped, and told apart from ours.
pub(super) fn foreign(text: &str) -> String {
    /// Most characters shown.
    const SHOWN_MAX: usize = 300;
    let shown: String = text.trim_end().chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    format!("\"{shown}\" (words of the server, not to be trusted)")
}

/// Whether a text is an object's id.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == ID_DIGITS && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn packet(text: &str) -> Vec<u8> {
    format!("{:04x}{text}", text.len() + 4).into_bytes()
}

/// Packets, one after another.
struct Packets<'a>(&'a [u8]);

impl Packets<'_> {
    /// The next packet's text without its line end; `None` for a flush or at the end.
    fn text(&mut self) -> Result<Option<String>, String> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let broken = || "it sends packets that are not whole".to_owned();
        let (digits, rest) = self.0.split_at_checked(4).ok_or_else(broken)?;
        let hexadecimal = digits.iter().all(u8::is_ascii_hexdigit);
        let digits = std::str::from_utf8(digits).ok().filter(|_| hexadecimal).ok_or_else(broken)?;
        let length = usize::from_str_radix(digits, 16).map_err(|_| broken())?;
        if length == 0 {
            self.0 = rest;
            return Ok(None);
        }
        let length = length.checked_sub(4).filter(|_| length <= PACKET_BYTES_MAX).ok_or_else(broken)?;
        let (packet, rest) = rest.split_at_checked(length).ok_or_else(broken)?;
        self.0 = rest;
        let text = std::str::from_utf8(packet).map_err(|_| broken())?;
        Ok(Some(text.strip_suffix('\n').unwrap_or(text).to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "1111111111111111111111111111111111111111";

    fn shown(lines: &[&str]) -> Vec<u8> {
        let mut bytes = packet("# service=git-upload-pack\n");
        bytes.extend_from_slice(b"0000");
        for line in lines {
            bytes.extend(packet(line));
        }
        bytes.extend_from_slice(b"0000");
        bytes
    }

    fn parsed(lines: &[&str]) -> Result<Advertised, String> {
        Advertised::parse(&shown(lines), "git-upload-pack")
    }

    #[test]
    fn references_and_the_usual_branch_are_read() {
        let head = format!("{ONE} HEAD\0multi_ack symref=HEAD:refs/heads/main object-format=sha1\n");
        let shown = parsed(&[&head, &format!("{ONE} refs/heads/main\n")]).unwrap();
        assert_eq!(shown.head(), Some("refs/heads/main"));
        assert_eq!(shown.id_of("refs/heads/main"), Some(ONE));
        assert_eq!(shown.id_of("refs/heads/mai"), None);
        let empty = parsed(&[&format!("{NOTHING} capabilities^{{}}\0report-status\n")]).unwrap();
        assert!(empty.references.is_empty());
    }

    #[test]
    fn what_is_no_advertisement_is_refused() {
        for lines in [
            &["nonsense\n"][..],
            &["ERR go away\u{1b}[2J\n"],
            &["1234 refs/heads/a\n"],
            &[&format!("{ONE} HEAD\0object-format=sha256\n")],
            &[&format!("{} refs/heads/a\n", ONE.replace('1', "Z"))],
        ] {
            let error = parsed(lines).unwrap_err();
            assert!(!error.contains('\u{1b}'), "{error}");
        }
        for bytes in
            [&b""[..], b"0000", b"00", b"zzzz", b"0003", b"ffff", b"0005", b"-001", b"+004", b"<html>"]
        {
            assert!(Advertised::parse(bytes, "git-upload-pack").is_err(), "{bytes:?}");
        }
        assert!(Advertised::parse(&shown(&[]), "git-receive-pack").is_err(), "another service");
    }

    #[test]
    fn a_report_counts_only_if_it_says_yes_of_that_reference() {
        let report = |lines: &[&str]| {
            let mut bytes: Vec<u8> = lines.iter().flat_map(|line| packet(line)).collect();
            bytes.extend_from_slice(b"0000");
            updated(&bytes, "refs/heads/a")
        };
        assert_eq!(report(&["unpack ok\n", "ok refs/heads/a\n"]), Ok(()));
        for lines in [
            &["unpack ok\n"][..],
            &["unpack ok\n", "ok refs/heads/b\n"],
            &["unpack ok\n", "ng refs/heads/b non-fast-forward\n"],
            &["hello\n", "ok refs/heads/a\n"],
            &[],
        ] {
            assert!(matches!(report(lines), Err(Report::Unclear(_))), "{lines:?}");
        }
        for lines in [
            &["unpack ok\n", "ng refs/heads/a non-fast-forward\n"],
            &["unpack index-pack abnormal exit\n", "ok refs/heads/a\n"],
        ] {
            assert!(matches!(report(lines), Err(Report::Refused(_))), "{lines:?}");
        }
        let Err(Report::Refused(said)) = report(&["unpack ok\n", "ng refs/heads/a \u{202e}evil\u{7}\n"])
        else {
            panic!("it was refused")
        };
        assert!(said.contains("not to be trusted") && !said.contains(['\u{202e}', '\u{7}']), "{said}");
    }

    #[test]
    fn a_pack_is_what_follows_nak() {
        let answer = |line: &str, rest: &[u8]| [packet(line), rest.to_vec()].concat();
        assert_eq!(wanted(&answer("NAK\n", b"PACKxyz")), Ok(&b"PACKxyz"[..]));
        for bytes in [answer("NAK\n", b"junk"), answer("ERR no\n", b""), answer("ACK\n", b"PACK"), Vec::new()]
        {
            assert!(wanted(&bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn an_update_says_what_was_there_before_and_asks_for_what_the_server_can_do() {
        let server = |line: &str| parsed(&[&format!("{NOTHING} capabilities^{{}}\0{line}\n")]).unwrap();
        let change = ("refs/heads/a", ONE, None);
        let asked = update(&server("report-status delete-refs"), change, b"PACK").unwrap();
        let text = String::from_utf8(asked).unwrap();
        let line = format!("{NOTHING} {ONE} refs/heads/a\0 report-status0000PACK");
        assert!(text.ends_with(&line), "{text}");
        assert!(update(&server("delete-refs"), change, b"PACK").is_err());
        let wanted = String::from_utf8(want(&server("no-progress agent=git/2"), ONE)).unwrap();
        assert!(wanted.contains(&format!("want {ONE} no-progress agent=aegis/")), "{wanted}");
    }
}
