//! Values that came through here, to be redacted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aegis_core::Tenant;
use aegis_kernel::port::{KnownSecret, SecretName};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::super::ROTATION_OVERLAP;

struct Version {
    version: u64,
    value: SecretString,
    /// Set when a newer one came.
    retired: Option<Instant>,
}

type Versions = BTreeMap<(Tenant, SecretName), Vec<Version>>;

/// The newest version of each, and former ones for the overlap.
#[derive(Default)]
pub(super) struct Remembered {
    versions: Mutex<Versions>,
    revision: AtomicU64,
}

impl Remembered {
    pub(super) fn given(&self, tenant: &Tenant, name: &SecretName, version: u64, value: &SecretString) {
        let mut all = self.lock();
        let versions = all.entry((tenant.clone(), name.clone())).or_default();
        let same = |known: &Version| {
            known.version == version && known.value.expose_secret() == value.expose_secret()
        };
        if versions.iter().any(same) {
            return;
        }
        let now = Instant::now();
        versions.retain(|former| former.retired.is_none_or(|at| now - at < ROTATION_OVERLAP));
        for former in versions.iter_mut().filter(|former| former.retired.is_none()) {
            former.retired = Some(now);
        }
        versions.push(Version { version, value: value.clone(), retired: None });
        drop(all);
        self.revision.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn forget(&self, tenant: &Tenant, name: &SecretName) {
        if self.lock().remove(&(tenant.clone(), name.clone())).is_some() {
            self.revision.fetch_add(1, Ordering::AcqRel);
        }
    }

    pub(super) fn known(&self, tenant: &Tenant) -> Vec<KnownSecret> {
        let now = Instant::now();
        let all = self.lock();
        let of_tenant = all.iter().filter(|((of, _), _)| of == tenant);
        of_tenant
            .flat_map(|((_, name), versions)| versions.iter().map(move |version| (name, version)))
            .filter(|(_, version)| version.retired.is_none_or(|at| now - at < ROTATION_OVERLAP))
            .map(|(name, version)| KnownSecret { name: name.to_string(), value: version.value.clone() })
            .collect()
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Versions> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
