//! What a command of the CLI said.

use serde_json::Value;

/// The outcome of one command.
#[derive(Debug, Clone)]
pub struct Output {
    /// The exit code; 128 plus the signal where one ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// The same, if the exit code is `code`; panics with everything the command said if it is not.
    #[expect(clippy::panic, reason = "a failed expectation of a test")]
    pub fn expect_code(self, code: i32) -> Self {
        if self.code != code {
            panic!(
                "exit code {} instead of {code}\nstdout:\n{}\nstderr:\n{}",
                self.code, self.stdout, self.stderr
            );
        }
        self
    }

    /// The same, if it succeeded.
    pub fn ok(self) -> Self {
        self.expect_code(0)
    }

    /// Standard output as JSON.
    #[expect(clippy::panic, reason = "a failed expectation of a test")]
    pub fn json(&self) -> Value {
        match serde_json::from_str(&self.stdout) {
            Ok(value) => value,
            Err(error) => panic!("not JSON ({error}): {}\nstderr:\n{}", self.stdout, self.stderr),
        }
    }
}
