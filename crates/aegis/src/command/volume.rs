//! `aegis volume …`

use aegis_api::Volume as Shown;
use serde_json::json;

use super::file_error;
use crate::args::{Format, Global, Volume};
use crate::failure::Failure;
use crate::output;
use crate::table::{facts, table};

pub(super) async fn run(global: &Global, command: Volume) -> Result<(), Failure> {
    let client = global.client()?;
    match command {
        Volume::List { removed, limit } => {
            let page = client.volumes(removed, limit).await?;
            output::show(global.output, &page, |page| {
                table(
                    &["ID", "NAME", "CLASS", "STATUS", "FILES", "BYTES", "EXECUTION"],
                    page.items.iter().map(row),
                )
            })
        }
        Volume::Show { volume } => {
            let shown = client.volume(&volume).await?;
            output::show(global.output, &shown, words)
        }
        Volume::Files { volume } => {
            let page = client.volume_files(&volume).await?;
            output::show(global.output, &page, |page| {
                let rows = page
                    .items
                    .iter()
                    .map(|file| vec![file.path.clone(), file.size.to_string(), file.sha256.clone()]);
                table(&["PATH", "BYTES", "SHA-256"], rows)
            })
        }
        Volume::Get { volume, path, to } => {
            let bytes = client.volume_file(&volume, &path).await?;
            let Some(to) = to else { return output::bytes(&bytes) };
            std::fs::write(&to, &bytes).map_err(|error| file_error(&to, &error))?;
            let value = json!({"path": path, "bytes": bytes.len(), "written_to": to});
            match global.output {
                Some(Format::Json | Format::Yaml) => output::show(global.output, &value, |_| String::new()),
                _ => output::line(&format!("Wrote {} ({} bytes)", to.display(), bytes.len())),
            }
        }
        Volume::Remove { volume } => {
            client.remove_volume(&volume).await?;
            let value = json!({"id": volume, "status": "removed"});
            output::show(global.output, &value, |_| format!("Removed volume {volume}"))
        }
    }
}

fn row(volume: &Shown) -> Vec<String> {
    let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    vec![
        volume.id.clone(),
        volume.name.clone(),
        volume.storage_class.clone(),
        volume.status.clone(),
        number(volume.files),
        number(volume.bytes),
        volume.execution_id.clone().unwrap_or_default(),
    ]
}

fn words(volume: &Shown) -> String {
    let tree = match (volume.files, volume.bytes) {
        (Some(files), Some(bytes)) => format!("{files} files, {bytes} bytes when last recorded"),
        _ => String::new(),
    };
    facts(&[
        ("volume", volume.id.clone()),
        ("name", volume.name.clone()),
        ("class", volume.storage_class.clone()),
        ("status", volume.status.clone()),
        ("execution", volume.execution_id.clone().unwrap_or_default()),
        ("size limit", format!("{} bytes", volume.size_limit)),
        ("content", tree),
        ("created", volume.created_at.clone()),
        ("removed at", volume.expires_at.clone().unwrap_or_default()),
    ])
}
