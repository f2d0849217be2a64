//! Names and paths that somebody else may have chosen.

/// The longest relative path, in bytes.
const MAX_PATH: usize = 1024;
/// The longest name that common file systems take, in bytes.
const MAX_NAME: usize = 255;
/// What Windows takes for a device, with whatever extension.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// Checks that `name`, joined to a folder, is a file or folder in it, on every
/// system.
///
/// # Errors
/// What is wrong with it, as the end of a sentence about it.
///
/// ```
/// assert!(fsutil::check_name("main.mlirb").is_ok());
/// assert!(fsutil::check_name("../main.mlirb").is_err());
/// ```
pub fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_NAME {
        let found = name.len();
        return Err(format!(
            "expected a name of 1 to {MAX_NAME} bytes, found {found}"
        ));
    }
    if name == "." || name == ".." {
        return Err(format!("`{name}` would lead to another folder"));
    }
    let odd = |c: &char| {
        crate::is_unseen(*c) || matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')
    };
    if let Some(found) = name.chars().find(odd) {
        return Err(format!(
            "expected the name of a file, found {found:?} in it"
        ));
    }
    // Windows drops dots and spaces at the end; shells take `-` for an option.
    if name.starts_with([' ', '-']) || name.ends_with(['.', ' ']) {
        return Err(format!(
            "{name:?} starts with a space or `-`, or ends with a space or `.`"
        ));
    }
    let stem = name.split('.').next().unwrap_or_default();
    let stem = stem.trim_end().to_ascii_lowercase();
    let port = ["com", "lpt"].map(|port| stem.strip_prefix(port));
    // Windows takes a superscript digit for a digit.
    let digit = |rest: &str| matches!(rest, "¹" | "²" | "³") || is_digit(rest);
    if DEVICES.contains(&stem.as_str()) || port.into_iter().flatten().any(digit) {
        return Err(format!("{name:?} is the name of a device on Windows"));
    }
    Ok(())
}

fn is_digit(text: &str) -> bool {
    matches!(text.as_bytes(), [byte] if byte.is_ascii_digit())
}

/// Checks that `path`, joined to a folder, stays below it on every system: names
/// with one `/` between them, each as [`check_name`] wants it.
///
/// # Errors
/// What is wrong with it, as the end of a sentence about it.
pub fn check_relative(path: &str) -> Result<(), String> {
    if path.is_empty() || path.len() > MAX_PATH {
        let found = path.len();
        return Err(format!(
            "expected a path of 1 to {MAX_PATH} bytes, found {found}"
        ));
    }
    path.split('/').try_for_each(check_name)
}

#[cfg(test)]
mod tests {
    use super::{check_name, check_relative};

    #[test]
    fn plain_names_and_paths_pass() {
        for path in [
            "README.md",
            "gpu-pipelined/a_decode_int8hu_s1/a.aimodel/main.mlirb",
            "console.txt",
            "com10.json",
            "config.json",
            ".gitattributes",
            "..a",
            "a..b",
            "a b",
            "ä/微调.json",
            "x.con",
        ] {
            assert_eq!(check_relative(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn what_leads_elsewhere_or_hides_is_refused() {
        let (long, deep) = ("x".repeat(256), "x/".repeat(600));
        for path in [
            "",
            ".",
            "..",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a/./b",
            "a//b",
            "a/",
            "/",
            "a\\b",
            "..\\x",
            "C:/x",
            "C:\\x",
            "C:x",
            "\\\\host\\share",
            "a\n",
            "a\0b",
            "a\u{7f}",
            "a\u{202e}b",
            "a\u{200b}",
            "x.",
            "x ",
            " x",
            "-rf",
            "a/-rf",
            "nul",
            "NUL.txt",
            "con",
            "a/Con.json",
            "com1",
            "LPT9.md",
            "COM².txt",
            "a*",
            "a?",
            "x:y",
            "file:///x",
            &long,
            &deep,
        ] {
            assert!(check_relative(path).is_err(), "{path:?}");
            assert!(check_name(path).is_err(), "{path:?}");
        }
    }
}
