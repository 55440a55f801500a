//! Policy documents of the node as `aegis-security` understands them, and which of them hold now.

mod documents;
mod rules;

pub use documents::{NodePolicy, capabilities, inline_soul, security_context, soul_authority};
pub(crate) use documents::{compile_soul, egress_rules, manifest_rules};
pub(crate) use rules::Rules;
