//! The policies a configuration holds or names: read, checked and compiled before anything of it is used.

use std::path::Path;
use std::sync::Arc;

use aegis_core::{Diagnosis, ErrorCode};
use aegis_kernel::policy::{NodePolicy, capabilities};
use aegis_manifest::node::Policy;
use aegis_manifest::{NodeConfig, Parsed};
use aegis_security::policy::{PolicyError, Problem, Severity, TEXT_BYTES_MAX, check_context};

/// Compiles the policies of a configuration and checks its security contexts. `file` is what problems call it, `base`
/// the folder its paths start from.
///
/// # Errors
///
/// Every problem, with line and column.
pub(crate) fn compile(
    parsed: &Parsed<NodeConfig>,
    file: &str,
    base: &Path,
) -> Result<Arc<[NodePolicy]>, Vec<Diagnosis>> {
    let spec = &parsed.document.spec;
    let place = |field: &str| match parsed.position(field) {
        Some((line, column)) => format!("{file}:{line}:{column}: {field}"),
        None => format!("{file}: {field}"),
    };
    let mut problems = Vec::new();
    for (index, context) in spec.security_contexts.iter().enumerate() {
        let found = check_context(&context.name, &capabilities(context), &context.deny_list);
        for problem in found.into_iter().filter(|problem| problem.severity == Severity::Error) {
            let field = match &problem.rule {
                Some(rule) => format!("spec.security_contexts[{index}].{rule}"),
                None => format!("spec.security_contexts[{index}]"),
            };
            problems.push(wrong(format!("{}: {}", place(&field), problem.message)));
        }
    }
    let stated = spec.governance.iter().flat_map(|governance| &governance.policies);
    let mut policies = Vec::new();
    for (index, policy) in stated.enumerate() {
        let place = place(&format!("spec.governance.policies[{index}].cedar"));
        match read(policy, Some(base)).map(|text| NodePolicy::new(&policy.name, policy.tenant.clone(), &text))
        {
            Ok(Ok(policy)) => policies.push(policy),
            Ok(Err(PolicyError::Text { problems: found, .. })) => {
                let told = found.iter().filter(|problem| problem.severity == Severity::Error);
                problems.extend(told.map(|problem| wrong(told_at(policy, problem, &place, base))));
            }
            Ok(Err(error)) => problems.push(wrong(format!("{place}: {error}"))),
            Err(error) => problems.push(wrong(format!("{place}: {error}"))),
        }
    }
    if problems.is_empty() { Ok(policies.into()) } else { Err(problems) }
}

fn wrong(message: String) -> Diagnosis {
    Diagnosis::new(ErrorCode::InvalidInput, message).hint("`aegis policy check FILE` checks a policy alone")
}

/// A problem with its place: in the policy's own file, or counted from the beginning of the text in the configuration.
fn told_at(policy: &Policy, problem: &Problem, place: &str, base: &Path) -> String {
    match policy.file() {
        Some(path) => format!("{}:{problem}", base.join(path).display()),
        None => format!("{place}: policy `{}`: {problem}", policy.name),
    }
}

/// The text of a policy; of one that names a file, only if there is a folder the path starts from.
pub(crate) fn read(policy: &Policy, base: Option<&Path>) -> Result<String, String> {
    let Some(path) = policy.file() else { return Ok(policy.cedar.clone()) };
    let Some(base) = base else {
        return Err(format!("`{path}`: the file of a policy is not read here; give its text instead"));
    };
    let path = base.join(path);
    let told = |error: &dyn std::fmt::Display| format!("`{}`: {error}", path.display());
    // A link could lead out of the folder, and what it leads to would be told in a problem.
    let (inside, outside) = (path.canonicalize(), base.canonicalize());
    let inside = inside.map_err(|error| told(&error))?;
    if !outside.is_ok_and(|base| inside.starts_with(base)) {
        return Err(told(&"it lies outside the configuration's folder"));
    }
    let length = std::fs::metadata(&inside).map_err(|error| told(&error))?.len();
    if length > TEXT_BYTES_MAX as u64 {
        return Err(told(&format!("it is longer than {TEXT_BYTES_MAX} bytes")));
    }
    std::fs::read_to_string(&inside).map_err(|error| told(&error))
}
