//! Text from elsewhere, made safe to show.

use serde_json::Value;

/// Makes every text of a page visible and finite.
pub fn sanitize(value: &mut Value) {
    match value {
        Value::String(text) => *text = fsutil::visible(text),
        Value::Array(values) => values.iter_mut().for_each(sanitize),
        // Their keys are the page's own.
        Value::Object(map) => map.values_mut().for_each(sanitize),
        _ => {}
    }
}

/// At most so many characters of a text, for where there is room for no more.
pub fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A token: spaces at its ends and line breaks are part of it.
pub fn token(text: &str) -> String {
    let visible = |character| match character {
        '\n' => '⏎',
        '\t' => '⇥',
        ' ' => '␣',
        other => other,
    };
    let inner = text.trim_matches([' ', '\n', '\t']);
    let start = text.len() - text.trim_start_matches([' ', '\n', '\t']).len();
    let (before, rest) = text.split_at(start);
    let after = rest.get(inner.len()..).unwrap_or_default();
    let inner = inner.replace('\n', "⏎").replace('\t', "⇥");
    let [before, after] = [before, after].map(|ends| ends.chars().map(visible).collect::<String>());
    format!("{before}{inner}{after}")
}

#[cfg(test)]
mod tests {
    use super::{cut, token};

    #[test]
    fn a_long_text_is_cut() {
        assert!(cut("xxx", 2) == "xx…" && cut("ab", 2) == "ab");
    }

    #[test]
    fn a_token_shows_its_ends() {
        assert_eq!(token(" red"), "␣red");
        assert_eq!(token("a b \n"), "a b␣⏎");
        assert_eq!(token("  "), "␣␣");
        assert_eq!(token(""), "");
    }
}
