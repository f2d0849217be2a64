//! Paths of a release: stricter than what [`fsutil::check_relative`] lets pass.

/// The longest path in a release, in bytes.
const MAX_BYTES: usize = 400;
/// How many folders deep a file may lie.
const MAX_DEPTH: usize = 6;

/// Says why a path cannot be one of a release's: relative, with `/`, of names
/// that every file system can hold, and that lead nowhere else on any.
pub fn check(path: &str) -> Result<(), String> {
    if path.is_empty() || path.len() > MAX_BYTES {
        return Err(format!(
            "expected a path of 1 to {MAX_BYTES} bytes, found {}",
            path.len()
        ));
    }
    let parts = path.split('/');
    if parts.clone().count() > MAX_DEPTH {
        return Err(format!("lies more than {MAX_DEPTH} folders deep"));
    }
    for part in parts {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if part.is_empty() {
            return Err("expected names with one `/` between them".to_owned());
        }
        if let Some(other) = part.chars().find(|c| !plain(*c)) {
            return Err(format!(
                "expected Latin letters, digits, `_`, `-` and `.`, found {other:?}"
            ));
        }
    }
    fsutil::check_relative(path)
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn plain_paths_pass() {
        for path in [
            "README.md",
            "gpu-pipelined/a_decode_int8hu_s1/a.aimodel/main.mlirb",
            "transcripts/a_cpu.json",
            "console.txt",
            "com10.json",
        ] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        let long = "a".repeat(401);
        for path in [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a/./b",
            "a//b",
            "a/",
            "a\\b",
            "C:/x",
            "C:x",
            "\\\\host\\share",
            "a b",
            "a\n",
            "a\0b",
            "é",
            "~/x",
            "$HOME",
            "-rf",
            "a/-rf",
            "x.",
            "nul",
            "NUL.txt",
            "a/Con.json",
            "com1",
            "LPT9.md",
            "a/b/c/d/e/f/g",
            &long,
        ] {
            assert!(check(path).is_err(), "{path}");
        }
    }
}
