//! Text that nobody vouches for, made fit to be shown.

use serde_json::Value;

/// Characters of a text that are shown; the transcript has all.
const LONGEST: usize = 2_000;

/// Makes every text of a page visible and finite.
pub fn sanitize(value: &mut Value) {
    match value {
        Value::String(text) => *text = shown(text),
        Value::Array(values) => values.iter_mut().for_each(sanitize),
        // Their keys are the page's own.
        Value::Object(map) => map.values_mut().for_each(sanitize),
        _ => {}
    }
}

/// A text with what a browser or a terminal would hide, drop, obey or reorder
/// written out, cut where it is very long.
pub fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(4 * LONGEST));
    let mut characters = text.chars();
    for character in characters.by_ref().take(LONGEST) {
        match character {
            '\n' | '\t' => out.push(character),
            _ if hidden(character) => out += &format!("⟨U+{:04X}⟩", u32::from(character)),
            _ => out.push(character),
        }
    }
    match characters.count() {
        0 => out,
        more => format!("{out}… and {more} more characters"),
    }
}

/// At most so many characters of a text, for where there is room for no more.
pub fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Whether a character has no shape of its own, or turns others around.
pub fn hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{061c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{fffe}'..='\u{ffff}'
        )
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
    use super::{LONGEST, cut, shown, token};

    #[test]
    fn what_a_browser_would_hide() {
        assert_eq!(shown("a\0b\u{202e}c\u{7f}"), "a⟨U+0000⟩b⟨U+202E⟩c⟨U+007F⟩");
        assert_eq!(shown("é 漢\n"), "é 漢\n");
        let long = "x".repeat(LONGEST + 7);
        let shown = shown(&long);
        assert!(cut(&long, 2) == "xx…" && cut("ab", 2) == "ab");
        assert!(shown.ends_with("x… and 7 more characters"));
    }

    #[test]
    fn a_token_shows_its_ends() {
        assert_eq!(token(" red"), "␣red");
        assert_eq!(token("a b \n"), "a b␣⏎");
        assert_eq!(token("  "), "␣␣");
        assert_eq!(token(""), "");
    }
}
