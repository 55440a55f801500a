//! The difference of two texts, by lines.

use serde::{Deserialize, Serialize};

/// Most lines of a text that are compared one by one; longer ones differ as a whole between their common ends.
pub const DIFF_LINES_MAX: usize = 2000;

/// Where a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineKind {
    /// In both.
    Same,
    /// In the old text alone.
    Removed,
    /// In the new text alone.
    Added,
}

/// A line of a difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Where it is.
    pub kind: LineKind,
    /// The line, without its end.
    pub text: String,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = match self.kind {
            LineKind::Same => ' ',
            LineKind::Removed => '-',
            LineKind::Added => '+',
        };
        write!(f, "{sign}{}", self.text)
    }
}

/// What has to be removed and added, in order, to come from `old` to `new`: as little as possible.
pub fn diff_lines(old: &str, new: &str) -> Vec<Line> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (common, old_rest) = old.split_at(head);
    let new_rest = new.get(head..).unwrap_or_default();
    let tail = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(a, b)| a == b).count();
    let (old_middle, end) = old_rest.split_at(old_rest.len() - tail);
    let (new_middle, _) = new_rest.split_at(new_rest.len() - tail);
    let mut lines = Vec::new();
    put(&mut lines, LineKind::Same, common);
    if old_middle.len() > DIFF_LINES_MAX || new_middle.len() > DIFF_LINES_MAX {
        put(&mut lines, LineKind::Removed, old_middle);
        put(&mut lines, LineKind::Added, new_middle);
    } else {
        middle(old_middle, new_middle, &mut lines);
    }
    put(&mut lines, LineKind::Same, end);
    lines
}

fn put(lines: &mut Vec<Line>, kind: LineKind, texts: &[&str]) {
    lines.extend(texts.iter().map(|text| Line { kind, text: (*text).to_owned() }));
}

/// By the longest common subsequence of the rests: `longest[i][j]` is its length for `old[i..]` and `new[j..]`.
fn middle(old: &[&str], new: &[&str], lines: &mut Vec<Line>) {
    let width = new.len() + 1;
    // Beyond the last line of either nothing is common: what is not in the table is 0.
    let mut longest = vec![0_u16; old.len() * width];
    let at = |longest: &[u16], i: usize, j: usize| longest.get(i * width + j).copied().unwrap_or(0);
    for (i, a) in old.iter().enumerate().rev() {
        for (j, b) in new.iter().enumerate().rev() {
            let length = if a == b {
                at(&longest, i + 1, j + 1) + 1
            } else {
                at(&longest, i + 1, j).max(at(&longest, i, j + 1))
            };
            if let Some(cell) = longest.get_mut(i * width + j) {
                *cell = length;
            }
        }
    }
    let (mut i, mut j) = (0, 0);
    loop {
        match (old.get(i), new.get(j)) {
            (Some(a), Some(b)) if a == b => {
                put(lines, LineKind::Same, &[a]);
                (i, j) = (i + 1, j + 1);
            }
            // Nothing common is lost with it.
            (Some(a), _) if at(&longest, i + 1, j) == at(&longest, i, j) => {
                put(lines, LineKind::Removed, &[a]);
                i += 1;
            }
            (_, Some(b)) => {
                put(lines, LineKind::Added, &[b]);
                j += 1;
            }
            (_, None) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diff(old: &str, new: &str) -> Vec<String> {
        diff_lines(old, new).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn common_lines_stay() {
        assert_eq!(diff("", ""), Vec::<String>::new());
        assert_eq!(diff("a\nb\n", "a\nb"), [" a", " b"]);
        assert_eq!(diff("a\nb\nc", "a\nx\nc"), [" a", "-b", "+x", " c"]);
        assert_eq!(diff("a\nb\nc\nd", "b\nd\ne"), ["-a", " b", "-c", " d", "+e"]);
        assert_eq!(diff("", "a"), ["+a"]);
        assert_eq!(diff("a", ""), ["-a"]);
        assert_eq!(diff("a\na", "a"), [" a", "-a"]);
        assert_eq!(diff("x\nb\nc\ny", "p\nb\nq\nc\nr"), ["-x", "+p", " b", "+q", " c", "-y", "+r"]);
    }

    /// How many lines two texts share at most, in order.
    fn shared(old: &[String], new: &[String]) -> usize {
        match (old.split_first(), new.split_first()) {
            (Some((a, old_rest)), Some((b, new_rest))) if a == b => 1 + shared(old_rest, new_rest),
            (Some((_, old_rest)), Some((_, new_rest))) => shared(old_rest, new).max(shared(old, new_rest)),
            _ => 0,
        }
    }

    #[test]
    fn a_difference_leads_from_one_text_to_the_other_and_is_as_short_as_can_be() {
        // Every text of up to five lines of two kinds.
        let mut texts: Vec<Vec<String>> = vec![Vec::new()];
        for length in 0..5 {
            let longest: Vec<_> = texts.iter().filter(|text| text.len() == length).cloned().collect();
            texts.extend(
                longest
                    .iter()
                    .flat_map(|text| ["a", "b"].map(|line| [&text[..], &[line.to_owned()]].concat())),
            );
        }
        for (old, new) in texts.iter().flat_map(|old| texts.iter().map(move |new| (old, new))) {
            let lines = diff_lines(&old.join("\n"), &new.join("\n"));
            let of = |kind: LineKind| {
                let lines = lines.iter().filter(move |line| line.kind == LineKind::Same || line.kind == kind);
                lines.map(|line| line.text.clone()).collect::<Vec<_>>()
            };
            assert_eq!((&of(LineKind::Removed), &of(LineKind::Added)), (old, new));
            assert_eq!(of(LineKind::Same).len(), shared(old, new), "{old:?} {new:?}");
        }
    }

    #[test]
    fn either_text_may_be_so_long_to_be_compared_line_by_line() {
        for (lines, compared) in [(DIFF_LINES_MAX, true), (DIFF_LINES_MAX + 1, false)] {
            let long = "a\nk\n".to_owned() + &"o\n".repeat(lines - 2);
            let short = "b\nk\nc";
            for found in [diff_lines(&long, short), diff_lines(short, &long)] {
                let same: Vec<_> = found.iter().filter(|line| line.kind == LineKind::Same).collect();
                assert_eq!(same.len(), usize::from(compared), "{lines}: {same:?}");
            }
        }
    }

    #[test]
    fn long_texts_differ_as_a_whole() {
        let old = "o\n".repeat(DIFF_LINES_MAX) + "k\np\nend";
        let new = "n\n".repeat(DIFF_LINES_MAX) + "k\nq\nend";
        let lines = diff_lines(&old, &new);
        assert!(lines.iter().filter(|line| line.text == "k").all(|line| line.kind != LineKind::Same));
        assert_eq!(lines.last().unwrap().to_string(), " end");
        assert_eq!(lines.len(), 2 * (DIFF_LINES_MAX + 2) + 1);
    }
}
