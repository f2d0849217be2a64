//! Tokens of two sides, next to each other.

use serde::Serialize;

use super::{number, text};
use crate::transcript::TokenRows;

/// Tokens that are shown: around the first divergence, or from the start.
const SHOWN: usize = 128;
/// How many of them lie before the divergence.
const BEFORE: usize = 32;
/// Characters of a token's text that are shown.
const MAX_TEXT: usize = 24;

/// Two rows of tokens.
#[derive(Debug, Serialize)]
pub struct Tokens<'t> {
    what: &'t str,
    prompt: &'t str,
    sides: &'t [String; 2],
    /// `pass`, `forgiven` or `fail`.
    verdict: &'static str,
    note: String,
    pairs: Vec<Pair>,
    /// Tokens that are left out before and behind.
    before: usize,
    behind: usize,
}

#[derive(Debug, Serialize)]
struct Pair {
    at: usize,
    /// `same`, `other`, or `first`: the first divergence.
    kind: &'static str,
    expected: Option<Token>,
    found: Option<Token>,
    margin: Option<String>,
}

#[derive(Debug, Serialize)]
struct Token {
    text: String,
    id: u32,
}

impl<'t> Tokens<'t> {
    /// Puts them next to each other.
    pub fn new(rows: &'t TokenRows) -> Self {
        let count = rows.expected.len().max(rows.found.len());
        let start = match rows.divergence {
            Some(at) if count > SHOWN => at.saturating_sub(BEFORE).min(count - SHOWN),
            _ => 0,
        };
        let end = count.min(start + SHOWN);
        Self {
            what: &rows.what,
            prompt: &rows.prompt,
            sides: &rows.sides,
            verdict: match (rows.divergence, rows.forgiven) {
                (None, _) => "pass",
                (Some(_), true) => "forgiven",
                (Some(_), false) => "fail",
            },
            note: note(rows),
            pairs: (start..end).map(|at| Pair::new(rows, at)).collect(),
            before: start,
            behind: count - end,
        }
    }
}

fn note(rows: &TokenRows) -> String {
    let count = rows.expected.len();
    let Some(at) = rows.divergence else {
        return format!("{count} of {count} equal");
    };
    let margin = rows.margins.get(at).copied();
    let leads = margin.map(|margin| number::short(margin.into()));
    let leads = leads.map_or_else(
        || "by how much the expected one leads is not known".to_owned(),
        |margin| format!("the expected one leads by {margin}"),
    );
    let verdict = if rows.forgiven {
        "forgiven, since no gate relies on so little"
    } else {
        "not forgiven"
    };
    format!("first divergence at token {at}: {leads}; {verdict}")
}

impl Pair {
    fn new(rows: &TokenRows, at: usize) -> Self {
        let token = |ids: &[u32], texts: &[String]| {
            let id = *ids.get(at)?;
            let text = texts
                .get(at)
                .map_or_else(|| format!("id {id}"), |text| text::token(text));
            Some(Token {
                text: text::cut(&text, MAX_TEXT),
                id,
            })
        };
        let same = rows.expected.get(at) == rows.found.get(at);
        Self {
            at,
            kind: if rows.divergence == Some(at) {
                "first"
            } else if same {
                "same"
            } else {
                "other"
            },
            expected: token(&rows.expected, &rows.expected_text),
            found: token(&rows.found, &rows.found_text),
            margin: rows
                .margins
                .get(at)
                .map(|margin| number::short((*margin).into())),
        }
    }
}
