//! Where secrets lie: sealed in a database of this node, or in an `OpenBao` or Vault server.

mod embedded;
mod key_source;
mod node;
mod openbao;

use std::time::Duration;

pub use embedded::{EmbeddedOptions, EmbeddedSecrets};
pub use key_source::SECRETS_KEY_VARIABLE;
pub use node::NodeSecrets;
pub use openbao::{OpenBao, OpenBaoLogin, OpenBaoOptions};

/// How long a value that was rotated away is still redacted. No reference gives it any more.
pub const ROTATION_OVERLAP: Duration = Duration::from_secs(24 * 3600);
/// Most secrets of one tenant.
pub const SECRETS_PER_TENANT_MAX: usize = 1024;
