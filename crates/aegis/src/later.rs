//! Commands of the contract whose parts do not stand on this version. They are known by name and say so.

use aegis_core::Diagnosis;
use clap::{Args, Subcommand};

use crate::failure::{Failure, invalid};

/// What follows a command that does not stand yet.
#[derive(Debug, Default, Args)]
pub(crate) struct Words {
    /// Its own commands and flags
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    words: Vec<String>,
}

macro_rules! later {
    ($($(#[$doc:meta])* $variant:ident = $name:literal [$($sub:literal),*];)*) => {
        #[derive(Debug, Subcommand)]
        pub(crate) enum Later {$(
            $(#[$doc])*
            #[command(name = $name)]
            $variant(Words),
        )*}

        impl Later {
            fn parts(&self) -> (&'static str, &'static [&'static str], &Words) {
                match self {$( Self::$variant(words) => ($name, &[$($sub),*], words), )*}
            }
            /// Each command with its own commands.
            #[cfg(test)]
            pub(crate) const ALL: &'static [(&'static str, &'static [&'static str])] =
                &[$(($name, &[$($sub),*])),*];
        }
    };
}

later! {
    /// Deploy and run workflows (not in this version)
    Workflow = "workflow" ["validate", "deploy", "run", "list", "describe", "diagram", "runs", "status", "logs", "signal", "cancel", "delete", "generate"];
    /// Decide what waits for a person (not in this version)
    Approval = "approval" ["list", "show", "approve", "reject"];
    /// Stop what agents may do (not in this version)
    Freeze = "freeze" [];
    /// Let agents act again (not in this version)
    Unfreeze = "unfreeze" [];
    /// Put agents into safe mode (not in this version)
    SafeMode = "safe-mode" [];
    /// Bound what may be spent (not in this version)
    Budget = "budget" [];
    /// Roll versions out in steps (not in this version)
    Rollout = "rollout" [];
    /// Watch service levels (not in this version)
    Slo = "slo" [];
    /// Run playbooks (not in this version)
    Playbook = "playbook" [];
    /// Switch features (not in this version)
    Flag = "flag" [];
    /// Review deliverables (not in this version)
    Deliverable = "deliverable" ["list", "show", "review", "rollback"];
    /// Evaluate agents (not in this version)
    Eval = "eval" ["run", "list", "compare"];
    /// Annotate runs (not in this version)
    Annotate = "annotate" [];
    /// Ask what led to what (not in this version)
    Nexus = "nexus" ["query", "show", "lineage"];
    /// Report return on investment (not in this version)
    Roi = "roi" ["report"];
    /// Look after swarms (not in this version)
    Swarm = "swarm" ["list", "show", "cancel"];
    /// Look at agents' memory (not in this version)
    Memory = "memory" [];
    /// Sign in (not in this version)
    Login = "login" [];
    /// Look after tenants (not in this version)
    Tenant = "tenant" [];
    /// Apply documents of any kind (not in this version)
    Apply = "apply" [];
    /// Show what apply would change (not in this version)
    Diff = "diff" [];
    /// Delete what documents describe (not in this version)
    Delete = "delete" [];
}

/// Refuses the command by its name.
pub(crate) fn refuse(later: &Later) -> Failure {
    let (group, known, Words { words }) = later.parts();
    let sub = words.iter().find(|word| !word.starts_with('-'));
    match sub {
        Some(sub) if known.contains(&sub.as_str()) => missing(&format!("aegis {group} {sub}")),
        Some(sub) if !known.is_empty() => invalid(
            format!("`aegis {group}` has no command `{sub}`"),
            format!("it has: {}", known.join(", ")),
        ),
        _ => missing(&format!("aegis {group}")),
    }
}

/// The refusal of a command that is known but does not stand on this version.
pub(crate) fn missing(command: &str) -> Failure {
    Diagnosis::capability_missing(
        format!("`{command}` is not part of this version"),
        "`aegis --help` lists what is; CHANGELOG.md says what came with which version",
    )
    .into()
}
