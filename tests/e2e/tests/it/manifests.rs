//! Manifests that stories share.

/// An agent with a workspace, files and commands; `more` goes below `spec:`, indented by two.
pub(crate) fn worker(name: &str, more: &str) -> String {
    format!(
        "apiVersion: 100monkeys.ai/v1
kind: Agent
metadata:
  name: {name}
  version: \"1.0.0\"
spec:
  runtime: {{language: python, version: \"3.8\", isolation: process}}
  task:
    instruction: Do the work.
    prompt_template: |
      {{{{instruction}}}}
      User: {{{{input}}}}
      {{% if previous_error %}}Your previous attempt failed: {{{{previous_error}}}}{{% endif %}}
  security:
    filesystem: {{read: [/workspace], write: [/workspace]}}
  tools: [fs.read, fs.write, fs.list, fs.edit, fs.grep, fs.glob, fs.delete, fs.create_dir, fs.multi_edit, cmd.run]
  volumes:
    - {{name: workspace, mount_path: /workspace, size_limit: 16Mi, ttl_hours: 1}}
{more}"
    )
}
