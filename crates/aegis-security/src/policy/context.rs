//! A security context as a layer.

use super::draft::{Draft, Scope};
use super::schema::ActionName;
use super::{Layer, PolicyError};
use crate::constraint::{SecurityContext, ToolPattern};

impl Layer {
    /// The layer `context:NAME`. A capability permits when the question says that its constraints matched: paths,
    /// commands, domains and schemas are decided by [`crate::constraint`]. Actions that are no tool calls are not a
    /// context's business and pass.
    ///
    /// # Errors
    ///
    /// Fails if it holds too many rules.
    pub fn from_context(context: &SecurityContext) -> Result<Self, PolicyError> {
        let name = context.name();
        let layer = format!("context:{name}");
        let mut drafts = others();
        for (index, pattern) in context.deny_patterns().iter().enumerate() {
            drafts.push(
                Draft::forbid(format!("deny_list:{index}"), format!("`{pattern}` is denied"))
                    .on(ActionName::CallTool, Scope::tools(pattern))
                    .remedy(format!("remove `{pattern}` from the deny_list of security context `{name}`")),
            );
        }
        for (index, pattern) in context.tool_patterns().enumerate() {
            let id = format!("capability:{index}");
            let rule = format!("{layer}/{id}");
            drafts.push(
                Draft::permit(id, format!("`{pattern}` within the constraints of capability {index}"))
                    .on(ActionName::CallTool, Scope::tools(pattern))
                    .when_matched(&rule)
                    .remedy(capability_remedy(index, name, pattern)),
            );
        }
        Self::compile(layer, drafts)
    }
}

fn capability_remedy(index: usize, name: &str, pattern: &ToolPattern) -> String {
    format!(
        "call within the constraints of capability {index} (`{pattern}`) of security context `{name}`, or widen it"
    )
}

/// Every action but a tool call: for layers that speak of tools alone.
pub(super) fn others() -> Vec<Draft> {
    let others = ActionName::ALL.into_iter().filter(|action| *action != ActionName::CallTool);
    others
        .map(|action| {
            Draft::permit(action.as_str(), format!("`{action}` is not decided here")).on(action, Scope::Any)
        })
        .collect()
}
