//! One layer's rules, and its answers.

use std::net::IpAddr;

use aegis_core::{Denial, DenialCode};

use super::address::{AddressClass, canonical_address};
use super::host::Host;
use super::rule::{Destination, EgressRuleError, PORTS_DEFAULT, Place, Rule};

/// Most entries of one list.
const ENTRIES_MAX: usize = 1024;

/// How the lists are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EgressMode {
    /// Nowhere.
    None,
    /// Only to the allowlist.
    Allow,
    /// Anywhere public but to the denylist.
    Deny,
    /// Anywhere public, at any port and with anything in tunnels: other layers decide.
    Open,
}

/// A permission to resolve a name, or to look at the address a request is written with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePermit {
    /// The rule that gave it: `LAYER/allowlist:INDEX`, or `LAYER/mode:deny`.
    pub rule: String,
    /// Whether a tunnel may carry something else than TLS to the named host.
    pub raw: bool,
}

/// What one layer of authority says about connections. Layers are asked each alone; all must permit.
#[derive(Debug, Clone)]
pub struct EgressRules {
    layer: String,
    mode: EgressMode,
    allow: Vec<Rule>,
    deny: Vec<Rule>,
    /// What opens addresses that are not public; the allowlist itself, unless the layer keeps the two apart.
    private: Option<Vec<Rule>>,
}

impl EgressRules {
    /// Reads the rules of `layer` (`manifest:writer@1.0.0`). The denylist holds in every mode.
    ///
    /// # Errors
    ///
    /// Fails on the first entry that cannot be a rule: a list is never used in part.
    pub fn new(
        layer: impl Into<String>,
        mode: EgressMode,
        allowlist: &[Destination],
        denylist: &[Destination],
    ) -> Result<Self, EgressRuleError> {
        if allowlist.len().max(denylist.len()) > ENTRIES_MAX {
            return Err(EgressRuleError::TooMany(ENTRIES_MAX));
        }
        let allow = allowlist.iter().map(Rule::permitting).collect::<Result<_, _>>()?;
        let deny = denylist.iter().map(Rule::refusing).collect::<Result<_, _>>()?;
        Ok(Self { layer: layer.into(), mode, allow, deny, private: None })
    }

    /// Reads the rules of the layer `node`, which hold for all agents beside their own. Without an allowlist every
    /// public address is open. Addresses that are not public are closed, whatever other layers say, but for the ranges
    /// of `private`; one without a port means every port.
    ///
    /// # Errors
    ///
    /// Fails on the first entry that cannot be a rule, or a name among `private`.
    pub fn of_node(
        allowlist: &[Destination],
        denylist: &[Destination],
        private: &[Destination],
    ) -> Result<Self, EgressRuleError> {
        let mode = if allowlist.is_empty() { EgressMode::Open } else { EgressMode::Allow };
        let rules = Self::new("node", mode, allowlist, denylist)?;
        if private.len() > ENTRIES_MAX {
            return Err(EgressRuleError::TooMany(ENTRIES_MAX));
        }
        let range = |entry: &Destination| {
            let rule = Rule::refusing(entry)?;
            let is_range = matches!(rule.place, Place::Range(_));
            if is_range { Ok(rule) } else { Err(EgressRuleError::Form(entry.text.clone())) }
        };
        let private = private.iter().map(range).collect::<Result<_, _>>()?;
        Ok(Self { private: Some(private), ..rules })
    }

    /// Places of the entries that decide about this host and port: of the allowlist those that permit it, of the
    /// denylist those that refuse it.
    pub fn matching(&self, host: &Host, port: u16) -> Vec<usize> {
        let permits = |rule: &Rule| rule.means(host) && rule.permits_port(port);
        let refuses = |rule: &Rule| rule.means(host) && rule.refuses_port(port);
        let places = |rules: &[Rule], means: &dyn Fn(&Rule) -> bool| {
            rules.iter().enumerate().filter(|(_, rule)| means(rule)).map(|(place, _)| place).collect()
        };
        match self.mode {
            EgressMode::None | EgressMode::Open => Vec::new(),
            EgressMode::Allow => places(&self.allow, &permits),
            EgressMode::Deny => places(&self.deny, &refuses),
        }
    }

    /// The layer's name.
    pub fn layer(&self) -> &str {
        &self.layer
    }

    /// Whether any connection could be permitted.
    pub fn is_open(&self) -> bool {
        match self.mode {
            EgressMode::None => false,
            EgressMode::Allow => !self.allow.is_empty(),
            EgressMode::Deny | EgressMode::Open => true,
        }
    }

