//! Assertions about messages.

/// Asserts that a text has all of these parts.
#[track_caller]
pub fn assert_contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "expected {part:?} in: {text}");
    }
}

/// Asserts that a text is one line that has all of these parts.
#[track_caller]
pub fn assert_one_line(text: &str, parts: &[&str]) {
    assert!(!text.contains('\n'), "more than one line: {text}");
    assert_contains(text, parts);
}

#[cfg(test)]
mod tests {
    use super::{assert_contains, assert_one_line};

    #[test]
    fn a_text_with_all_parts_passes() {
        assert_contains("a\nb", &["a", "b"]);
        assert_one_line("a b", &["a", "b"]);
    }

    #[test]
    #[should_panic = "expected \"c\" in"]
    fn a_missing_part_fails() {
        assert_contains("a b", &["a", "c"]);
    }

    #[test]
    #[should_panic = "more than one line"]
    fn a_second_line_fails() {
        assert_one_line("a\nb", &["a"]);
    }
}
