//! Names from elsewhere: ids of repositories, paths of files.

/// Whether `id` could be `organization/name` on the hub.
pub fn is_repository_id(id: &str) -> bool {
    let is_part = |part: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        part.len() <= 96
            && part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && !part.ends_with(['-', '.'])
            && part.chars().all(plain)
            && !part.contains("..")
            && !part.contains("--")
    };
    id.split_once('/')
        .is_some_and(|(organization, name)| is_part(organization) && is_part(name))
}

/// Whether `path`, joined to a folder, stays below it on every system, as
/// [`fsutil::check_relative`] has it.
pub fn is_safe(path: &str) -> bool {
    fsutil::check_relative(path).is_ok()
}

pub(crate) fn is_commit(text: &str) -> bool {
    is_hex(text, 40)
}

pub(crate) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Text of a server as one short line that is safe to print.
pub(crate) fn short_line(text: &str) -> String {
    const MAX: usize = 300;
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = fsutil::one_line(&words.join(" "));
    match line.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_elsewhere_are_not_safe() {
        // The rules and their tests are fsutil's.
        for path in ["", "..", "/etc/passwd", "a/../x", "a\\b", "C:x", "a\nb"] {
            assert!(!is_safe(path), "{path:?}");
        }
        for path in ["a/b/c.bin", ".gitattributes", "ä/微调.json"] {
            assert!(is_safe(path), "{path:?}");
        }
    }

    #[test]
    fn ids_are_an_organization_and_a_name() {
        assert!(is_repository_id("organization/model"));
        for id in [
            "", "a", "a/b/c", "../x", "a/..", "-a/b", "a/b ", "a\\b", "a/", "/b", "a--b/c",
        ] {
            assert!(!is_repository_id(id), "{id:?}");
        }
    }

    #[test]
    fn a_servers_text_becomes_one_short_line() {
        assert_eq!(short_line(" a\r\n\u{1b}[2Jb"), "a ⟨U+001B⟩[2Jb");
        assert_eq!(short_line(&"x".repeat(1000)).chars().count(), 301);
    }
}
