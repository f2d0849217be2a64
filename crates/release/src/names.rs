//! Names of files that somebody else may have chosen.

/// The longest path in a release, in bytes.
const LONGEST: usize = 400;
/// How many folders deep a file may lie.
const DEEPEST: usize = 6;
/// What Windows takes for a device, with whatever extension.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// Says why a path cannot be one of a release's: relative, with `/`, of names
/// that every file system can hold, and that lead nowhere else on any.
pub fn check(path: &str) -> Result<(), String> {
    if path.is_empty() || path.len() > LONGEST {
        return Err(format!(
            "expected a path of 1 to {LONGEST} bytes, found {}",
            path.len()
        ));
    }
    let parts = path.split('/');
    if parts.clone().count() > DEEPEST {
        return Err(format!("lies more than {DEEPEST} folders deep"));
    }
    for part in parts {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if part.is_empty() {
            return Err("expected names with one `/` between them".to_owned());
        }
        if part == "." || part == ".." {
            return Err(format!("`{part}` would lead to another folder"));
        }
        if let Some(other) = part.chars().find(|c| !plain(*c)) {
            return Err(format!(
                "expected Latin letters, digits, `_`, `-` and `.`, found {other:?}"
            ));
        }
        // The shell takes one for an option, Windows drops the other.
        if part.starts_with('-') || part.ends_with('.') {
            return Err(format!("{part:?} starts with `-` or ends with `.`"));
        }
        let stem = part.split('.').next().unwrap_or_default();
        let stem = stem.to_ascii_lowercase();
        let port = stem.len() == 4 && (stem.starts_with("com") || stem.starts_with("lpt"));
        if DEVICES.contains(&stem.as_str()) || port && stem.ends_with(|c: char| c.is_ascii_digit())
        {
            return Err(format!("{part:?} is the name of a device on Windows"));
        }
    }
    Ok(())
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
