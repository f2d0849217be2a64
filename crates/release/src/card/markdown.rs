//! Text of others in Markdown.

/// Text of somebody else's, as text of a line of Markdown and of a cell of a
/// table.
pub fn text(given: &str) -> String {
    let mut out = String::new();
    for c in given.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '$' | '!' => {
                out.push('\\');
                out.push(c);
            }
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            c if fsutil::is_unseen(c) => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn text_stays_text() {
        assert_eq!(
            text("a | <b> *c*\n`d` [e](f)"),
            "a \\| &lt;b&gt; \\*c\\* \\`d\\` \\[e\\](f)"
        );
    }
}
