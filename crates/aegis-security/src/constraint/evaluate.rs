//! The decision: deny list, then the first capability whose constraints all hold, else deny.

use aegis_core::{Denial, DenialCode};
use serde_json::Value;

use super::context::Compiled;
use super::path::{PathError, normalise};
use super::{SecurityContext, WORKSPACE, command};

/// The value of an argument that the tool says names something of the world. There is one for each argument the tool
/// declares, with its default if the call leaves it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GovernedValue {
    /// A path inside the sandbox, as the call gives it.
    Path(String),
    /// A command as an argument vector, program first, and the folder it runs in ([`WORKSPACE`] by default).
    Command {
        /// Program and arguments.
        argv: Vec<String>,
        /// Working directory.
        cwd: Option<String>,
    },
    /// A host.
    Domain(String),
}

/// A call, as far as constraints look at it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'call> {
    /// The AEGIS name of the tool.
    pub tool: &'call str,
    /// Its governed arguments.
    pub governed: &'call [GovernedValue],
    /// All its arguments.
    pub arguments: &'call Value,
}

/// Whether arguments satisfy a JSON Schema, else why not; passed in, because the engine lives with the caller.
pub type ArgumentCheck<'check> = &'check dyn Fn(&Value, &Value) -> Result<(), String>;

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Permitted, by the capability at this index; its rate, concurrency and size limits apply.
    Allow {
        /// Its place in the context.
        capability_index: usize,
    },
    /// Refused.
    Deny(Denial),
}

/// Decides about a call. Nothing but the arguments of this function counts.
pub fn evaluate(context: &SecurityContext, request: Request<'_>, check: ArgumentCheck<'_>) -> Decision {
    let name = context.name();
    if let Some(pattern) = context.deny_list.iter().find(|pattern| pattern.matches(request.tool)) {
        return Decision::Deny(Denial {
            code: DenialCode::ToolExplicitlyDenied,
            rule: format!("context:{name}/deny_list"),
            message: format!("`{}` is denied by `{pattern}`", request.tool),
            remedy: format!("remove `{pattern}` from the deny_list of security context `{name}`"),
        });
    }
    let Matching { capabilities, failed } = match matching(context, request, check) {
        Ok(matching) => matching,
        Err(denial) => return Decision::Deny(denial),
    };
    if let Some(capability_index) = capabilities.first().copied() {
        return Decision::Allow { capability_index };
    }
    Decision::Deny(failed.into_iter().next().unwrap_or_else(|| Denial {
        code: DenialCode::ToolNotAllowed,
        rule: format!("context:{name}"),
        message: format!("no capability permits `{}`", request.tool),
        remedy: format!("add a capability with tool_pattern `{}` to security context `{name}`", request.tool),
    }))
}

/// Which capabilities of a context hold for a call, whatever its deny list says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matching {
    /// The places of those whose constraints all hold, in order.
    pub capabilities: Vec<usize>,
    /// Why the others that are about the tool do not, the one that came closest first.
    pub failed: Vec<Denial>,
}

/// Which capabilities' constraints hold for a call. Nothing but the arguments of this function counts.
///
/// # Errors
///
/// Fails if a governed path or folder cannot be understood: then no constraint can be checked.
pub fn matching(
    context: &SecurityContext,
    request: Request<'_>,
    check: ArgumentCheck<'_>,
) -> Result<Matching, Denial> {
    let name = context.name();
    let facts = Facts::of(&request).map_err(|error| no_path(name, &error))?;
    let mut capabilities = Vec::new();
    let mut failures: Vec<(Failure, usize)> = Vec::new();
    for (index, capability) in context.capabilities.iter().enumerate() {
        if !capability.tool.matches(request.tool) {
            continue;
        }
        match check_capability(capability, &request, &facts, check) {
            Ok(()) => capabilities.push(index),
            Err(failure) => failures.push((failure, index)),
        }
    }
    // The failure that came closest to a permission tells most; of equals the first.
    failures.sort_by_key(|(failure, _)| std::cmp::Reverse(failure.stage));
    let failed = failures.into_iter().map(|(failure, index)| Denial {
        code: failure.stage.code(),
        rule: format!("context:{name}/capability:{index}"),
        message: failure.message,
        remedy: format!(
            "{} of capability {index} of security context `{name}`, or add a capability for `{}`",
            failure.remedy, request.tool
        ),
    });
    Ok(Matching { capabilities, failed: failed.collect() })
}

fn no_path(context: &str, error: &PathError) -> Denial {
    Denial {
        code: DenialCode::PathNotAllowed,
        rule: format!("context:{context}/paths"),
        message: error.to_string(),
        remedy: format!("give an absolute path, or one relative to {WORKSPACE} that stays below it"),
    }
}

