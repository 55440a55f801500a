//! Where things are: the data folder, the configuration file, the daemon and its token.

use std::path::{Path, PathBuf};

use aegis_api::{Client, Endpoint, is_loopback};
use aegis_core::{Diagnosis, ErrorCode};

use crate::args::Global;
use crate::failure::Failure;

/// The file name of a configuration.
const CONFIG_FILE: &str = "aegis-config.yaml";
const HOST_DEFAULT: &str = "127.0.0.1";
const PORT_DEFAULT: u16 = 8088;

impl Global {
    /// The data folder: `AEGIS_HOME`, or the configuration's `storage.data_dir`, or `~/.aegis`; always absolute.
    pub(crate) fn home(&self) -> Result<PathBuf, Failure> {
        if self.home.is_none()
            && let Some(config) = self.config_file()?
            && let Some(folder) = aegis_server::load_config(Some(&config))?.data_dir()
        {
            return Ok(folder);
        }
        self.own_home()
    }

    /// The data folder where no configuration says another; its configuration is looked for there.
    fn own_home(&self) -> Result<PathBuf, Failure> {
        let chosen = match &self.home {
            Some(home) => home.clone(),
            None => std::env::home_dir()
                .filter(|home| !home.as_os_str().is_empty())
                .map(|home| home.join(".aegis"))
                .ok_or_else(|| {
                    Diagnosis::new(ErrorCode::InvalidInput, "neither `AEGIS_HOME` nor `HOME` is set")
                        .hint("set `AEGIS_HOME` to a folder for AEGIS's data")
                })?,
        };
        Ok(std::path::absolute(&chosen).unwrap_or(chosen))
    }

    /// The configuration file that holds, if there is one: `--config` or `AEGIS_CONFIG_PATH`, `./aegis-config.yaml`,
    /// the data folder's, `/etc/aegis/aegis-config.yaml`. What is named must be there.
    pub(crate) fn config_file(&self) -> Result<Option<PathBuf>, Failure> {
        if let Some(named) = &self.config {
            if !named.is_file() {
                let what = format!("no configuration file `{}`", named.display());
                return Err(Diagnosis::new(ErrorCode::InvalidInput, what)
                    .hint("check `--config` and `AEGIS_CONFIG_PATH`; `aegis config generate` prints one to start from")
                    .into());
            }
            return Ok(Some(std::path::absolute(named).unwrap_or_else(|_| named.clone())));
        }
        let places = [
            PathBuf::from(CONFIG_FILE),
            self.own_home()?.join(CONFIG_FILE),
            Path::new("/etc/aegis").join(CONFIG_FILE),
        ];
        let found = places.into_iter().find(|place| place.is_file());
        Ok(found.map(|place| std::path::absolute(&place).unwrap_or(place)))
    }

    /// A client for the daemon. Without host or port, the ones the configuration says.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let (host, port) = self.address()?;
        let token = match &self.token {
            Some(token) => Some(token.trim().to_owned()),
            // The node's own token is for this machine alone; another daemon is never shown it.
            None if is_loopback(&host) => self.node_token()?,
            None => None,
        };
        Ok(Client::new(Endpoint { host, port, token, tenant: self.tenant.clone() })?)
    }

    /// Where the daemon is looked for.
    pub(crate) fn address(&self) -> Result<(String, u16), Failure> {
        let configured = match (&self.host, self.port) {
            (Some(_), Some(_)) => None,
            _ => self.configured_address()?,
        };
        let (host, port) = configured.unwrap_or((HOST_DEFAULT.to_owned(), PORT_DEFAULT));
        Ok((self.host.clone().unwrap_or(host), self.port.unwrap_or(port)))
    }

    /// The configuration's address, as a client reaches it.
    fn configured_address(&self) -> Result<Option<(String, u16)>, Failure> {
        let Some(path) = self.config_file()? else { return Ok(None) };
        let network = aegis_server::load_config(Some(&path))?.node().spec.network.clone();
        let host = if network.bind_address.is_unspecified() {
            HOST_DEFAULT.to_owned()
        } else {
            network.bind_address.to_string()
        };
        Ok(Some((host, network.port)))
    }

    fn node_token(&self) -> Result<Option<String>, Failure> {
        let path = self.home()?.join(aegis_server::TOKEN_FILE);
        match std::fs::read_to_string(&path) {
            Ok(token) => Ok(Some(token.trim().to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                let what = format!("`{}` may not be read", path.display());
                Err(Diagnosis::new(ErrorCode::PermissionDenied, what)
                    .hint("run as the daemon's user, or set `AEGIS_TOKEN`")
                    .into())
            }
            Err(_) => Ok(None),
        }
    }
}
