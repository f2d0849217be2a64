//! Gathers what a stage finds.

use std::collections::BTreeMap;

use crate::transcript::{Check, Finding, Measure, Series, Stage, StageReport, TokenRows, Verdict};

/// What a stage has found so far.
#[derive(Debug, Default)]
pub struct Evidence {
    /// What must hold, and whether it does.
    pub checks: Vec<Check>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Numbers along an axis.
    pub series: Vec<Series>,
    /// Tokens side by side.
    pub tokens: Vec<TokenRows>,
    /// Further facts.
    pub facts: BTreeMap<String, String>,
    /// Said after the summary: under what condition all this was found.
    pub note: Option<String>,
    skipped: Option<String>,
}

impl Evidence {
    /// That a stage cannot run, and why.
    pub fn skip(why: impl Into<String>) -> Evidence {
        Evidence {
            skipped: Some(why.into()),
            ..Evidence::default()
        }
    }

    /// Adds a check.
    pub fn check(
        &mut self,
        what: impl Into<String>,
        prompt: Option<&str>,
        found: impl ToString,
        must: impl Into<String>,
        holds: bool,
    ) {
        self.checks.push(Check {
            what: what.into(),
            prompt: prompt.map(str::to_owned),
            found: found.to_string(),
            must: must.into(),
            holds,
        });
    }

    /// Adds that the least of some cosines reaches a bar.
    pub fn cosine(&mut self, what: &str, prompt: Option<&str>, least: f64, bar: f64) {
        let found = format!("{least:.9}");
        self.check(what, prompt, found, format!("at least {bar}"), least >= bar);
    }

    /// Adds cosines along an axis, none of which may be less than a bar.
    pub fn cosines(
        &mut self,
        what: &str,
        prompt: &str,
        (axis, first): (&str, usize),
        values: Vec<f64>,
        bar: f64,
    ) {
        self.series.push(Series {
            what: what.to_owned(),
            measure: Measure::Cosine,
            prompt: Some(prompt.to_owned()),
            axis: axis.to_owned(),
            first,
            step: 1,
            values,
            bar: Some(bar),
        });
    }

    /// Adds a fact.
    pub fn fact(&mut self, name: &str, value: impl ToString) {
        self.facts.insert(name.to_owned(), value.to_string());
    }

    /// The report. It fails where a check does not hold or something is found.
    pub fn report(self, stage: Stage, seconds: f64) -> StageReport {
        let failed = self.checks.iter().filter(|check| !check.holds).count();
        let total = self.checks.len();
        let (verdict, summary) = if let Some(why) = self.skipped {
            (Verdict::Skipped, why)
        } else if let Some(check) = self.checks.iter().find(|check| !check.holds) {
            let prompt = check.prompt.as_ref();
            let of = prompt.map_or_else(String::new, |prompt| format!("{prompt}: "));
            let more = match failed {
                1 => String::new(),
                _ => format!(", and {} more of {total} checks fail", failed - 1),
            };
            let said = format!(
                "{of}{}: found {}, must be {}{more}",
                check.what, check.found, check.must
            );
            (Verdict::Fail, said)
        } else if let Some(finding) = self.findings.first() {
            let more = match self.findings.len() {
                1 => String::new(),
                count => format!(", and {} more", count - 1),
            };
            let said = format!(
                "{}: {}: {}{more}",
                finding.rule, finding.place, finding.message
            );
            (Verdict::Fail, said)
        } else {
            (Verdict::Pass, format!("{total} checks hold"))
        };
        let summary = match self.note {
            Some(note) => format!("{summary}; {note}"),
            None => summary,
        };
        StageReport {
            stage,
            verdict,
            summary,
            seconds,
            checks: self.checks,
            findings: self.findings,
            series: self.series,
            tokens: self.tokens,
            facts: self.facts,
        }
    }
}

/// Compares two rows of tokens; `margins` are the reference's.
pub fn tokens(
    what: &str,
    prompt: &str,
    sides: [&str; 2],
    [expected, found]: [&[u32]; 2],
    margins: &[f32],
    least_margin: f32,
) -> TokenRows {
    let pairs = expected.iter().zip(found);
    let differs = pairs.clone().position(|(a, b)| a != b);
    let divergence = differs.or_else(|| {
        let shorter = pairs.len();
        (expected.len() != found.len()).then_some(shorter)
    });
    // A margin is known only of what the reference itself said up to there.
    let forgiven = divergence
        .and_then(|at| margins.get(at))
        .is_some_and(|margin| *margin < least_margin);
    TokenRows {
        what: what.to_owned(),
        prompt: prompt.to_owned(),
        sides: sides.map(str::to_owned),
        expected: expected.to_vec(),
        found: found.to_vec(),
        expected_text: Vec::new(),
        found_text: Vec::new(),
        margins: margins.to_vec(),
        divergence,
        forgiven,
    }
}

impl Evidence {
    /// Adds rows of tokens, and the check that they are equal. `text` makes a
    /// token readable.
    pub fn compare(&mut self, rows: TokenRows, text: impl Fn(u32) -> String) {
        let equal = rows.divergence.unwrap_or(rows.expected.len());
        let count = rows.expected.len();
        let found = match (rows.divergence, rows.forgiven) {
            (Some(at), true) => {
                format!(
                    "{equal} of {count}; the first other one is forgiven: token {at} leads by {}",
                    rows.margins[at]
                )
            }
            _ => format!("{equal} of {count}"),
        };
        let holds = rows.divergence.is_none() || rows.forgiven;
        let must = format!("{count} of {count}");
        self.check(rows.what.clone(), Some(&rows.prompt), found, must, holds);
        self.show(rows, text);
    }

    /// Adds rows of tokens that nothing is held against.
    pub fn show(&mut self, mut rows: TokenRows, text: impl Fn(u32) -> String) {
        rows.expected_text = rows.expected.iter().map(|id| text(*id)).collect();
        rows.found_text = rows.found.iter().map(|id| text(*id)).collect();
        self.tokens.push(rows);
    }
}
