//! A server's section of the node's configuration, checked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use ::http::HeaderName;
use aegis_core::Name;
use aegis_kernel::port::{Access, Governed, GovernedKind};
use aegis_manifest::node::{
    GovernedArgument, McpGrant, McpOauth, McpProtocol, McpServer, OauthGrant, Reference,
};
use reqwest::Url;

use super::governed;
use super::oauth::is_loopback;

/// A section that cannot be put into force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Not a name.
    #[error("`{0}` is not a server's name: use 1 to 63 of a-z, 0-9 and `-`, not starting with `-`")]
    Name(String),
    /// Neither a program nor an address, or both.
    #[error("the server `{0}` needs either `executable` or `url`")]
    Reach(String),
    /// Not an address that can be called.
    #[error("`{0}` is not an address: use http:// or https://")]
    Url(String),
    /// Not a header that may be set.
    #[error("`{0}` is not a header that may be set here")]
    Header(String),
    /// A sign-in that cannot be put into force.
    #[error("the `oauth` of `{0}` {1}")]
    Oauth(String, &'static str),
    /// A field that nothing would come of.
    #[error("the server `{0}` has `{1}`, {2}")]
    Unused(String, &'static str, &'static str),
    /// Not a folder a server may be shown.
    #[error("`{0}`: the folder `{1}` {2}")]
    Folder(String, String, &'static str),
    /// Two servers of one name.
    #[error("two servers are called `{0}`")]
    Twice(String),
}

impl SettingsError {
    /// The field of the section that it is about; empty for the whole of it.
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Name(_) | Self::Twice(_) => "name",
            Self::Reach(_) => "",
            Self::Unused(_, field, _) => field,
            Self::Url(_) => "url",
            Self::Header(_) => "headers",
            Self::Oauth(..) => "oauth",
            Self::Folder(..) => "folders",
        }
    }
}

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// A program that speaks on standard input and output.
    Program {
        /// The program.
        program: String,
        /// Its arguments.
        args: Vec<String>,
        /// Its environment, unresolved.
        env: Vec<(String, Reference)>,
    },
    /// An address that speaks streamable HTTP.
    Address {
        /// The address.
        url: String,
        /// Headers of each request, unresolved.
        headers: Vec<(HeaderName, Reference)>,
        /// How to sign in, if it asks for that.
        oauth: Option<OauthSettings>,
    },
}

/// How to sign in at a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OauthSettings {
    /// Who is granted the tokens.
    pub grant: OauthGrant,
    /// The client's id, where it was registered by hand.
    pub client_id: Option<String>,
    /// Its secret, unresolved.
    pub client_secret: Option<Reference>,
    /// Where the client describes itself.
    pub client_metadata_url: Option<String>,
    /// What to ask for; without it, what the server names.
    pub scopes: Vec<String>,
    /// Whether an authorization server on a private network may be asked.
    pub private_addresses: bool,
}

/// A server's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerLimits {
    /// Until it has started and told its tools.
    pub start_timeout: Duration,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// Between two looks at whether it is well and unchanged.
    pub health_interval: Duration,
    /// Most bytes of one message.
    pub response_bytes_max: usize,
    /// Most requests at once.
    pub concurrent_max: usize,
    /// Most requests that wait for their turn.
    pub queue_max: usize,
    /// Lines of standard error that are kept.
    pub log_lines_max: usize,
    /// The first pause before it is started again; it doubles each time.
    pub restart_after: Duration,
    /// The longest pause before it is started again.
    pub restart_after_max: Duration,
}

/// A server, as configured.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerSettings {
    /// Its name.
    pub name: Name,
    /// How it is reached.
    pub reach: Reach,
    /// Which revision to speak.
    pub protocol: McpProtocol,
    /// Governed arguments by tool, from the configuration or what is known of the official servers.
    pub governed: BTreeMap<String, Vec<Governed>>,
    /// Tools that may be performed again after a crash.
    pub idempotent: BTreeSet<String>,
    /// What it may ask of its own accord.
    pub grants: Vec<McpGrant>,
    /// Hosts it may reach itself; for the starter.
    pub domain_allowlist: Vec<String>,
    /// Folders of this machine that it sees, read-only; for the starter.
    pub folders: Vec<String>,
    /// Limits.
    pub limits: ServerLimits,
}

const RESTART_AFTER: Duration = Duration::from_millis(500);
const RESTART_AFTER_MAX: Duration = Duration::from_secs(60);
/// Headers the protocol sets itself.
const RESERVED: [&str; 6] =
    ["accept", "content-type", "host", "mcp-session-id", "mcp-protocol-version", "last-event-id"];

