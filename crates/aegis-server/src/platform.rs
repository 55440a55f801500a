//! Platform agents: manifests that the configuration names, there for all tenants.

use std::io::Read as _;
use std::path::Path;

use aegis_core::limits::DOCUMENT_BYTES_MAX;
use aegis_core::{Diagnosis, ErrorCode};
use aegis_kernel::{Kernel, Refusal};
use aegis_manifest::NodeConfig;

/// Makes the tenant `platform` hold what `node` names: deploys what is new or changed, removes what is not named any
/// more. Relative paths start from `base`.
///
/// # Errors
/// The first manifest that cannot be read or is refused, by its path; those before it are deployed.
pub(crate) async fn deploy(kernel: &Kernel, node: &NodeConfig, base: &Path) -> Result<(), Diagnosis> {
    let mut kept = Vec::new();
    for named in &node.spec.platform_agents {
        let path = base.join(named);
        let shown = path.display().to_string();
        let document = read(&path)?;
        let deployed =
            kernel.deploy_platform(&document).await.map_err(|refusal| refused(&shown, &refusal))?;
        if kept.contains(&deployed.id) {
            let what = format!("`spec.platform_agents`: `{shown}`: agent `{}` is named twice", deployed.name);
            return Err(
                Diagnosis::new(ErrorCode::InvalidInput, what).hint("give each agent a name of its own")
            );
        }
        for warning in &deployed.warnings {
            tracing::warn!(file = %shown, "{warning}");
        }
        if deployed.changed {
            tracing::info!(agent = %deployed.name, version = %deployed.version, "platform agent deployed");
        }
        kept.push(deployed.id);
    }
    kernel.keep_platform(&kept).await
}

fn read(path: &Path) -> Result<String, Diagnosis> {
    let wrong = |why: String| {
        let what = format!("`spec.platform_agents`: `{}`: {why}", path.display());
        Diagnosis::new(ErrorCode::InvalidInput, what)
            .hint("name a manifest; relative paths start from the configuration file's folder")
    };
    let mut text = String::new();
    let limit = u64::try_from(DOCUMENT_BYTES_MAX).unwrap_or(u64::MAX);
    std::fs::File::open(path)
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_string(&mut text))
        .map_err(|error| wrong(error.to_string()))?;
    if text.len() > DOCUMENT_BYTES_MAX {
        return Err(wrong(format!("it is larger than {DOCUMENT_BYTES_MAX} bytes")));
    }
    Ok(text)
}

fn refused(shown: &str, refusal: &Refusal) -> Diagnosis {
    let Some(first) = refusal.problems.first() else {
        return Diagnosis::internal("a refusal without a problem");
    };
    let what = format!("`spec.platform_agents`: `{shown}`: {refusal}");
    let diagnosis = Diagnosis::new(first.code, what);
    match &first.hint {
        Some(hint) => diagnosis.hint(hint.clone()),
        None => diagnosis,
    }
}
