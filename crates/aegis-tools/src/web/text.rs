//! The text of a page: markup taken out of HTML, everything else as it is.

/// Elements whose content is no text.
const SILENT: [&str; 6] = ["script", "style", "noscript", "template", "svg", "head"];
/// Elements that stand on lines of their own.
const BLOCKS: [&str; 26] = [
    "p",
    "div",
    "br",
    "hr",
    "li",
    "ul",
    "ol",
    "dl",
    "dt",
    "dd",
    "tr",
    "table",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "section",
    "article",
    "header",
    "footer",
    "main",
    "nav",
    "pre",
    "blockquote",
];
/// Longest reference to a character, `&` and `;` included.
const REFERENCE_BYTES_MAX: usize = 12;

/// The text, if a body of that type is text.
pub(super) fn readable(kind: &str, body: &[u8]) -> Option<String> {
    let name = kind.split(';').next().unwrap_or_default().trim();
    let is_text = name.starts_with("text/")
        || name.ends_with("+json")
        || name.ends_with("+xml")
        || matches!(
            name,
            "application/json" | "application/xml" | "application/javascript" | "application/yaml"
        );
    if !is_text && (!name.is_empty() || body.contains(&0)) {
        return None;
    }
    let latin = ["iso-8859-1", "latin1", "windows-1252"].iter().any(|charset| kind.contains(charset));
    let text = if latin {
        body.iter().map(|&byte| char::from(byte)).collect()
    } else {
        String::from_utf8_lossy(body).into_owned()
    };
    let is_html = matches!(name, "text/html" | "application/xhtml+xml");
    Some(if is_html { without_markup(&text) } else { text })
}

/// Takes the markup out. One pass; what is malformed is text.
fn without_markup(html: &str) -> String {
    let lower = html.to_ascii_lowercase();
    let mut text = String::new();
    let mut at = 0;
    while let Some(rest) = html.get(at..).filter(|rest| !rest.is_empty()) {
        let plain = rest.find(['<', '&']).unwrap_or(rest.len());
        text.push_str(rest.get(..plain).unwrap_or_default());
        at += plain;
        let (Some(rest), Some(lower)) = (html.get(at..), lower.get(at..)) else { break };
        at += match rest.chars().next() {
            Some('<') => markup(lower, &mut text),
            Some('&') => reference(rest, &mut text),
            _ => break,
        };
    }
    tidy(&text)
}

/// Passes over what begins with `<`; how many bytes that are.
fn markup(lower: &str, text: &mut String) -> usize {
    if let Some(comment) = lower.strip_prefix("<!--") {
        return comment.find("-->").map_or(lower.len(), |end| end + 7);
    }
    let inner = lower.strip_prefix('<').unwrap_or(lower);
    let inner = inner.strip_prefix('/').unwrap_or(inner);
    let length = inner.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(inner.len());
    let name = inner.get(..length).unwrap_or_default();
    if name.is_empty() && !lower.starts_with("<!") {
        text.push('<');
        return 1;
    }
    let Some(end) = lower.find('>').map(|end| end + 1) else { return lower.len() };
    if BLOCKS.contains(&name) {
        text.push('\n');
    }
    if SILENT.contains(&name) && !lower.starts_with("</") {
        let close = format!("</{name}");
        return lower
            .get(end..)
            .and_then(|rest| rest.find(&close))
            .map_or(lower.len(), |skipped| end + skipped);
    }
    end
}

/// Reads a reference to a character; what is none is a `&`.
fn reference(rest: &str, text: &mut String) -> usize {
    let end = rest.bytes().take(REFERENCE_BYTES_MAX).position(|byte| byte == b';');
    let name = end.and_then(|end| rest.get(1..end)).unwrap_or_default();
    let number = name.strip_prefix('#').and_then(|digits| match digits.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => digits.parse().ok(),
    });
    let character = match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some(' '),
        _ => number.and_then(char::from_u32),
    };
    match (character, end) {
        (Some(character), Some(end)) => {
            text.push(character);
            end + 1
        }
        _ => {
            text.push('&');
            1
        }
    }
}

/// White space as a reader sees it: one space, one empty line at most.
fn tidy(text: &str) -> String {
    let mut tidied = String::with_capacity(text.len());
    let mut blank = true;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() {
            if !blank {
                tidied.push('\n');
            }
            blank = true;
        } else {
            tidied.push_str(&words.join(" "));
            tidied.push('\n');
            blank = false;
        }
    }
    tidied.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_taken_out_and_text_stays() {
        let html = "<!doctype html><html><head><title>t</title><style>p{}</style></head><body><h1>Head</h1>\
            <p>One &amp; two &lt;3 &#x41;&#66; &unknown; 1 < 2<br>next<script>if (a < b) { evil() }</script>\
            <!-- a > b --><ul><li>x<LI>y</ul></body></html>";
        assert_eq!(without_markup(html), "Head\n\nOne & two <3 AB &unknown; 1 < 2\nnext\n\nx\ny");
        for broken in ["<", "<p", "<!--", "<script>", "&", "&#xffffffff;", "&#;", "</", "<>", "ä<ö>ü"] {
            let _ = without_markup(broken);
        }
    }

    #[test]
    fn what_is_not_text_is_not_shown() {
        assert_eq!(readable("image/png", b"\x89PNG"), None);
        assert_eq!(readable("", b"a\0b"), None);
        assert_eq!(readable("", b"words").as_deref(), Some("words"));
        assert_eq!(readable("application/json; charset=utf-8", b"{}").as_deref(), Some("{}"));
        assert_eq!(readable("text/plain; charset=iso-8859-1", b"\xe4").as_deref(), Some("\u{e4}"));
    }
}