impl ServerSettings {
    /// Checks a section.
    ///
    /// # Errors
    /// If it cannot be put into force.
    pub fn new(server: &McpServer) -> Result<Self, SettingsError> {
        let name: Name = server.name.parse().map_err(|_| SettingsError::Name(server.name.clone()))?;
        if let Some((field, remedy)) = unused(server) {
            return Err(SettingsError::Unused(server.name.clone(), field, remedy));
        }
        let mut governed = governed::known(server.executable.as_deref(), &server.args);
        for (tool, arguments) in &server.governed {
            let stated = arguments
                .iter()
                .map(|(argument, kind)| Governed { argument: argument.clone().into(), kind: kind_of(*kind) });
            governed.insert(tool.clone(), stated.collect());
        }
        Ok(Self {
            name,
            reach: reach(server)?,
            protocol: server.protocol,
            governed,
            idempotent: server.idempotent.iter().cloned().collect(),
            grants: server.grants.clone(),
            domain_allowlist: server.domain_allowlist.clone(),
            folders: folders(server)?,
            limits: limits(server),
        })
    }
    /// The references its credentials come from, which tell one credential from another: never their values.
    pub fn credential(&self) -> String {
        let references: Vec<String> = match &self.reach {
            Reach::Program { env, .. } => env.iter().map(|(name, value)| named(name, value)).collect(),
            Reach::Address { headers, oauth, .. } => {
                let sign_in = oauth.iter().map(|_| "oauth".to_owned());
                headers.iter().map(|(name, value)| named(name.as_str(), value)).chain(sign_in).collect()
            }
        };
        references.join(",")
    }
}

/// Folders of the kernel, of devices and of running programs are shown to no server, under whatever name.
const CLOSED: [&str; 4] = ["/proc", "/sys", "/dev", "/run"];

/// Where a folder that a server is shown lies now, links looked through, so that one opens nothing that its target does
/// not. To be asked again whenever it is opened: a link may lead elsewhere since.
///
/// # Errors
/// Why it is shown to no server.
pub fn shown_folder(folder: &str) -> Result<PathBuf, &'static str> {
    let path = Path::new(folder);
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return Err("is not an absolute path without `..`");
    }
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let closed = |path: &Path| path == Path::new("/") || CLOSED.iter().any(|closed| path.starts_with(closed));
    if closed(path) || closed(&real) { Err("is not shown to servers") } else { Ok(real) }
}

fn folders(server: &McpServer) -> Result<Vec<String>, SettingsError> {
    for folder in &server.folders {
        shown_folder(folder)
            .map_err(|why| SettingsError::Folder(server.name.clone(), folder.clone(), why))?;
    }
    Ok(server.folders.clone())
}

fn named(name: &str, value: &Reference) -> String {
    match value {
        Reference::Literal(_) => format!("{name}=literal"),
        other => format!("{name}={other}"),
    }
}

/// A field of the section that would be without effect, and what to do: a rule that is not kept must not be read as one.
fn unused(server: &McpServer) -> Option<(&'static str, &'static str)> {
    let elsewhere =
        "which is for programs: what runs behind an address is out of this node's hands; leave it out";
    if !server.config.is_empty() {
        return Some(("config", "of which no server is told: give it to a program by `args` or `env`"));
    }
    let behind_an_address = server.url.is_some();
    [("domain_allowlist", &server.domain_allowlist), ("folders", &server.folders)]
        .into_iter()
        .find(|(_, given)| behind_an_address && !given.is_empty())
        .map(|(field, _)| (field, elsewhere))
}