/// The governed values, sorted by kind, paths normalised.
#[derive(Default)]
struct Facts<'call> {
    paths: Vec<String>,
    commands: Vec<(&'call [String], String)>,
    domains: Vec<&'call str>,
}

impl<'call> Facts<'call> {
    fn of(request: &Request<'call>) -> Result<Self, PathError> {
        let mut facts = Self::default();
        for value in request.governed {
            match value {
                GovernedValue::Path(path) => facts.paths.push(normalise(path)?),
                GovernedValue::Command { argv, cwd } => {
                    facts.commands.push((argv, normalise(cwd.as_deref().unwrap_or(WORKSPACE))?));
                }
                GovernedValue::Domain(host) => facts.domains.push(host),
            }
        }
        Ok(facts)
    }
}

/// How far a capability got before it failed, in the order of checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Undeclared,
    Path,
    Domain,
    Program,
    FirstArgument,
    Arguments,
}

impl Stage {
    fn code(self) -> DenialCode {
        match self {
            Self::Undeclared => DenialCode::ToolNotAllowed,
            Self::Path => DenialCode::PathNotAllowed,
            Self::Domain => DenialCode::DomainNotAllowed,
            Self::Program | Self::FirstArgument => DenialCode::CommandNotAllowed,
            Self::Arguments => DenialCode::InvalidArguments,
        }
    }
}

struct Failure {
    stage: Stage,
    message: String,
    remedy: String,
}

impl Failure {
    fn new(stage: Stage, message: String, remedy: impl Into<String>) -> Self {
        Self { stage, message, remedy: remedy.into() }
    }
}

fn check_capability(
    capability: &Compiled,
    request: &Request<'_>,
    facts: &Facts<'_>,
    check: ArgumentCheck<'_>,
) -> Result<(), Failure> {
    let source = &capability.source;
    let commands = source.command_allowlist.is_some() || source.subcommand_allowlist.is_some();
    for (constrained, declared, list, what) in [
        (capability.paths.is_some(), !facts.paths.is_empty(), "path_allowlist", "path"),
        (capability.domains.is_some(), !facts.domains.is_empty(), "domain_allowlist", "domain"),
        (commands, !facts.commands.is_empty(), "command_allowlist and subcommand_allowlist", "command"),
    ] {
        if constrained && !declared {
            let tool = request.tool;
            let message = format!("`{tool}` declares no {what} argument, so {list} cannot be checked");
            return Err(Failure::new(Stage::Undeclared, message, format!("remove {list}")));
        }
    }
    check_paths(capability, facts)?;
    check_domains(capability, facts)?;
    check_commands(capability, facts)?;
    match &source.arguments {
        Some(schema) => check(schema, request.arguments).map_err(|reason| {
            let message = format!("the arguments do not satisfy the capability's schema: {reason}");
            Failure::new(Stage::Arguments, message, "widen the schema in `arguments`")
        }),
        None => Ok(()),
    }
}

fn check_paths(capability: &Compiled, facts: &Facts<'_>) -> Result<(), Failure> {
    let Some(patterns) = &capability.paths else { return Ok(()) };
    match facts.paths.iter().find(|path| !patterns.iter().any(|pattern| pattern.matches(path))) {
        None => Ok(()),
        Some(path) => Err(Failure::new(
            Stage::Path,
            format!("`{path}` is not permitted by path_allowlist"),
            format!("add `{path}` to path_allowlist"),
        )),
    }
}

fn check_domains(capability: &Compiled, facts: &Facts<'_>) -> Result<(), Failure> {
    let Some(patterns) = &capability.domains else { return Ok(()) };
    match facts.domains.iter().find(|host| !patterns.iter().any(|pattern| pattern.matches(host))) {
        None => Ok(()),
        Some(host) => Err(Failure::new(
            Stage::Domain,
            format!("`{host}` is not permitted by domain_allowlist"),
            format!("add `{host}` to domain_allowlist"),
        )),
    }
}

fn check_commands(capability: &Compiled, facts: &Facts<'_>) -> Result<(), Failure> {
    let (programs, subcommands) =
        (capability.source.command_allowlist.as_deref(), capability.source.subcommand_allowlist.as_ref());
    for (argv, cwd) in &facts.commands {
        let program = argv.first().map_or("", String::as_str);
        command::check_program(program, programs, subcommands).map_err(|message| {
            let list = if programs.is_some() { "command_allowlist" } else { "subcommand_allowlist" };
            Failure::new(Stage::Program, message, format!("add `{program}` to {list}"))
        })?;
        if let Some(subcommands) = subcommands {
            command::check_first_argument(argv, cwd, subcommands).map_err(|message| {
                let remedy = format!("add the argument to `{program}` in subcommand_allowlist");
                Failure::new(Stage::FirstArgument, message, remedy)
            })?;
        }
    }
    Ok(())
}
