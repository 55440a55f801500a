//! Tool names on the wire. Model APIs take letters, digits, `_` and `-`, at most 64 of them; AEGIS names have dots.

use aegis_core::ToolSchema;

/// Longest tool name that all supported APIs take, in bytes.
const WIRE_NAME_BYTES_MAX: usize = 64;

/// The names of one request, both ways.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    /// AEGIS name and wire name of each tool offered, in order.
    pairs: Vec<(String, String)>,
}

impl Names {
    pub(crate) fn of(tools: &[ToolSchema]) -> Self {
        let mut names = Self::default();
        for tool in tools {
            let flat = flatten(&tool.name);
            let mut wire = flat.clone();
            let mut number = 2u32;
            while names.pairs.iter().any(|(_, taken)| *taken == wire) {
                let suffix = format!("_{number}");
                let kept = WIRE_NAME_BYTES_MAX - suffix.len();
                wire = flat.chars().take(kept).collect::<String>() + &suffix;
                number += 1;
            }
            names.pairs.push((tool.name.clone(), wire));
        }
        names
    }
    /// The wire name of a tool; a tool not offered any more keeps a name of the form APIs take.
    pub(crate) fn wire(&self, aegis: &str) -> String {
        let offered = self.pairs.iter().find(|(name, _)| name == aegis);
        offered.map_or_else(|| flatten(aegis), |(_, wire)| wire.clone())
    }
    /// The AEGIS name a model means. What nobody offered stays as it is, for the tool router to refuse by name.
    pub(crate) fn aegis(&self, wire: &str) -> String {
        let by_wire = self.pairs.iter().find(|(_, name)| name == wire);
        by_wire.map_or_else(|| wire.to_owned(), |(aegis, _)| aegis.clone())
    }
}

fn flatten(name: &str) -> String {
    let permitted = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    name.chars().map(permitted).take(WIRE_NAME_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn tools(names: &[String]) -> Vec<ToolSchema> {
        let tool = |name: &String| ToolSchema {
            name: name.clone(),
            description: String::new(),
            parameters: json!({}),
        };
        names.iter().map(tool).collect()
    }

    #[test]
    fn dots_become_underscores_and_back() {
        let names = Names::of(&tools(&["fs.read".into(), "fs_read".into(), "cmd.run".into()]));
        assert_eq!(
            [names.wire("fs.read"), names.wire("fs_read"), names.wire("cmd.run")],
            ["fs_read", "fs_read_2", "cmd_run"]
        );
        assert_eq!(
            [names.aegis("fs_read"), names.aegis("fs_read_2"), names.aegis("cmd.run")],
            ["fs.read", "fs_read", "cmd.run"]
        );
        assert_eq!(names.aegis("no_such"), "no_such");
    }

    proptest! {
        #[test]
        fn the_map_back_is_exact(set in proptest::collection::btree_set("[a-c._é-]{1,80}", 0..12)) {
            let list: Vec<String> = set.into_iter().collect();
            let names = Names::of(&tools(&list));
            for name in &list {
                let wire = names.wire(name);
                prop_assert!(wire.len() <= WIRE_NAME_BYTES_MAX);
                prop_assert!(wire.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'));
                prop_assert_eq!(&names.aegis(&wire), name);
            }
        }
    }
}
