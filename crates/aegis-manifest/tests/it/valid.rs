//! Documents that must be read, and what is read from them.

use aegis_core::Score;
use aegis_manifest::agent::{AccessMode, Isolation, Target, Validator};
use aegis_manifest::node::{Reference, SecurityContext};
use aegis_manifest::{
    AgentManifest, KINDS, NodeConfig, NodeFacts, explain, manifest_reference, parse_agent, parse_node_config,
    schema,
};
use serde_json::Value;

fn agent(spec: &str) -> AgentManifest {
    let text = format!(
        "apiVersion: 100monkeys.ai/v1\nkind: Agent\nmetadata: {{name: a, version: 1.0.0}}\nspec:\n{spec}"
    );
    parse_agent(&text, "a.yaml").unwrap_or_else(|error| panic!("{error}")).document
}

#[test]
fn the_documented_example_is_read_unchanged() {
    let parsed = parse_agent(include_str!("pr-reviewer.yaml"), "pr-reviewer.yaml").unwrap();
    let spec = &parsed.document.spec;
    assert_eq!(parsed.document.metadata.name.as_str(), "pr-reviewer");
    assert_eq!(spec.runtime.isolation, Isolation::Docker);
    assert_eq!(spec.runtime.version.as_deref(), Some("3.11"));
    assert_eq!(spec.execution.max_iterations, 5);
    assert_eq!(spec.execution.iteration_timeout.millis(), 300_000);
    assert_eq!(spec.security.network.allowlist, ["api.github.com"]);
    assert_eq!(spec.security.resources.memory_bytes(), 1 << 30);
    assert_eq!(spec.security.resources.total_timeout().millis(), 300_000);
    assert!(spec.security.resources.explicit());
    assert_eq!(spec.volumes[0].mount_path, "/workspace");
    assert_eq!(spec.volumes[0].access_mode, AccessMode::ReadWrite);
    assert_eq!(parsed.position("spec.volumes[0].name"), Some((49, 13)));

    let facts = NodeFacts { interpreters: vec![("python".into(), "3.11.2".into())], ..NodeFacts::default() };
    let missing: Vec<String> = parsed.document.unenforced(&facts).into_iter().map(|u| u.path).collect();
    assert_eq!(missing, ["spec.runtime.isolation"]);
}

#[test]
fn a_document_survives_its_own_json() {
    let document = parse_agent(include_str!("pr-reviewer.yaml"), "x").unwrap().document;
    let json = serde_json::to_string(&document).unwrap();
    assert_eq!(parse_agent(&json, "x.json").unwrap_or_else(|e| panic!("{e}\n{json}")).document, document);
    let full = agent(include_str!("full-spec.yaml"));
    let json = serde_json::to_string_pretty(&full).unwrap();
    assert_eq!(parse_agent(&json, "x.json").unwrap_or_else(|e| panic!("{e}\n{json}")).document, full);
}

#[test]
fn defaults_are_the_contracts() {
    let spec = agent("  runtime: {language: python}\n").spec;
    assert_eq!(spec.runtime.model, "default");
    assert_eq!((spec.execution.max_iterations, spec.execution.llm_timeout_seconds), (10, 300));
    assert_eq!(spec.security.resources.cpu_millicores(), 1_000);
    assert_eq!(spec.security.resources.memory_bytes(), 512 << 20);
    assert_eq!(spec.security.resources.pids_max(), 256);
    assert!(!spec.security.resources.explicit() && spec.security.network.is_none());
    assert!(spec.tools.is_empty() && spec.execution.validation.is_empty());
    assert_eq!(
        agent("  runtime: {language: python}\n  execution: {mode: one-shot}\n")
            .spec
            .execution
            .iterations_max(),
        1
    );
    assert!(agent("  runtime: {language: python, version: 3.10}\n").spec.runtime.version.unwrap() == "3.10");
}

#[test]
fn validators_are_read_from_both_forms() {
    let list = agent(include_str!("full-spec.yaml")).spec.execution.validation;
    let names: Vec<&str> = list.iter().map(Validator::name).collect();
    assert_eq!(names, ["exit_code", "json_schema", "regex", "script", "semantic", "multi_judge"]);
    assert_eq!(list[1].target(), Some(&Target::File("/workspace/result.json".into())));
    assert_eq!(list[1].min_score(), Score::from_f64(0.9));
    assert_eq!(list[4].min_score(), Score::from_f64(0.7));
    assert_eq!(list[0].min_score(), Score::ONE);
    assert_eq!(list[3].min_confidence(), Score::ZERO);

    let map = agent(
        "  runtime: {language: python}\n  execution:\n    validation:\n      system: {must_succeed: true, \
         timeout_seconds: 9}\n      output: {format: json, schema: {type: object}, pattern: ok}\n      semantic: \
         {model: judge, criteria: is it kind?}\n",
    );
    let names: Vec<&str> = map.spec.execution.validation.iter().map(Validator::name).collect();
    assert_eq!(names, ["exit_code", "json_schema", "regex", "semantic"]);

    // No validator at all: then the bootstrap must still exit with 0.
    let lenient = agent(
        "  runtime: {language: python}\n  execution:\n    validation:\n      system: {must_succeed: false}\n",
    );
    assert!(lenient.spec.execution.validation.is_empty());
}

