//! From names to addresses.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;

/// How long a name may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks for the addresses of permitted names.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// All addresses of `name`, which is in ASCII and lower case.
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The host's own resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let answer = tokio::time::timeout(TIMEOUT, tokio::net::lookup_host((name, 0))).await;
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
        let mut addresses: Vec<IpAddr> = answer.map_err(late)??.map(|socket| socket.ip()).collect();
        addresses.dedup();
        Ok(addresses)
    }
}
