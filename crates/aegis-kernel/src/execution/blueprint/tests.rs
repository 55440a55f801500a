//! Each field of a manifest that is put into force by a run, away from its default.

use aegis_core::execution::LoopPlan;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::tools::Router;

fn manifest(spec: &str) -> AgentManifest {
    let text = format!(
        "apiVersion: 100monkeys.ai/v1\nkind: Agent\nmetadata: {{name: a, version: 1.0.0}}\nspec:\n{spec}"
    );
    aegis_manifest::parse_agent(&text, "a.yaml").unwrap_or_else(|error| panic!("{error}")).document
}

fn blueprint(spec: &str) -> Blueprint {
    let router = Router::new(&[]);
    let agent = AgentId::from_uuid(Uuid::from_u128(9));
    Blueprint::of(agent, &manifest(spec), &Found { router: &router, served: None }, "/usr/bin/python3.11")
}

const PLAIN: &str = "  runtime: {language: python}\n";
const FULL: &str = "  runtime: {language: python, model: fast, temperature: 0.25, inner_api: true}
  task: {instruction: Do it., prompt_template: '{{instruction}}!'}
  context: [{type: text, content: hello, description: greeting}]
  execution:
    max_iterations: 3
    iteration_timeout: 11s
    llm_timeout_seconds: 7
    validation: [{type: exit_code, expected: 4, allow_stderr: false}]
  security:
    network: {mode: allow, allowlist: [example.org]}
    filesystem: {read: [/in], write: [/workspace/out]}
    resources: {cpu: 250, memory: 64Mi, disk: 32Mi, pids: 9, timeout: 5m}
  security_context: narrow
  tools: [cmd.run, fs.read]
  volumes:
    - {name: in, mount_path: /in, access_mode: read-only, size_limit: 2Mi, ttl_hours: 3}
    - {name: out, mount_path: /workspace}
  env: {GREETING: hello}
";

#[test]
fn each_field_reaches_the_run() {
    let of = blueprint(FULL);
    assert_eq!(of.agent, AgentId::from_uuid(Uuid::from_u128(9)));
    assert_eq!((of.model.as_str(), of.temperature_milli, of.model_timeout_ms), ("fast", Some(250), 7_000));
    assert_eq!((of.instruction.as_str(), of.template.as_str()), ("Do it.", "{{instruction}}!"));
    assert_eq!(of.context, "--- greeting ---\nhello\n");
    let names: Vec<&str> = of.tools.iter().map(|facts| facts.schema.name.as_str()).collect();
    assert_eq!(names, ["cmd.run"], "what is listed and there");
    let [Validator::ExitCode(rule)] = &of.validators[..] else { panic!("{:?}", of.validators) };
    assert_eq!((rule.expected, rule.allow_stderr), (4, false));
    let rules = PathRules { read: vec!["/in".to_owned()], write: vec!["/workspace/out".to_owned()] };
    assert_eq!(of.rules, rules);
    let limits = SandboxLimits {
        cpu_millicores: 250,
        memory_bytes: 64 << 20,
        disk_bytes: 32 << 20,
        pids: 9,
        explicit: true,
    };
    assert_eq!(of.limits, limits);
    let volume = |name: &str, mount_path: &str, read_only, size_limit, hours: u64| VolumePlan {
        name: name.to_owned(),
        mount_path: mount_path.to_owned(),
        read_only,
        size_limit,
        ttl_ms: hours * 3_600_000,
    };
    assert_eq!(
        of.volumes,
        [volume("in", "/in", true, 2 << 20, 3), volume("out", "/workspace", false, 1 << 30, 24)]
    );
    assert_eq!(of.env, [("GREETING".to_owned(), "hello".to_owned())]);
    assert_eq!((of.interpreter.as_str(), of.scope.as_str()), ("/usr/bin/python3.11", "narrow"));
    assert_eq!(of.doors, Doors { api: true, egress: true });
    assert!(of.served.is_none() && of.response_format.is_none());

    let plan = LoopPlan {
        max_iterations: 3,
        iteration_timeout_ms: 11_000,
        total_timeout_ms: 300_000,
        validators: 1,
    };
    assert_eq!(loop_plan(&manifest(FULL)), plan);
    let once = manifest(&FULL.replace("    max_iterations: 3\n", "    mode: one-shot\n"));
    assert_eq!(loop_plan(&once), LoopPlan { max_iterations: 1, ..plan });
}

#[test]
fn without_a_word_nothing_is_open() {
    let of = blueprint(PLAIN);
    assert_eq!((of.temperature_milli, of.doors, of.scope.as_str()), (None, Doors::NONE, "default"));
    assert_eq!(of.rules, PathRules::default());
    assert!(of.tools.is_empty() && of.volumes.is_empty() && of.env.is_empty());
    assert!(!of.limits.explicit);
}

#[test]
fn each_door_opens_by_its_own_word_alone() {
    let doors = |runtime: &str, network: &str| {
        blueprint(&format!(
            "  runtime: {{language: python{runtime}}}\n  security: {{network: {{{network}}}}}\n"
        ))
        .doors
    };
    assert_eq!(doors("", "mode: none"), Doors::NONE);
    assert_eq!(doors("", "mode: allow"), Doors::NONE, "an empty list");
    assert_eq!(doors("", "mode: deny"), Doors { api: false, egress: true });
    assert_eq!(doors("", "mode: allow, allowlist: [a.org]"), Doors { api: false, egress: true });
    assert_eq!(doors(", inner_api: true", "mode: none"), Doors { api: true, egress: false });
}

#[test]
fn each_stated_limit_alone_is_stated() {
    for (stated, explicit) in [
        ("cpu: 250", true),
        ("memory: 64Mi", true),
        ("pids: 9", true),
        ("disk: 1Mi", false),
        ("timeout: 1m", false),
    ] {
        let spec = format!("{PLAIN}  security: {{resources: {{{stated}}}}}\n");
        assert_eq!(blueprint(&spec).limits.explicit, explicit, "{stated}");
    }
}

#[test]
fn a_read_only_agent_writes_nowhere() {
    let mut both = manifest(FULL);
    both.spec.security.filesystem.read_only = true;
    let router = Router::new(&[]);
    let of = Blueprint::of(
        AgentId::from_uuid(Uuid::nil()),
        &both,
        &Found { router: &router, served: None },
        "/usr/bin/python3",
    );
    assert!(of.rules.write.is_empty() && of.volumes.iter().all(|volume| volume.read_only));
}

#[test]
fn a_schema_for_the_answer_is_told_to_the_model_where_no_tool_is_offered() {
    let schema = |target: &str, tools: &str| {
        blueprint(&format!(
            "{PLAIN}  execution: {{validation: [{{type: json_schema, schema: {{type: object}}{target}}}]}}\n{tools}"
        ))
        .response_format
    };
    let told = ResponseFormat::JsonSchema { name: "answer".to_owned(), schema: json!({"type": "object"}) };
    assert_eq!(schema("", ""), Some(told));
    assert_eq!(schema(", target: stdout", ""), None);
    assert_eq!(schema("", "  tools: [cmd.run]\n"), None);
}