#[test]
fn what_a_node_cannot_enforce_is_named_with_a_remedy() {
    let facts = NodeFacts {
        limits_missing: Some("no cgroup".into()),
        network_missing: Some("not root".into()),
        mount_missing: Some("no /dev/fuse".into()),
        interpreters: vec![("python".into(), "3.9.1".into())],
        ..NodeFacts::default()
    };
    let missing = agent(include_str!("full-spec.yaml")).unenforced(&facts);
    assert!(missing.iter().all(|u| !u.remedy.is_empty()));
    let paths: Vec<&str> = missing.iter().map(|u| u.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "spec.runtime.isolation",
            "spec.runtime.version",
            "spec.task.input_data",
            "spec.task.agentskills",
            "spec.context[1]",
            "spec.context[3]",
            "spec.execution.memory",
            "spec.execution.validation[5].judges[1].judge_agent",
            "spec.execution.tool_validation",
            "spec.security.network",
            "spec.security.resources",
            "spec.volumes[0]",
            "spec.volumes[1].storage_class",
            "spec.volumes[1].type",
            "spec.volumes[1]",
            "spec.soul.owner",
            "spec.soul.authority.role",
            "spec.soul.authority.max_risk",
            "spec.soul.failure_modes",
            "spec.soul.acceptance",
            "spec.soul.gates",
            "spec.soul.safe_mode",
            "spec.tools[1].config",
            "spec.schedule",
            "spec.delivery",
            "spec.output_handler",
            "spec.advanced",
        ]
    );
    let python = NodeFacts { interpreters: vec![("python".into(), "3.11.2".into())], ..NodeFacts::default() };
    assert!(agent("  runtime: {language: python}\n").unenforced(&python).is_empty());
    let gaps = agent("  runtime: {language: python}\n").unenforced(&NodeFacts::default());
    assert_eq!(gaps.iter().map(|gap| gap.path.as_str()).collect::<Vec<_>>(), ["spec.runtime.language"]);
}

#[test]
fn a_node_configuration_is_read() {
    let set = |name: &str| (name == "PORT").then(|| "9000".to_owned());
    let config =
        parse_node_config(include_str!("node.yaml"), "node.yaml", &set).unwrap_or_else(|e| panic!("{e}"));
    let spec = &config.document.spec;
    assert_eq!(spec.network.port, 9000);
    assert_eq!(spec.llm_providers[0].api_key, Some(Reference::Env("OPENAI_API_KEY".into())));
    let aliases = spec.aliases();
    assert_eq!(aliases["default"][0].provider, "local");
    assert_eq!(aliases["default"][0].entry.model, "smollm2");
    assert_eq!(aliases["reasoning"][0].provider, "openai");
    assert_eq!(aliases["reasoning"][0].entry.output_price(), Some(0.01));
    assert_eq!(spec.security_context("narrow").unwrap().capabilities.len(), 1);
    assert_eq!(spec.security_context("default"), Some(SecurityContext::built_in()));
    assert_eq!(spec.security_context("none"), None);
    let missing = config.document.unenforced();
    assert_eq!(missing.len(), 6, "{missing:?}");
    let mut off = spec.clone();
    off.llm_providers[1].enabled = false;
    assert!(!off.aliases().contains_key("small"), "a provider that is switched off has no models");
    assert_eq!(off.aliases()["default"].len(), 1, "and no alias leads to it");
}

#[test]
fn the_embedded_configuration_is_one_that_would_be_read() {
    let json = serde_json::to_string(&NodeConfig::default()).unwrap();
    let read = parse_node_config(&json, "default", &|_| None).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(read.document, NodeConfig::default());
    assert!(NodeConfig::default().unenforced().is_empty());
    assert_eq!(NodeConfig::default().spec.network.port, 8088);
}

#[test]
fn fields_are_explained_from_the_types() {
    let network = explain("agent.spec.security.network").unwrap();
    let names: Vec<&str> = network.fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["mode", "allowlist", "denylist"]);
    let shown = network.to_string();
    assert!(
        shown.contains("mode: one of `none`, `allow` or `deny`") || shown.contains("mode: `none`"),
        "{shown}"
    );
    let iterations = explain("agent.spec.execution.max_iterations").unwrap();
    assert_eq!((iterations.default, iterations.required), (Some(Value::from(10)), false));
    assert_eq!(explain("agent.spec.security.resources.memory").unwrap().default, Some(Value::from("512Mi")));
    assert!(explain("agent.spec.execution.validation.criteria").is_some());
    assert!(explain("node-config.spec.llm_providers.models.tool_calling").is_some());
    assert!(explain("agent.spec.nothing").is_none() && explain("nothing").is_none());
}

#[test]
fn every_field_is_described() {
    fn walk(value: &Value, path: &str, missing: &mut Vec<String>) {
        for (name, field) in value.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if field.get("description").is_none()
                && field.get("const").is_none()
                && field.get("$ref").is_none()
            {
                missing.push(format!("{path}.{name}"));
            }
        }
        match value {
            Value::Object(map) => {
                map.iter().for_each(|(name, value)| walk(value, &format!("{path}.{name}"), missing))
            }
            Value::Array(list) => list.iter().for_each(|value| walk(value, path, missing)),
            _ => {}
        }
    }
    for kind in KINDS {
        let mut missing = Vec::new();
        walk(schema(kind).unwrap(), kind, &mut missing);
        assert!(missing.is_empty(), "{missing:#?}");
        assert!(manifest_reference(kind).unwrap().contains(&format!("`{kind}.spec`")));
    }
}

/// `schemas/` and `docs/reference/` hold what the types say; `UPDATE_GOLDEN=1` writes them.
#[test]
fn the_files_in_the_repository_are_fresh() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for kind in KINDS {
        let schema = serde_json::to_string_pretty(schema(kind).unwrap()).unwrap() + "\n";
        crate::malformed::golden(&root.join(format!("schemas/{kind}.schema.json")), &schema);
        let page = manifest_reference(kind).unwrap();
        crate::malformed::golden(&root.join(format!("docs/reference/manifest-{kind}.md")), &page);
    }
}
