//! Limits of the whole system, named, in one place. Limits of one module alone stand in that module.

/// Largest manifest or configuration document, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 1 << 20;
/// Largest JSON body of an HTTP request, in bytes.
pub const REQUEST_BYTES_MAX: usize = 4 << 20;
/// Largest input of an execution, in bytes.
pub const INPUT_BYTES_MAX: usize = 1 << 20;
/// Largest answer taken from a model, in bytes.
pub const MODEL_ANSWER_BYTES_MAX: usize = 4 << 20;
/// Most tool calls taken from one model turn.
pub const TOOL_CALLS_PER_TURN_MAX: usize = 32;
/// Most model turns within one iteration.
pub const TURNS_PER_ITERATION_MAX: u32 = 1_000;
/// Most iterations a manifest may ask for.
pub const ITERATIONS_MAX: u32 = 20;
/// Largest result of one tool call that is given to a model, in bytes.
pub const TOOL_RESULT_BYTES_MAX: usize = 256 << 10;
/// Most bytes of output kept of a command run inside a sandbox; beyond it the tail is kept.
pub const COMMAND_OUTPUT_BYTES_MAX: usize = 64 << 10;
/// Deepest nesting of JSON that is read from outside.
pub const JSON_DEPTH_MAX: usize = 64;
/// Largest conversation of one iteration, in bytes: prompt, answers with the calls they make, and results. More than
/// any model takes; every request of the iteration holds all of it.
pub const CONVERSATION_BYTES_MAX: u64 = 16 << 20;
/// Most starts of a daemon that find an execution where the start before found it. One more ends the execution: it
/// may be what ends the daemon.
pub const RESUMES_WITHOUT_PROGRESS_MAX: u32 = 20;
/// Largest rendered prompt, in bytes.
pub const PROMPT_BYTES_MAX: usize = 4 << 20;
/// Executions that run at the same time on one node; more wait as `pending`.
pub const EXECUTIONS_RUNNING_MAX: usize = 256;
/// Executions that may wait as `pending` on one node; more are refused as overload.
pub const EXECUTIONS_PENDING_MAX: usize = 10_000;
/// Deepest chain of child executions.
pub const EXECUTION_DEPTH_MAX: u32 = 3;
/// Prompts up to this many bytes are also given as `argv[1]`.
pub const PROMPT_ARGUMENT_BYTES_MAX: usize = 64 << 10;
