//! Rendering the prompt, anew for each iteration.

use std::collections::BTreeMap;

use aegis_core::execution::FailureReason;
use aegis_core::{Body, Durability};
use aegis_manifest::template;
use serde_json::Value;

use super::driver::{Driver, Halt};

impl Driver {
    pub(crate) async fn render_prompt(&mut self) -> Result<(), Halt> {
        let names = self.template_names().await?;
        let rendered = template::render(&self.blueprint.template, &names)
            .map_err(|error| Halt::Execution(FailureReason::TemplateFailed, error.to_string()))?;
        let mut blobs = Vec::new();
        let body = Body::IterationPrompted {
            iteration: self.ledger.state.iteration,
            prompt: self.ledger.scribe.blob(rendered.text, &mut blobs),
            undefined: u32::try_from(rendered.undefined.len()).unwrap_or(u32::MAX),
        };
        self.ledger.fact(body, blobs, Durability::Process).await?;
        Ok(())
    }

    /// The names a template may use (contract, section 2). Overrides never shadow the others.
    async fn template_names(&self) -> Result<BTreeMap<String, Value>, Halt> {
        let Body::ExecutionCreated { input, overrides, .. } = &self.ledger.created.body else {
            return Err(Halt::Execution(FailureReason::Internal, "the record has no input".to_owned()));
        };
        let input = self.text(input).await?;
        let mut names = BTreeMap::new();
        if let Some(overrides) = overrides {
            let text = self.text(overrides).await?;
            if let Ok(Value::Object(values)) = serde_json::from_str(&text) {
                names.extend(values);
            }
        }
        let previous_error = match &self.ledger.state.previous_error {
            Some(blob) => self.text(blob).await?,
            None => String::new(),
        };
        names.insert("instruction".to_owned(), Value::from(self.blueprint.instruction.clone()));
        names.insert("input".to_owned(), Value::from(input));
        names.insert("iteration_number".to_owned(), Value::from(self.ledger.state.iteration));
        names.insert("previous_error".to_owned(), Value::from(previous_error));
        names.insert("context".to_owned(), Value::from(self.blueprint.context.clone()));
        names.insert("agentskills".to_owned(), Value::from(""));
        Ok(names)
    }
}
