//! Text that somebody else wrote, made fit to be shown.

/// Characters that [`visible`] shows of a text.
const MAX_SHOWN: usize = 2_000;

/// Whether a character has no shape of its own, or reorders others: control
/// characters, zero-width and bidirectional ones.
pub fn is_unseen(character: char) -> bool {
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

/// A text with what a browser or a terminal would hide, drop, obey or reorder
/// written out, and cut where it is very long. Line breaks and tabs stay.
///
/// ```
/// assert_eq!(fsutil::visible("a\u{202e}b"), "a⟨U+202E⟩b");
/// ```
pub fn visible(text: &str) -> String {
    shown(text, |c| matches!(c, '\n' | '\t'))
}

/// As [`visible`], on one line: line breaks and tabs are written out too, so that
/// nobody can forge a line of a report.
pub fn one_line(text: &str) -> String {
    shown(text, |_| false)
}

fn shown(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len().min(4 * MAX_SHOWN));
    let mut characters = text.chars();
    for character in characters.by_ref().take(MAX_SHOWN) {
        if is_unseen(character) && !keep(character) {
            out += &format!("⟨U+{:04X}⟩", u32::from(character));
        } else {
            out.push(character);
        }
    }
    match characters.count() {
        0 => out,
        more => format!("{out}… and {more} more characters"),
    }
}

/// A number of bytes in words: `2.45 GB`. Units are powers of 1,000.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_SHOWN, one_line, size, visible};

    #[test]
    fn what_a_terminal_or_browser_would_obey_is_written_out() {
        assert_eq!(
            visible("a\0b\u{202e}c\u{7f}"),
            "a⟨U+0000⟩b⟨U+202E⟩c⟨U+007F⟩"
        );
        assert_eq!(visible("é 漢\n"), "é 漢\n");
        assert_eq!(one_line("a\r\n\u{1b}[2J"), "a⟨U+000D⟩⟨U+000A⟩⟨U+001B⟩[2J");
        let long = visible(&"x".repeat(MAX_SHOWN + 7));
        assert!(long.ends_with("x… and 7 more characters"));
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(size(999), "999 bytes");
        assert_eq!(size(1_500), "1.5 kB");
        assert_eq!(size(869_300), "869.3 kB");
        assert_eq!(size(1_300_000), "1.3 MB");
        assert_eq!(size(2_450_000_000), "2.45 GB");
    }
}
