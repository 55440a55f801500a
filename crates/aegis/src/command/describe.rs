//! `aegis config …`, `explain` and `schema`.

use aegis_manifest::Explanation;
use serde_json::json;

use crate::args::{Config, Format, Global};
use crate::failure::{Failure, invalid};
use crate::output;

/// A configuration to start from.
const TEMPLATE: &str = "\
apiVersion: 100monkeys.ai/v1
kind: NodeConfig
metadata:
  name: my-node
spec:
  # Models. An agent names an alias; here it is said what stands behind it.
  llm_providers:
    - name: ollama
      type: ollama
      endpoint: http://127.0.0.1:11434/v1
      models:
        - alias: default
          model: qwen3:8b
    # - name: openai
    #   type: openai
    #   api_key: env:OPENAI_API_KEY
    #   models:
    #     - alias: default
    #       model: gpt-5-mini
  network:
    bind_address: 127.0.0.1
    port: 8088
  observability:
    logging:
      level: info
";

pub(super) async fn config(global: &Global, command: Config) -> Result<(), Failure> {
    match command {
        Config::Show => {
            let loaded = aegis_server::load_config(global.config_file()?.as_deref())?;
            let masked = loaded.masked();
            match loaded.source() {
                Some(path) => output::note(&format!("from {}", path.display())),
                None => output::note("no configuration file: the embedded defaults"),
            }
            let form = global.output.filter(|form| *form == Format::Json).or(Some(Format::Yaml));
            output::show(form, &masked, |_| String::new())
        }
        Config::Validate { file } => {
            let path = match file {
                Some(file) => Some(file),
                None => global.config_file()?,
            };
            let warnings = aegis_server::load_config(path.as_deref())?.warnings();
            for warning in &warnings {
                output::note(&format!("warning: {warning}"));
            }
            let shown =
                path.map_or_else(|| "the embedded defaults".to_owned(), |path| path.display().to_string());
            let value = json!({"status": "valid", "file": shown, "warnings": warnings});
            output::show(global.output, &value, |_| format!("Valid: {shown}"))
        }
        Config::Generate => output::text(TEMPLATE),
    }
}

pub(super) fn explain(path: &str) -> Result<(), Failure> {
    let Some(explanation) = aegis_manifest::explain(path) else {
        return Err(invalid(
            format!("`{path}` is no kind of document, or no field of one"),
            format!(
                "kinds are {}; a field is `agent.spec.security.network`",
                aegis_manifest::KINDS.join(", ")
            ),
        ));
    };
    output::text(&words(&explanation))
}

fn words(explanation: &Explanation) -> String {
    explanation.to_string()
}

pub(super) fn schema(kind: &str) -> Result<(), Failure> {
    match aegis_manifest::schema(&kind.to_lowercase()) {
        Some(schema) => output::json(schema),
        None => Err(invalid(
            format!("`{kind}` is no kind of document"),
            format!("kinds are {}", aegis_manifest::KINDS.join(", ")),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generated_configuration_is_valid() {
        let parsed = aegis_manifest::parse_node_config(TEMPLATE, "template", &|_| None);
        assert!(parsed.is_ok(), "{}", parsed.err().map(|found| found.render()).unwrap_or_default());
    }
}
