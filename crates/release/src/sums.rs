//! `SHA256SUMS`: what follows from the checkpoint and the recipe alone.
//!
//! It lists every file of a release but itself, the card and the transcripts:
//! those say what one machine measured. So the same checkpoint gives the same
//! `SHA256SUMS` on every machine. The card is bound to the evidence in another
//! way: it is made from it, and names each transcript with its hash.

use std::collections::BTreeMap;

use crate::{
    error::{Problems, Result},
    folder::Listing,
    names::{self, SUMS},
    path,
};

/// No such file is larger.
pub(crate) const MAX_BYTES: u64 = 1 << 20;

/// Whether a file of a release is listed.
pub fn lists(path: &str) -> bool {
    ![SUMS, names::CARD].contains(&path) && !names::is_in(path, names::TRANSCRIPTS)
}

/// What the file says of a listing, as `sha256sum` writes and checks it.
pub fn write(listing: &Listing) -> String {
    let listed = listing.files.iter().filter(|entry| lists(&entry.path));
    let lines = listed.map(|entry| format!("{}  {}\n", entry.sha256, entry.path));
    lines.collect()
}

/// Reads the file: hashes by path.
///
/// # Errors
/// A line that is not as [`write()`] writes it, or a path that leads elsewhere.
pub fn parse(text: &str) -> Result<BTreeMap<String, String>> {
    let mut problems = Problems::default();
    let mut sums = BTreeMap::new();
    let mut last = "";
    for (number, line) in (1..).zip(text.split_terminator('\n')) {
        let place = format!("{SUMS}, line {number}");
        let Some((hash, path)) = line.split_once("  ") else {
            problems.add(
                place,
                format!("expected a hash and a path, found {line:.100?}"),
            );
            continue;
        };
        let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if hash.len() != 64 || !hash.bytes().all(hex) {
            problems.add(
                &place,
                format!("{hash:.100?} is not a SHA-256 in hexadecimal"),
            );
        }
        if let Err(why) = path::check(path) {
            problems.add(&place, format!("{path:.100?}: {why}"));
            continue;
        }
        problems.unless(last < path, &place, || {
            format!("{path} is not behind {last} in the order of bytes")
        });
        last = path;
        sums.insert(path.to_owned(), hash.to_owned());
    }
    problems.none()?;
    Ok(sums)
}

/// Compares a folder with what its file states.
pub(crate) fn check(text: &str, listing: &Listing, problems: &mut Problems) -> Result<()> {
    let Some(mut stated) = problems.take(parse(text))? else {
        return Ok(());
    };
    for entry in listing.files.iter().filter(|entry| lists(&entry.path)) {
        match stated.remove(&entry.path) {
            None => problems.add(
                &entry.path,
                format!("is there, and {SUMS} does not list it"),
            ),
            Some(hash) => problems.unless(hash == entry.sha256, &entry.path, || {
                format!("its SHA-256 is {}, and {SUMS} states {hash}", entry.sha256)
            }),
        }
    }
    for path in stated.keys() {
        let message = if lists(path) {
            format!("is missing, and {SUMS} lists it")
        } else {
            format!("is in {SUMS}, which lists neither card nor evidence")
        };
        problems.add(path, message);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_what_is_written_is_read() {
        let hash = "0".repeat(64);
        let good = format!("{hash}  LICENSE\n{hash}  a/b\n");
        assert_eq!(parse(&good).unwrap().len(), 2);
        for (bad, part) in [
            (format!("{hash} LICENSE\n"), "expected a hash and a path"),
            (format!("{hash}  /etc/passwd\n"), "line 1: \"/etc/passwd\""),
            (format!("{hash}  ../x\n"), "would lead to another folder"),
            (format!("{hash}  a\\..\\b\n"), "found '\\\\'"),
            (format!("{}  LICENSE\n", "G".repeat(64)), "not a SHA-256"),
            (
                format!("{hash}  b\n{hash}  a\n"),
                "line 2: a is not behind b",
            ),
            (format!("{hash}  a\n{hash}  a\n"), "not behind a"),
            (format!("{hash}  a\r\n"), "found '\\r'"),
        ] {
            let error = parse(&bad).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
