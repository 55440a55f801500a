use super::*;
use clap::CommandFactory as _;

fn parse(line: &str) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(line.split(' '))
}

#[test]
fn the_definition_holds_together() {
    Arguments::command().debug_assert();
}

/// Every command of the contract's table, as it is written there.
#[test]
fn every_command_of_the_contract_parses() {
    let lines = "daemon start;daemon stop;daemon status;daemon install;daemon uninstall;up;down;status;\
        agent deploy FILE --validate-only --force;agent list;agent show NAME;agent versions NAME;agent pause NAME;\
        agent resume NAME;agent remove NAME;agent logs NAME --follow --errors --verbose;\
        agent generate --input TEXT --follow;\
        task execute AGENT --input {} --context @file --wait --follow;task list --agent-id ID --status failed --limit 20;\
        task status ID;task logs ID --follow --errors-only --verbose;task cancel ID --force;task remove ID;task replay ID;\
        server list;server show NAME;server accept NAME HASH;server logs NAME;server add NAME --env K=secret:N --folder DIR -- COMMAND --flag x;server add NAME --url URL --header K=V;server add -f FILE;server remove NAME;tool list;tool call NAME --agent AGENT --arguments {};mcp serve --agent AGENT;\
        secret set NAME --from-file PATH;secret rotate NAME;secret list;secret delete NAME;volume list;volume show ID;volume files ID;volume get ID path;\
        audit query;audit prove 7;audit verify --data DIR --checkpoint COPY;audit export --to FILE;audit checkpoint;\
        trace list;trace show ID;explain agent.spec;schema agent;config show;config validate;config generate;\
        completion bash;journal rebuild;journal verify;journal backup --to DIR;journal archive --before 7";
    for line in lines.split(';') {
        let line = format!("aegis {}", line.trim());
        assert!(parse(&line).is_ok(), "{line}: {}", parse(&line).unwrap_err());
    }
    for (group, commands) in Later::ALL {
        assert!(matches!(parse(&format!("aegis {group}")).unwrap().command, Command::Later(_)), "{group}");
        for command in *commands {
            let line = format!("aegis {group} {command} name --flag value");
            let Command::Later(later) = parse(&line).unwrap().command else { panic!("{line}") };
            let crate::failure::Failure::Told(error) = crate::later::refuse(&later) else { panic!("{line}") };
            assert_eq!(error.diagnosis.code.exit_code(), 2, "{line}");
            assert!(error.diagnosis.message.contains(&format!("`aegis {group} {command}`")), "{line}");
        }
    }
}

#[test]
fn global_flags_stand_before_or_after_the_command() {
    for line in [
        "aegis --host h --port 9 --output json --tenant t --config c --log-level debug agent list",
        "aegis agent list --host h --port 9 --output json --tenant t --config c --log-level debug",
    ] {
        let global = parse(line).unwrap().global;
        assert_eq!((global.host.as_deref(), global.port), (Some("h"), Some(9)), "{line}");
        assert_eq!((global.output, global.tenant.as_deref()), (Some(Format::Json), Some("t")), "{line}");
        assert_eq!((global.config, global.log_level), (Some("c".into()), Some(Level::Debug)), "{line}");
    }
}

#[test]
fn lists_are_as_long_as_the_guide_says() {
    let Command::Task(Task::List { limit, .. }) = parse("aegis task list").unwrap().command else { panic!() };
    assert_eq!(limit, 20);
}
