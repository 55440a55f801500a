//! Git repositories outside that agents may clone from and push to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Reference;
use crate::quantity::{ByteSize, Millis};

/// The port of https.
const HTTPS_PORT: u16 = 443;
/// Longest pack unless the configuration says otherwise.
const PACK_BYTES_DEFAULT: u64 = 64 << 20;
/// Longest pack that may be asked for: packs are held in the daemon's memory.
pub(crate) const PACK_BYTES_MAX: u64 = 512 << 20;
/// Time for one call unless the configuration says otherwise.
const TIMEOUT_DEFAULT: Millis = Millis::from_secs(120);
/// Longest time for one call.
pub(crate) const TIMEOUT_MAX: Millis = Millis::from_secs(280);

/// Git repositories outside.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GitSection {
    /// The repositories, by the names under which agents know them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remotes: Vec<GitRemote>,
}

/// A repository outside. Agents name it; they never see its address's credential, and cannot name another address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitRemote {
    /// What agents call it: 1 to 63 of `a-z`, `0-9` and `-`, not starting with `-`.
    #[schemars(extend("format" = "name", "pattern" = "^[a-z0-9][a-z0-9-]{0,62}$"))]
    pub name: String,
    /// Its https address, such as `https://git.example.org/team/site.git`.
    pub url: String,
    /// The name to sign in with.
    #[serde(default = "username")]
    pub username: String,
    /// The password or token to sign in with: `secret:NAME` or `env:NAME`. It never leaves the daemon but to this address.
    pub credential: Reference,
    /// Branches that agents may push: a name, `prefix/*` for all below it, or `*`. None by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub push: Vec<String>,
    /// Ranges of addresses that are not public (private, loopback) and that the host may have, beside those of
    /// `governance.network.private`; without a port at every port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("format" = "destinations"))]
    pub private: Vec<String>,
    /// Largest pack that is taken or sent; at most `512Mi`.
    #[serde(default = "pack_size")]
    pub pack_size_max: ByteSize,
    /// Longest time for one call; at most `280s`.
    #[serde(default = "timeout")]
    pub timeout: Millis,
}

fn username() -> String {
    "git".to_owned()
}

const fn pack_size() -> ByteSize {
    ByteSize::from_bytes(PACK_BYTES_DEFAULT)
}

const fn timeout() -> Millis {
    TIMEOUT_DEFAULT
}

impl GitRemote {
    /// Host, port and path of its address; `None` if it is no plain https address.
    pub fn place(&self) -> Option<(&str, u16, &str)> {
        place(&self.url)
    }

    /// Whether agents may push to `branch`.
    pub fn permits_push(&self, branch: &str) -> bool {
        self.push.iter().any(|pattern| match pattern.strip_suffix("/*") {
            Some(above) => {
                branch.strip_prefix(above).is_some_and(|below| below.len() > 1 && below.starts_with('/'))
            }
            None => pattern == "*" || pattern == branch,
        })
    }
}

/// Host, port and path of a plain https address.
pub(crate) fn place(url: &str) -> Option<(&str, u16, &str)> {
    let rest = url.strip_prefix("https://")?;
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '?' | '#' | '\\' | '"' | '<' | '>');
    let (authority, path) = rest.split_at(rest.find('/')?);
    let leads_on = path.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
    if !rest.chars().all(plain) || !leads_on {
        return None;
    }
    let end = authority.rfind(']').unwrap_or(0);
    match authority.get(end..)?.find(':') {
        None if authority.is_empty() => None,
        None => Some((authority, HTTPS_PORT, path)),
        Some(colon) => {
            let (host, port) = authority.split_at(end + colon);
            let port = port.get(1..)?.parse().ok().filter(|port| *port > 0)?;
            (!host.is_empty()).then_some((host, port, path))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(url: &str, push: &[&str]) -> GitRemote {
        GitRemote {
            name: "site".to_owned(),
            url: url.to_owned(),
            username: username(),
            credential: Reference::Secret("git/site".to_owned()),
            push: push.iter().map(|pattern| (*pattern).to_owned()).collect(),
            private: Vec::new(),
            pack_size_max: pack_size(),
            timeout: timeout(),
        }
    }

    #[test]
    fn an_address_is_https_and_holds_nothing_else() {
        for (url, place) in [
            ("https://git.example.org/a/b.git", ("git.example.org", 443, "/a/b.git")),
            ("https://127.0.0.1:8443/b", ("127.0.0.1", 8443, "/b")),
            ("https://[::1]:8443/b", ("[::1]", 8443, "/b")),
            ("https://[::1]/b", ("[::1]", 443, "/b")),
        ] {
            assert_eq!(remote(url, &[]).place(), Some(place), "{url}");
        }
        for url in [
            "http://git.example.org/a",
            "ssh://git.example.org/a",
            "git@git.example.org:a",
            "file:///srv/a",
            "ext::sh -c id",
            "https://git.example.org",
            "https://git.example.org/",
            "https://user@git.example.org/a",
            "https://user:pw@git.example.org/a",
            "https://git.example.org/a?b",
            "https://git.example.org/a#b",
            "https://git.example.org/../a",
            "https://git.example.org/a//b",
            "https://git.example.org:0/a",
            "https://git.example.org:x/a",
            "https://:443/a",
            "https:///a",
            "https://git.example.org/a b",
            "https://git.example.org\\@evil/a",
            "",
        ] {
            assert_eq!(remote(url, &[]).place(), None, "{url}");
        }
    }

    #[test]
    fn a_branch_is_pushed_only_if_a_pattern_means_it() {
        let some = remote("https://h/a", &["agent/*", "draft"]);
        for branch in ["agent/a", "agent/a/b", "draft"] {
            assert!(some.permits_push(branch), "{branch}");
        }
        for branch in ["agent", "agent/", "agents/a", "main", "draft/a", "Draft", ""] {
            assert!(!some.permits_push(branch), "{branch}");
        }
        assert!(remote("https://h/a", &["*"]).permits_push("main"));
        assert!(!remote("https://h/a", &[]).permits_push("main"));
    }
}