fn reach(server: &McpServer) -> Result<Reach, SettingsError> {
    match (&server.executable, &server.url) {
        (Some(program), None)
            if !program.is_empty() && server.headers.is_empty() && server.oauth.is_none() =>
        {
            Ok(Reach::Program {
                program: program.clone(),
                args: server.args.clone(),
                env: server.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            })
        }
        (None, Some(url)) if server.args.is_empty() && server.env.is_empty() => {
            let parsed = Url::parse(url).map_err(|_| SettingsError::Url(url.clone()))?;
            let credentials = !parsed.username().is_empty() || parsed.password().is_some();
            if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() || credentials {
                return Err(SettingsError::Url(url.clone()));
            }
            let headers = server.headers.iter().map(|(name, value)| {
                let header: HeaderName = name.parse().map_err(|_| SettingsError::Header(name.clone()))?;
                if RESERVED.contains(&header.as_str()) || header.as_str().starts_with("mcp-") {
                    return Err(SettingsError::Header(name.clone()));
                }
                Ok((header, value.clone()))
            });
            let headers: Vec<(HeaderName, Reference)> = headers.collect::<Result<_, _>>()?;
            let authorized = headers.iter().any(|(name, _)| name == ::http::header::AUTHORIZATION);
            let oauth = server.oauth.as_ref().map(|oauth| sign_in(server, oauth, &parsed, authorized));
            Ok(Reach::Address { url: url.clone(), headers, oauth: oauth.transpose()? })
        }
        _ => Err(SettingsError::Reach(server.name.clone())),
    }
}

fn sign_in(
    server: &McpServer,
    oauth: &McpOauth,
    url: &Url,
    authorized: bool,
) -> Result<OauthSettings, SettingsError> {
    let refuse = |why| Err(SettingsError::Oauth(server.name.clone(), why));
    if url.scheme() != "https" && !is_loopback(url) {
        return refuse("needs an https address, or one of this machine: tokens are not sent in the clear");
    }
    if authorized {
        return refuse("and an `Authorization` header exclude each other");
    }
    let itself = oauth.grant == OauthGrant::ClientCredentials;
    if itself && (oauth.client_id.is_none() || oauth.client_secret.is_none()) {
        return refuse("needs `client_id` and `client_secret` for `client_credentials`");
    }
    if oauth.client_secret.is_some() && oauth.client_id.is_none() {
        return refuse("has a `client_secret` without a `client_id`");
    }
    let document = oauth.client_metadata_url.as_ref().map(|document| Url::parse(document));
    if document
        .is_some_and(|document| !document.is_ok_and(|url| url.scheme() == "https" && url.path() != "/"))
    {
        return refuse("has a `client_metadata_url` that is not an https address with a path");
    }
    Ok(OauthSettings {
        grant: oauth.grant,
        client_id: oauth.client_id.clone(),
        client_secret: oauth.client_secret.clone(),
        client_metadata_url: oauth.client_metadata_url.clone(),
        scopes: oauth.scopes.clone(),
        private_addresses: oauth.private_addresses,
    })
}

fn limits(server: &McpServer) -> ServerLimits {
    let limits = server.limits;
    let seconds = |count: u32| Duration::from_secs(u64::from(count.max(1)));
    let size = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    ServerLimits {
        start_timeout: seconds(limits.start_timeout_seconds),
        request_timeout: seconds(limits.request_timeout_seconds),
        health_interval: seconds(limits.health_interval_seconds),
        response_bytes_max: size(limits.response_bytes_max).clamp(1024, 16 << 20),
        concurrent_max: size(limits.concurrent_max).clamp(1, 256),
        queue_max: size(limits.queue_max).min(4096),
        log_lines_max: size(limits.log_lines_max).min(10_000),
        restart_after: RESTART_AFTER,
        restart_after_max: RESTART_AFTER_MAX,
    }
}