    /// Whether `host` may be looked up for a connection to `port`. A permit is not yet one to connect: see
    /// [`Self::permits_addresses`].
    ///
    /// # Errors
    ///
    /// The denial, with its rule and a remedy.
    pub fn permits_name(&self, host: &Host, port: u16) -> Result<NamePermit, Denial> {
        let refused = self.deny.iter().position(|rule| rule.means(host) && rule.refuses_port(port));
        if let Some(index) = refused {
            let why = format!("`{host}:{port}` is on the denylist");
            return Err(denial(
                self.rule("denylist", index),
                why,
                "remove the entry from `denylist`".to_owned(),
            ));
        }
        match self.mode {
            EgressMode::None => Err(denial(
                format!("{}/mode:none", self.layer),
                format!("`{host}:{port}`: connections are not permitted at all"),
                format!("write `mode: allow` with `{host}` in `security.network.allowlist`"),
            )),
            EgressMode::Open => Ok(NamePermit { rule: format!("{}/mode:open", self.layer), raw: true }),
            EgressMode::Deny if PORTS_DEFAULT.contains(&port) => {
                Ok(NamePermit { rule: format!("{}/mode:deny", self.layer), raw: false })
            }
            EgressMode::Deny => Err(denial(
                format!("{}/mode:deny", self.layer),
                format!("port {port} of `{host}`: only 80 and 443 are open with `mode: deny`"),
                format!("write `mode: allow` with `{host}:{port}` in `security.network.allowlist`"),
            )),
            EgressMode::Allow => self.on_the_allowlist(host, port),
        }
    }

    fn on_the_allowlist(&self, host: &Host, port: u16) -> Result<NamePermit, Denial> {
        let meant = self.allow.iter().enumerate().filter(|(_, rule)| rule.means(host));
        let (mut first, mut known) = (None, false);
        for (index, rule) in meant {
            known = true;
            // Among several rules one that permits more is taken: it was written for something.
            if rule.permits_port(port)
                && first.is_none_or(|(_, taken): (usize, &Rule)| rule.raw && !taken.raw)
            {
                first = Some((index, rule));
            }
        }
        if let Some((index, rule)) = first {
            return Ok(NamePermit { rule: self.rule("allowlist", index), raw: rule.raw });
        }
        let why = if known {
            format!("port {port} of `{host}` is not on the allowlist")
        } else {
            format!("`{host}` is not on the allowlist")
        };
        let stated = if PORTS_DEFAULT.contains(&port) { host.to_string() } else { format!("{host}:{port}") };
        let remedy = format!("add `{stated}` to `security.network.allowlist`");
        Err(denial(format!("{}/allowlist", self.layer), why, remedy))
    }

    /// Whether all of `addresses`, which `host` stands for, may be connected to. `own` are the addresses of this
    /// machine's interfaces.
    ///
    /// Each must be public and none of this machine's, or a range on the allowlist must state it: one that lies wholly
    /// among such addresses, and for an address of this machine outside loopback, that address alone.
    ///
    /// # Errors
    ///
    /// The denial of the first address that may not; also if there is none.
    pub fn permits_addresses(
        &self,
        host: &Host,
        addresses: &[IpAddr],
        port: u16,
        own: &[IpAddr],
    ) -> Result<(), Denial> {
        if addresses.is_empty() {
            let why = format!("`{host}` has no address");
            return Err(denial(
                format!("{}/address", self.layer),
                why,
                "look at the name's DNS records".to_owned(),
            ));
        }
        addresses.iter().try_for_each(|&address| self.permits_address(host, address, port, own))
    }

    fn permits_address(&self, host: &Host, address: IpAddr, port: u16, own: &[IpAddr]) -> Result<(), Denial> {
        let meant = canonical_address(address);
        let refused = self.deny.iter().position(|rule| rule.covers(meant) && rule.refuses_port(port));
        if let Some(index) = refused {
            let why = format!("`{host}` stands for {meant}, which is on the denylist");
            return Err(denial(
                self.rule("denylist", index),
                why,
                "remove the entry from `denylist`".to_owned(),
            ));
        }
        let class = AddressClass::of(meant);
        let is_own = own.iter().any(|&address| canonical_address(address) == meant);
        let what = match class {
            Some(class) if class.name == "loopback" || !is_own => class.name,
            None if !is_own => return Ok(()),
            _ => "this machine's own",
        };
        let opens =
            |rule: &Rule| rule.names_only(meant) || (rule.states(meant) && what != "this machine's own");
        let stated = match &self.private {
            Some(ranges) => ranges.iter().any(|rule| rule.refuses_port(port) && opens(rule)),
            None if self.mode == EgressMode::Allow => {
                self.allow.iter().any(|rule| rule.permits_port(port) && opens(rule))
            }
            None => false,
        };
        if stated {
            return Ok(());
        }
        let why = format!("`{host}` stands for {meant}, which is not a public address ({what})");
        let suffix = if PORTS_DEFAULT.contains(&port) { String::new() } else { format!(":{port}") };
        let range = if meant.is_ipv4() {
            format!("{meant}/32{suffix}")
        } else if suffix.is_empty() {
            format!("{meant}/128")
        } else {
            format!("[{meant}/128]{suffix}")
        };
        let remedy = if self.private.is_some() {
            format!("if it is meant, the operator adds `{range}` to `spec.governance.network.private`")
        } else {
            format!("if it is meant, add `{range}` to `security.network.allowlist` beside the name")
        };
        Err(denial(format!("{}/address", self.layer), why, remedy))
    }

    fn rule(&self, list: &str, index: usize) -> String {
        format!("{}/{list}:{index}", self.layer)
    }
}

fn denial(rule: String, message: String, remedy: String) -> Denial {
    Denial { code: DenialCode::DomainNotAllowed, rule, message, remedy }
}
