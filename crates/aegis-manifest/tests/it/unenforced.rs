//! What is known, parsed and not in force: each field is named, one by one.

use aegis_manifest::{NodeFacts, parse_agent, parse_node_config};

/// Sections of a node's configuration, each as a user writes it, and the name it is refused by.
const NODE: [(&str, &str); 20] = [
    ("node: {id: one}", "node.id"),
    ("node: {type: edge}", "node.type"),
    ("node: {tags: [gpu]}", "node.tags"),
    ("llm_selection: {strategy: cost-optimized}", "llm_selection.strategy"),
    ("network: {grpc_port: 50051}", "network.grpc_port"),
    ("network: {tls: {cert_path: /c, key_path: /k}}", "network.tls"),
    ("iam: {issuer: 'https://id.example'}", "iam"),
    ("database: {url: 'postgres://db'}", "database"),
    ("temporal: {address: 'temporal:7233'}", "temporal"),
    ("nats: {url: 'nats://nats'}", "nats"),
    ("governance: {config: {budget: 1}}", "governance.config"),
    ("mcp_servers: [{name: a, executable: /a, config: {b: 1}}]", "mcp_servers[].config"),
    ("observability: {metrics: {enabled: false}}", "observability.metrics"),
    ("observability: {tracing: {enabled: true}}", "observability.tracing"),
    ("storage: {host_paths: [/srv]}", "storage.host_paths"),
    ("runtime: {default_isolation: docker}", "runtime.default_isolation"),
    ("runtime: {default_isolation: microvm}", "runtime.default_isolation"),
    ("runtime: {default_isolation: firecracker}", "runtime.default_isolation"),
    ("runtime: {container_socket_path: /run/docker.sock}", "runtime.container_socket_path"),
    ("runtime: {firecracker: {}}", "runtime.firecracker"),
];

#[test]
fn every_section_of_a_node_that_is_not_in_force_is_named() {
    for (section, named) in NODE {
        let text = format!(
            "apiVersion: 100monkeys.ai/v1\nkind: NodeConfig\nmetadata: {{name: a}}\nspec:\n  {section}\n"
        );
        let config = parse_node_config(&text, "a.yaml", &|_| None).unwrap_or_else(|e| panic!("{e}")).document;
        let missing = config.unenforced();
        let [only] = &missing[..] else { panic!("{section}: {missing:?}") };
        let message = format!("capability_missing: `spec.{named}` is not in this build");
        assert_eq!(only.message, message, "{section}");
        assert!(only.hint.as_ref().is_some_and(|hint| !hint.is_empty()), "{section}");
    }
}

/// Lines of an agent's `spec`, and the fields they are refused by.
const AGENT: [(&str, &[&str]); 31] = [
    ("runtime: {language: python, isolation: docker}", &["runtime.isolation"]),
    ("runtime: {language: python, isolation: firecracker}", &["runtime.isolation"]),
    ("runtime: {image: 'ghcr.io/acme/agent:1'}", &["runtime.image"]),
    ("runtime: {language: python, image_pull_policy: Always}", &["runtime.image_pull_policy"]),
    ("runtime: {language: python, image_pull_policy: Never}", &["runtime.image_pull_policy"]),
    (
        "runtime: {image: 'ghcr.io/acme/agent:1', image_pull_policy: Never}",
        &["runtime.image", "runtime.image_pull_policy"],
    ),
    ("runtime: {language: go}", &["runtime.language"]),
    ("runtime: {language: python, version: '3.12'}", &["runtime.version"]),
    ("task: {input_data: {a: 1}}", &["task.input_data"]),
    ("task: {agentskills: [writing]}", &["task.agentskills"]),
    ("context: [{type: url, url: 'https://example.org'}]", &["context[0]"]),
    ("execution: {memory: true}", &["execution.memory"]),
    (
        "execution: {validation: [{type: semantic, judge_agent: b, criteria: c}]}",
        &["execution.validation[0].judge_agent"],
    ),
    ("execution: {tool_validation: [{judge_agent: b, criteria: c}]}", &["execution.tool_validation"]),
    ("volumes: [{name: a, mount_path: /a, storage_class: persistent}]", &["volumes[0].storage_class"]),
    ("volumes: [{name: a, mount_path: /a, type: seaweedfs}]", &["volumes[0].type"]),
    ("volumes: [{name: a, mount_path: /a, provider: disk}]", &["volumes[0].provider"]),
    ("volumes: [{name: a, mount_path: /a, config: {b: 1}}]", &["volumes[0].config"]),
    ("soul: other", &["soul"]),
    ("soul: {intent: i, owner: me}", &["soul.owner"]),
    ("soul: {intent: i, inputs: {type: object}}", &["soul.inputs"]),
    ("soul: {intent: i, authority: {role: editor}}", &["soul.authority.role"]),
    ("soul: {intent: i, authority: {max_risk: 0.4}}", &["soul.authority.max_risk"]),
    ("soul: {intent: i, authority: {approvers: [boss]}}", &["soul.authority.approvers"]),
    ("soul: {intent: i, acceptance: [it is good]}", &["soul.acceptance"]),
    ("soul: {intent: i, gates: {during: [{a: b}]}}", &["soul.gates"]),
    ("tools: [{name: fs.read, config: {a: 1}}]", &["tools[0].config"]),
    ("schedule: {type: interval, interval: 1h}", &["schedule"]),
    ("delivery: {}", &["delivery"]),
    ("output_handler: {type: webhook}", &["output_handler"]),
    ("advanced: {startup_script: 'true'}", &["advanced"]),
];

#[test]
fn every_field_of_an_agent_that_is_not_in_force_is_named() {
    let facts = NodeFacts { interpreters: vec![("python".into(), "3.11.2".into())], ..NodeFacts::default() };
    for (line, named) in AGENT {
        let runtime = if line.starts_with("runtime") { "" } else { "  runtime: {language: python}\n" };
        let text = format!(
            "apiVersion: 100monkeys.ai/v1\nkind: Agent\nmetadata: {{name: a, version: 1.0.0}}\nspec:\n{runtime}  {line}\n"
        );
        let agent = parse_agent(&text, "a.yaml").unwrap_or_else(|error| panic!("{line}: {error}")).document;
        let missing = agent.unenforced(&facts);
        let paths: Vec<&str> = missing.iter().map(|gap| gap.path.trim_start_matches("spec.")).collect();
        assert_eq!(paths, named, "{line}");
        assert!(missing.iter().all(|gap| !gap.what.is_empty() && !gap.remedy.is_empty()), "{missing:?}");
    }
}
