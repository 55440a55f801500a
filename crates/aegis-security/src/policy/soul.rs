//! The authority of a soul as a layer.

use serde::{Deserialize, Serialize};

use super::context::others;
use super::draft::{Draft, Scope};
use super::schema::ActionName;
use super::{Layer, PolicyError};
use crate::constraint::ToolPattern;

/// What an agent may do alone, what it asks for, what it never does. A tool in none of the lists asks.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Authority {
    /// Patterns of tools it may call alone.
    pub autonomous: Vec<String>,
    /// Patterns of tools it asks for first.
    pub review: Vec<String>,
    /// Patterns of tools it never calls.
    pub forbidden: Vec<String>,
    /// The risk (0 to 1) above which it asks.
    pub max_risk: Option<f64>,
}

impl Layer {
    /// The layer `soul:NAME`. Forbidden denies, whatever else names the tool; review asks, also where `autonomous` names
    /// the tool too; what no list names asks; a risk above `max_risk` asks. Model calls and other actions that are no
    /// tool calls pass, but ask above `max_risk`.
    ///
    /// # Errors
    ///
    /// Fails on a pattern that cannot be understood, a risk that is none, or too many rules.
    pub fn from_authority(name: &str, authority: &Authority) -> Result<Self, PolicyError> {
        let patterns = |list: &[String]| -> Result<Vec<ToolPattern>, PolicyError> {
            list.iter().map(|text| ToolPattern::new(text).map_err(PolicyError::from)).collect()
        };
        let (autonomous, review, forbidden) =
            (patterns(&authority.autonomous)?, patterns(&authority.review)?, patterns(&authority.forbidden)?);
        let mut drafts = others();
        let about =
            |draft: Draft, pattern: &ToolPattern| draft.on(ActionName::CallTool, Scope::tools(pattern));
        for (index, pattern) in forbidden.iter().enumerate() {
            let draft = Draft::forbid(format!("forbidden:{index}"), format!("`{pattern}` is forbidden"))
                .remedy(format!("remove `{pattern}` from authority.forbidden of soul `{name}`"));
            drafts.push(about(draft, pattern));
        }
        for (index, pattern) in autonomous.iter().enumerate() {
            let says = format!("`{pattern}` is called without asking");
            drafts.push(about(Draft::permit(format!("autonomous:{index}"), says), pattern));
        }
        for (index, pattern) in review.iter().enumerate() {
            let draft = Draft::permit(format!("review:{index}"), format!("`{pattern}` is asked for first"))
                .asking(format!("soul `{name}` asks before `{pattern}`"))
                .remedy(format!(
                    "move `{pattern}` from authority.review of soul `{name}` to authority.autonomous"
                ));
            drafts.push(about(draft, pattern));
        }
        let unlisted = Draft::permit("unlisted:0", "a tool in none of the lists is asked for first")
            .on(ActionName::CallTool, Scope::Any)
            .asking(format!("soul `{name}` has this tool in none of its lists"))
            .remedy(format!("add the tool to authority.autonomous of soul `{name}`"));
        let listed = autonomous.iter().chain(&review).chain(&forbidden);
        drafts.push(listed.fold(unlisted, |draft, pattern| draft.unless_resource(&Scope::tools(pattern))));
        if let Some(risk) = authority.max_risk {
            let draft = Draft::permit("max_risk:0", format!("a risk above {risk} is asked for first"))
                .when_risk_above(thousandths(risk).ok_or(PolicyError::Risk(risk))?)
                .asking(format!("the risk is above {risk}, which soul `{name}` may take alone"))
                .remedy(format!("raise authority.max_risk of soul `{name}`"));
            drafts.push(draft);
        }
        Self::compile(format!("soul:{name}"), drafts)
    }
}

/// A risk in thousandths; `None` unless it lies between 0 and 1.
pub(super) fn thousandths(risk: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "at most 1000")]
    (0.0..=1.0).contains(&risk).then(|| (risk * 1000.0).round() as i64)
}
