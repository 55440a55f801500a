//! Tables that fit the terminal.

use aegis_api::printable_line;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use rustix::termios::tcgetwinsize;

/// Narrowest terminal that is believed.
const WIDTH_MIN: u16 = 40;

/// A table with its heading. On a terminal, cells wrap to its width; elsewhere each row is one line.
pub(crate) fn table(heading: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    of_width(heading, rows, terminal_width())
}

fn of_width(heading: &[&str], rows: impl IntoIterator<Item = Vec<String>>, width: Option<u16>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(heading.iter().copied());
    match width {
        Some(width) => {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.max(WIDTH_MIN));
        }
        None => {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
    }
    for row in rows {
        table.add_row(row.iter().map(|cell| printable_line(cell).into_owned()).collect::<Vec<_>>());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2)).set_cell_alignment(CellAlignment::Left);
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

fn terminal_width() -> Option<u16> {
    use std::io::IsTerminal as _;
    let out = std::io::stdout();
    if !out.is_terminal() {
        return None;
    }
    tcgetwinsize(&out).ok().map(|size| size.ws_col).filter(|columns| *columns > 0)
}

/// `name: value` lines with the values in one column; empty values are left out.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> = facts
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name:<width$}  {}", printable_line(value)))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn columns_stand_under_their_heading() {
        let heading = ["ID", "NAME", "STATUS", "RUNTIME", "LABELS"];
        let rows = [
            row(&["a1b2", "python-coder", "deployed", "docker", "type=developer"]),
            row(&["b2c3", "x", "paused", "docker", ""]),
        ];
        let shown = of_width(&heading, rows, None);
        assert_eq!(
            shown,
            "ID    NAME          STATUS    RUNTIME  LABELS\n\
             a1b2  python-coder  deployed  docker   type=developer\n\
             b2c3  x             paused    docker"
        );
    }

    #[test]
    fn a_narrow_terminal_wraps_cells_and_a_pipe_does_not() {
        let long = || vec![row(&["word ".repeat(30).trim(), "b"])];
        assert!(of_width(&["A", "B"], long(), Some(50)).lines().all(|line| line.chars().count() <= 50));
        assert_eq!(of_width(&["A", "B"], long(), None).lines().count(), 2);
    }

    #[test]
    fn a_cell_cannot_break_its_row() {
        let shown = of_width(&["A"], [row(&["a\nb\u{1b}[1m"])], None);
        assert_eq!(shown, "A\na\\nb\\u{1b}[1m");
    }
}
