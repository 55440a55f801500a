//! What a compiler does not check: the shape of the repository.

mod code;
mod edges;
mod sources;

use std::path::Path;

use crate::{complain, generated, say};

/// Runs all checks, prints every problem, and fails when there is one.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    let files = sources::read(root)?;
    let mut problems = edges::check(root)?;
    problems.extend(sources::check(&files));
    problems.extend(generated::check(root)?);
    for problem in &problems {
        complain(problem);
    }
    if problems.is_empty() {
        say(&format!("tidy: {} files, no problems", files.len()));
        return Ok(());
    }
    Err(format!("tidy: {} problem(s)", problems.len()))
}