const fn kind_of(kind: GovernedArgument) -> GovernedKind {
    match kind {
        GovernedArgument::Path => GovernedKind::Path(Access::Write),
        GovernedArgument::ReadPath => GovernedKind::Path(Access::Read),
        GovernedArgument::Url => GovernedKind::Url,
        GovernedArgument::Command => GovernedKind::Command,
        GovernedArgument::Domain => GovernedKind::Domain,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn server(value: serde_json::Value) -> McpServer {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_server_is_a_program_or_an_address() {
        let program = json!({"name": "git", "executable": "mcp-server-git", "env": {"TOKEN": "secret:git"}});
        let settings = ServerSettings::new(&server(program)).unwrap();
        assert_eq!(settings.credential(), "TOKEN=secret:git");
        assert!(settings.governed.contains_key("git_log"));
        let address = json!({"name": "far", "url": "https://mcp.example/mcp", "headers": {"Authorization": "literal:x"}});
        let settings = ServerSettings::new(&server(address)).unwrap();
        assert_eq!(settings.credential(), "authorization=literal");
        for bad in [
            json!({"name": "Bad", "executable": "x"}),
            json!({"name": "a"}),
            json!({"name": "a", "executable": "x", "url": "http://h/"}),
            json!({"name": "a", "url": "file:///etc/passwd"}),
            json!({"name": "a", "url": "https://user:pass@h/"}),
            json!({"name": "a", "url": "http://h/", "headers": {"Mcp-Session-Id": "x"}}),
            json!({"name": "a", "url": "http://h/", "env": {"X": "y"}}),
            json!({"name": "a", "url": "http://h/", "folders": ["/srv"]}),
            json!({"name": "a", "url": "http://h/", "domain_allowlist": ["h.example"]}),
            json!({"name": "a", "executable": "x", "folders": ["relative"]}),
            json!({"name": "a", "executable": "x", "folders": ["/srv/../etc"]}),
            json!({"name": "a", "executable": "x", "folders": ["/"]}),
            json!({"name": "a", "executable": "x", "folders": ["/proc/self"]}),
            json!({"name": "a", "executable": "x", "folders": ["/var/run"]}),
            json!({"name": "a", "executable": "x", "oauth": {}}),
            json!({"name": "a", "executable": "x", "config": {"depth": 3}}),
            json!({"name": "a", "url": "http://h/", "oauth": {}}),
            json!({"name": "a", "url": "https://h/", "oauth": {}, "headers": {"Authorization": "x"}}),
            json!({"name": "a", "url": "https://h/", "oauth": {"grant": "client_credentials"}}),
            json!({"name": "a", "url": "https://h/", "oauth": {"client_secret": "secret:x"}}),
            json!({"name": "a", "url": "https://h/", "oauth": {"client_metadata_url": "http://h/x"}}),
        ] {
            assert!(ServerSettings::new(&server(bad.clone())).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_field_of_a_section_is_put_into_force() {
        let program = json!({"name": "x", "executable": "/x", "args": ["-v"], "env": {"A": "env:B"},
            "protocol": "2025-11-25", "idempotent": ["add"], "grants": ["roots"], "domain_allowlist": ["a.org"],
            "limits": {"start_timeout_seconds": 2, "request_timeout_seconds": 3, "health_interval_seconds": 4,
                "response_bytes_max": 5000, "concurrent_max": 6, "queue_max": 7, "log_lines_max": 8}});
        let settings = ServerSettings::new(&server(program)).unwrap();
        let Reach::Program { program, args, env } = &settings.reach else { panic!("{settings:?}") };
        assert_eq!((program.as_str(), &args[..]), ("/x", &["-v".to_owned()][..]));
        assert_eq!(env[..], [("A".to_owned(), Reference::Env("B".to_owned()))]);
        assert_eq!(settings.protocol, McpProtocol::Handshake);
        assert_eq!(settings.idempotent, BTreeSet::from(["add".to_owned()]));
        assert_eq!(
            (&settings.grants[..], &settings.domain_allowlist[..]),
            (&[McpGrant::Roots][..], &["a.org".to_owned()][..])
        );
        let limits = ServerLimits {
            start_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(3),
            health_interval: Duration::from_secs(4),
            response_bytes_max: 5000,
            concurrent_max: 6,
            queue_max: 7,
            log_lines_max: 8,
            restart_after: RESTART_AFTER,
            restart_after_max: RESTART_AFTER_MAX,
        };
        assert_eq!(settings.limits, limits);

        let address = json!({"name": "x", "url": "https://h/", "headers": {"X-A": "literal:b"},
            "oauth": {"grant": "client_credentials", "client_id": "i", "client_secret": "secret:s",
                "client_metadata_url": "https://m/d", "scopes": ["s"], "private_addresses": true}});
        let settings = ServerSettings::new(&server(address)).unwrap();
        let Reach::Address { url, headers, oauth: Some(oauth) } = &settings.reach else {
            panic!("{settings:?}")
        };
        assert_eq!((url.as_str(), headers[0].0.as_str()), ("https://h/", "x-a"));
        let expected = OauthSettings {
            grant: OauthGrant::ClientCredentials,
            client_id: Some("i".to_owned()),
            client_secret: Some(Reference::Secret("s".parse().unwrap())),
            client_metadata_url: Some("https://m/d".to_owned()),
            scopes: vec!["s".to_owned()],
            private_addresses: true,
        };
        assert_eq!(*oauth, expected);
    }

    #[test]
    fn the_operator_states_what_is_governed() {
        let stated = json!({"name": "x", "executable": "x", "governed": {"run": {"line": "command"}}});
        let settings = ServerSettings::new(&server(stated)).unwrap();
        assert_eq!(
            settings.governed["run"],
            [Governed { argument: "line".into(), kind: GovernedKind::Command }]
        );
    }
}
