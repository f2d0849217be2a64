//! Names that come from outside: ids of repositories, paths of files.

/// Longest path in a repository that is taken.
const LONGEST: usize = 1024;
/// Longest part of a path that common file systems take.
const LONGEST_PART: usize = 255;
/// Files and folders that Windows takes for devices, whatever their extension.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "com", "lpt"];

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

/// Whether `path`, joined to a folder, stays below it on every system: parts
/// between slashes, none of them special, no backslash, colon or control
/// character.
pub fn is_safe(path: &str) -> bool {
    path.len() <= LONGEST && path.split('/').all(is_safe_part)
}

fn is_safe_part(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or_default();
    let stem = stem.trim_end_matches(|c: char| c.is_ascii_digit());
    let device = DEVICES.iter().any(|name| stem.eq_ignore_ascii_case(name));
    let odd =
        |c: char| c.is_control() || matches!(c, '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|');
    !part.is_empty()
        && part.len() <= LONGEST_PART
        && !part.ends_with(['.', ' '])
        && !part.starts_with(' ')
        && !device
        && !part.contains(odd)
}

pub(crate) fn is_commit(text: &str) -> bool {
    is_hex(text, 40)
}

pub(crate) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Text of a server, fit to be shown: one line, not long.
pub(crate) fn tame(text: &str) -> String {
    const MOST: usize = 300;
    let mut line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MOST)
        .collect();
    if line.chars().count() == MOST {
        line.push('…');
    }
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_elsewhere_are_not_safe() {
        for path in [
            "",
            ".",
            "..",
            "/etc/passwd",
            "../x",
            "a/../x",
            "a/./b",
            "a//b",
            "a/",
            "/",
            "a\\b",
            "..\\x",
            "C:\\x",
            "C:x",
            "c:/x",
            "\\\\host\\x",
            "a\0b",
            "a\nb",
            "a\u{7f}",
            "x.",
            "x ",
            " x",
            "con",
            "NUL.txt",
            "com1",
            "a/LPT9.json",
            "a*",
            "a?",
            "x:y",
            "file:///x",
            &"x".repeat(256),
            &"x/".repeat(600),
        ] {
            assert!(!is_safe(path), "{path:?}");
        }
        for path in [
            "config.json",
            "a/b/c.bin",
            ".gitattributes",
            "..a",
            "a..b",
            "a b",
            "ä/微调.json",
            "model-00001-of-00002.safetensors",
            "console.log",
            "x.con",
        ] {
            assert!(is_safe(path), "{path:?}");
        }
    }

    #[test]
    fn ids_are_an_organization_and_a_name() {
        assert!(is_repository_id("Qwen/Qwen3-VL-2B-Instruct"));
        for id in [
            "", "a", "a/b/c", "../x", "a/..", "-a/b", "a/b ", "a\\b", "a/", "/b", "a--b/c",
        ] {
            assert!(!is_repository_id(id), "{id:?}");
        }
    }

    #[test]
    fn what_a_server_says_stays_one_short_line() {
        assert_eq!(tame("a\r\n\u{1b}[2Jb"), "a   [2Jb");
        assert_eq!(tame(&"x".repeat(1000)).chars().count(), 301);
    }
}
