//! Labels: what an execution has touched, and what of it a call may not come together with.

use aegis_core::{Denial, DenialCode};
use aegis_manifest::NodeConfig;
use aegis_manifest::node::ToolLabels;
use aegis_security::constraint::ToolPattern;
use aegis_security::egress::Host;
use aegis_security::label::{Label, LabelRules, Labels};

use crate::port::ToolFacts;

/// The node's rules on labels.
#[derive(Debug, Default)]
pub(crate) struct Labelling {
    tools: Vec<(ToolPattern, ToolLabels)>,
    rules: LabelRules,
}

/// What a call brings with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct CallLabels {
    /// What the call itself does.
    pub(crate) action: Labels,
    /// What the execution holds once the call was performed.
    pub(crate) result: Labels,
}

impl Labelling {
    /// Reads what the configuration says.
    ///
    /// # Errors
    /// If it names a rule that does not exist, or holds what is no tool pattern.
    pub(crate) fn of(config: &NodeConfig) -> Result<Self, String> {
        let Some(governance) = &config.spec.governance else { return Ok(Self::default()) };
        let off = config.spec.label_rules_off();
        let rules = LabelRules::without(off.iter().map(String::as_str)).map_err(|error| error.to_string())?;
        let tools = governance.tool_labels.iter().map(|labels| {
            let pattern = ToolPattern::new(&labels.tool_pattern).map_err(|error| error.to_string())?;
            Ok((pattern, labels.clone()))
        });
        Ok(Self { tools: tools.collect::<Result<_, String>>()?, rules })
    }

    /// Of a call: a server's tool reaches outside and its answers are untrusted, unless the configuration says
    /// otherwise. The first entry that means the tool decides.
    pub(crate) fn of_call(&self, name: &str, facts: &ToolFacts) -> CallLabels {
        let said = self.tools.iter().find(|(pattern, _)| pattern.matches(name)).map(|(_, labels)| labels);
        let egress = said.and_then(|labels| labels.egress).unwrap_or(facts.foreign);
        let untrusted = said.and_then(|labels| labels.untrusted).unwrap_or(facts.foreign);
        let sensitive = said.is_some_and(|labels| labels.sensitive);
        let mut result: Vec<Label> = Vec::new();
        result.extend(untrusted.then_some(Label::Untrusted));
        result.extend(sensitive.then_some(Label::Sensitive));
        if !result.is_empty() {
            result.extend(format!("source:{name}").parse::<Label>().ok());
        }
        CallLabels {
            action: egress.then_some(Label::Egress).into_iter().collect(),
            result: result.into_iter().collect(),
        }
    }

    /// Of a connection: bytes pass both ways at once, so that what nobody vouches for is in it from the beginning.
    pub(crate) fn of_connection(host: &Host, trusted: bool) -> CallLabels {
        let mut result: Vec<Label> = Vec::new();
        if !trusted {
            result.push(Label::Untrusted);
            result.extend(format!("source:net/{host}").parse::<Label>().ok());
        }
        CallLabels {
            action: result.iter().cloned().chain([Label::Egress]).collect(),
            result: result.into_iter().collect(),
        }
    }

    /// Whether an execution that holds `held` may do what `action` says.
    pub(crate) fn judge(&self, held: &Labels, action: &Labels) -> Result<(), Denial> {
        self.rules.judge(held, action).map_err(|violation| Denial {
            code: DenialCode::ToolNotAllowed,
            rule: format!("node/label:{}", violation.rule),
            message: format!(
                "{violation}: the execution has read what must not leave, and what nobody vouches for."
            ),
            remedy: "send it in a run that reads only one of the two, or let the node's operator say in \
                     spec.governance.tool_labels that a source is trusted"
                .to_owned(),
        })
    }
}

/// The labels of a record.
pub(crate) fn read(recorded: &std::collections::BTreeSet<String>) -> Labels {
    // What this version does not know as a label is no less a label for policies, but no rule speaks of it.
    recorded.iter().filter_map(|label| label.parse::<Label>().ok()).collect()
}
