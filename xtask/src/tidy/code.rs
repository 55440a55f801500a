//! Just enough of Rust's lexical rules to count lines and find words outside comments and literals.

/// A function's name, the line it starts on (from 1) and how many lines it has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) lines: usize,
}

/// The same text with comments and literals replaced by spaces; line breaks stay where they are.
pub(crate) fn without_comments_and_literals(source: &str) -> String {
    let characters: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut position = 0;
    while let Some(&character) = characters.get(position) {
        let length = literal_or_comment(&characters, position);
        if length == 0 {
            code.push(character);
            position += 1;
            continue;
        }
        for blanked in characters.iter().skip(position).take(length) {
            code.push(if *blanked == '\n' { '\n' } else { ' ' });
        }
        position += length;
    }
    code
}

/// Every function with a body, nested ones included.
pub(crate) fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for (offset, _) in code.match_indices("fn ") {
        let (before, rest) = code.split_at(offset);
        if before.chars().next_back().is_some_and(is_word) {
            continue;
        }
        let name: String =
            rest.chars().skip("fn ".len()).take_while(|character| is_word(*character)).collect();
        if let (false, Some(length)) = (name.is_empty(), body_end(rest)) {
            let lines = rest.chars().take(length).filter(|character| *character == '\n').count() + 1;
            found.push(Function { name, line: before.matches('\n').count() + 1, lines });
        }
    }
    found
}

/// Whether `word` stands alone somewhere in the code.
pub(crate) fn has_word(code: &str, word: &str) -> bool {
    words(code).any(|candidate| candidate == word)
}

/// The names of inline and declared modules.
pub(crate) fn modules(code: &str) -> Vec<String> {
    let words: Vec<&str> = words(code).collect();
    words
        .windows(2)
        .filter_map(|pair| if let ["mod", name] = pair { Some((*name).to_owned()) } else { None })
        .collect()
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|character| !is_word(character)).filter(|word| !word.is_empty())
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Characters up to and with the brace that closes the body; none for a declaration without one.
fn body_end(rest: &str) -> Option<usize> {
    let (mut braces, mut brackets) = (0_usize, 0_usize);
    for (index, character) in rest.chars().enumerate() {
        match character {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets = brackets.saturating_sub(1),
            ';' if braces == 0 && brackets == 0 => return None,
            '{' => braces += 1,
            '}' if braces <= 1 => return Some(index + 1),
            '}' => braces -= 1,
            _ => {}
        }
    }
    None
}

/// How many characters a comment or literal that starts here has; 0 when none does.
fn literal_or_comment(characters: &[char], start: usize) -> usize {
    let at = |offset: usize| characters.get(start + offset).copied().unwrap_or('\0');
    let follows_word =
        start.checked_sub(1).and_then(|before| characters.get(before)).is_some_and(|c| is_word(*c));
    match (at(0), at(1)) {
        ('/', '/') => characters.iter().skip(start).take_while(|character| **character != '\n').count(),
        ('/', '*') => block_comment(characters, start),
        ('"', _) => quoted(characters, start, '"'),
        ('r', '"' | '#') if !follows_word || at_byte_prefix(characters, start) => {
            raw_string(characters, start)
        }
        ('\'', '\\') => quoted(characters, start, '\''),
        // A lifetime has no closing quote right after one character.
        ('\'', _) if at(2) == '\'' => 3,
        _ => 0,
    }
}

/// Whether the `r` before a raw string is the end of `br` or `cr`.
fn at_byte_prefix(characters: &[char], start: usize) -> bool {
    let before = |offset: usize| start.checked_sub(offset).and_then(|index| characters.get(index)).copied();
    matches!(before(1), Some('b' | 'c')) && !before(2).is_some_and(is_word)
}

fn block_comment(characters: &[char], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut position = start;
    while let Some(&character) = characters.get(position) {
        match (character, characters.get(position + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                position += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                position += 2;
                if depth == 0 {
                    break;
                }
            }
            _ => position += 1,
        }
    }
    position - start
}

fn quoted(characters: &[char], start: usize, quote: char) -> usize {
    let mut position = start + 1;
    while let Some(&character) = characters.get(position) {
        position += if character == '\\' { 2 } else { 1 };
        if character == quote {
            break;
        }
    }
    position.min(characters.len()) - start
}

fn raw_string(characters: &[char], start: usize) -> usize {
    let hashes = characters.iter().skip(start + 1).take_while(|character| **character == '#').count();
    let open = start + 1 + hashes;
    if characters.get(open) != Some(&'"') {
        return 0; // a raw identifier such as r#type
    }
    let mut position = open + 1;
    while let Some(&character) = characters.get(position) {
        position += 1;
        let closing =
            characters.iter().skip(position).take(hashes).filter(|character| **character == '#').count();
        if character == '"' && closing == hashes {
            return position + hashes - start;
        }
    }
    position - start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_what_is_not_code() {
        let cases = [
            ("a // unsafe\nb", "a b"),
            ("a /* x /* y */ z */ b", "a b"),
            (r#"let s = "{ \" }"; x"#, "let s = ; x"),
            ("r#\"} \"quoted\" \"# y", "y"),
            ("('{', '\\'', 'a)", "( , , 'a)"),
            ("r#type br\"}\" c", "r#type b c"),
        ];
        for (source, expected) in cases {
            let code = without_comments_and_literals(source);
            assert_eq!(code.split_whitespace().collect::<Vec<_>>().join(" "), expected, "{source}");
            assert_eq!(code.chars().count(), source.chars().count(), "{source}");
        }
    }

    #[test]
    fn counts_lines_from_signature_to_closing_brace() {
        let code = "trait T {\n    fn declared(a: [u8; 4]) -> u8;\n}\nfn long(\n    a: u8,\n) {\n    if a {\n    }\n}\n";
        assert_eq!(functions(code), [Function { name: "long".to_owned(), line: 4, lines: 6 }]);
    }

    #[test]
    fn finds_whole_words_only() {
        assert!(has_word("unsafe { x }", "unsafe"));
        assert!(!has_word("deny(unsafe_code)", "unsafe"));
        assert_eq!(modules("mod utils;\npub(crate) mod node { }"), ["utils", "node"]);
    }
}
