//! TLS with the certificate authorities of this machine. They are read once, when something first needs them: reading a
//! few hundred certificates is a good part of a daemon's start.

use std::sync::{Arc, OnceLock};

use rustls_platform_verifier::BuilderVerifierExt;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, Error, crypto};

static CONFIG: OnceLock<Result<Arc<ClientConfig>, Error>> = OnceLock::new();

/// What makes connections.
///
/// # Errors
/// Why there is no TLS here.
pub(crate) fn connector() -> Result<TlsConnector, String> {
    let config = CONFIG.get_or_init(|| config().map(Arc::new));
    match config {
        Ok(config) => Ok(TlsConnector::from(Arc::clone(config))),
        Err(error) => Err(format!("TLS cannot be used here: {error}")),
    }
}

fn config() -> Result<ClientConfig, Error> {
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_platform_verifier()?.with_no_client_auth())
}
