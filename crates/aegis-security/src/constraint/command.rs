//! Which programs may be run, and with which first argument.

use std::collections::BTreeMap;

use super::path::{is_at_or_below, normalise_against};

/// Whether the program may be run. Names are compared whole: a program given as a path must be an entry itself, for
/// `/tmp/git` is not the `git` that was allowed.
pub(super) fn check_program(
    program: &str,
    allowlist: Option<&[String]>,
    subcommands: Option<&BTreeMap<String, Vec<String>>>,
) -> Result<(), String> {
    let named = allowlist.is_some_and(|list| list.iter().any(|entry| entry == program));
    let has_entry = subcommands.is_some_and(|map| map.contains_key(program));
    match (allowlist, subcommands) {
        (Some(_), _) if !named => Err(format!("the command `{program}` is not in command_allowlist")),
        (None, Some(_)) if !has_entry => {
            Err(format!("the command `{program}` is not in subcommand_allowlist"))
        }
        _ => Ok(()),
    }
}

/// Whether the program may be given its first argument. A program without a list of its own is not constrained here.
pub(super) fn check_first_argument(
    argv: &[String],
    cwd: &str,
    subcommands: &BTreeMap<String, Vec<String>>,
) -> Result<(), String> {
    let Some((program, arguments)) = argv.split_first() else { return Ok(()) };
    let Some(entries) = subcommands.get(program) else { return Ok(()) };
    let Some(first) = arguments.first() else {
        return Err(format!("`{program}` needs a first argument that subcommand_allowlist permits"));
    };
    if entries.iter().any(|entry| entry == first) {
        return Ok(());
    }
    let folders = || entries.iter().filter(|entry| entry.starts_with('/'));
    if let Some(path) = as_path(first, cwd)
        && folders()
            .any(|folder| normalise_against("/", folder).is_ok_and(|folder| is_at_or_below(&path, &folder)))
    {
        return Ok(());
    }
    let advice = if folders().next().is_some() && !first.starts_with(['/', '-']) {
        "; give paths in full, such as `/workspace/main.py`"
    } else {
        ""
    };
    Err(format!("`{first}` is not a permitted first argument of `{program}`{advice}"))
}

/// The path an argument certainly is: one that begins with `/` or `./` and never climbs. A bare word is not taken for
/// a path, or `git push` would be one below /workspace; `..` is not, because the system resolves it after links.
fn as_path(argument: &str, cwd: &str) -> Option<String> {
    let is_path = argument.starts_with('/') || argument.starts_with("./");
    let climbs = argument.split('/').any(|component| component == "..");
    if is_path && !climbs { normalise_against(cwd, argument).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Vec<String> {
        entries.iter().map(|entry| (*entry).to_owned()).collect()
    }

    #[test]
    fn programs_are_compared_whole() {
        let allowed = list(&["git", "/usr/bin/make"]);
        let check = |program: &str| check_program(program, Some(&allowed), None).is_ok();
        assert!(check("git"));
        assert!(check("/usr/bin/make"));
        for wrong in [
            "",
            "gi",
            "git2",
            "GIT",
            "git status",
            "git;id",
            " git",
            "/tmp/git",
            "./git",
            "/usr/bin/git",
            "make",
            "/usr/bin/../bin/make",
            "/usr/bin/make/",
        ] {
            assert!(!check(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_program_named_nowhere_is_not_permitted() {
        let map = BTreeMap::from([("git".to_owned(), list(&["status"]))]);
        assert!(check_program("git", None, Some(&map)).is_ok());
        assert!(check_program("ls", None, Some(&map)).is_err());
        assert!(check_program("ls", Some(&list(&["ls"])), Some(&map)).is_ok());
        assert!(check_program("git", Some(&list(&["ls"])), Some(&map)).is_err());
        assert!(check_program("git", None, Some(&BTreeMap::new())).is_err());
        assert!(check_program("git", Some(&[]), None).is_err());
        assert!(check_program("anything", None, None).is_ok());
    }

    #[test]
    fn a_name_is_to_be_given_in_full_where_that_could_help() {
        let map = BTreeMap::from([
            ("python3".to_owned(), list(&["/workspace/scripts/"])),
            ("git".to_owned(), list(&["status"])),
        ]);
        for (argv, advised) in [
            (["python3", "a.py"], true),
            (["python3", "/tmp/a.py"], false),
            (["python3", "-c"], false),
            (["git", "push"], false),
        ] {
            let told = check_first_argument(&list(&argv), "/workspace", &map).unwrap_err();
            assert_eq!(told.contains("in full"), advised, "{told}");
        }
    }

    #[test]
    fn first_arguments_are_entries_or_paths_below_one() {
        let map = BTreeMap::from([
            ("git".to_owned(), list(&["status", "/workspace"])),
            ("python3".to_owned(), list(&["/workspace/scripts/"])),
            ("true".to_owned(), list(&[])),
        ]);
        let check = |argv: &[&str], cwd: &str| check_first_argument(&list(argv), cwd, &map).is_ok();
        for permitted in [
            &["git", "status"][..],
            &["git", "status", "; rm -rf /"],
            &["git", "/workspace/x"],
            &["python3", "/workspace/scripts/a.py", "--x"],
            &["python3", "/workspace//scripts/./a.py"],
            &["ls", "/anywhere"],
        ] {
            assert!(check(permitted, "/workspace"), "{permitted:?}");
        }
        assert!(check(&["python3", "./a.py"], "/workspace/scripts"));
        for refused in [
            &["git", "push"][..],
            &["git"],
            &["git", "status;id"],
            &["git", "-C/workspace"],
            &["python3", "-c", "/workspace/scripts/a.py"],
            &["python3", "/workspace/scripts/../../etc/x.py"],
            &["python3", "/workspace/scripts/sub/../a.py"],
            &["python3", "/workspace/scripts2/a.py"],
            &["python3", "a.py"],
            &["python3", "./a.py"],
            &["true"],
            &["true", ""],
        ] {
            assert!(!check(refused, "/workspace"), "{refused:?}");
        }
    }
}
