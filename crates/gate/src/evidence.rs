//! Gathers what a stage finds.

use std::collections::BTreeMap;

use crate::transcript::{
    Axis, Bound, Check, CheckId, Finding, Found, Measure, Series, Stage, StageReport, TokenRows,
    Verdict,
};

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
    /// As [`StageReport::apple_device`].
    pub apple_device: Option<bool>,
    /// As [`StageReport::core_ai_recorded`].
    pub core_ai_recorded: Option<bool>,
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
    pub fn check(&mut self, check: Check) {
        self.checks.push(check);
    }

    /// Adds a check that some number of all must be all.
    pub fn all(&mut self, id: CheckId, prompt: Option<&str>, count: usize, of: usize) {
        self.check(Check::new(
            id,
            prompt,
            Found::Count { count, of },
            Bound::All,
        ));
    }

    /// Adds that the min of some cosines reaches a bound.
    pub fn cosine(
        &mut self,
        id: CheckId,
        of: Option<&str>,
        prompt: Option<&str>,
        min: f64,
        bound: f64,
    ) {
        let mut check = Check::new(id, prompt, Found::Cosine(min), Bound::AtLeast(bound));
        check.of = of.map(str::to_owned);
        self.check(check);
    }

    /// Adds cosines along an axis, none of which may be less than a bar.
    pub fn cosines(
        &mut self,
        what: &str,
        prompt: &str,
        (axis, first): (Axis, usize),
        values: Vec<f64>,
        bar: f64,
    ) {
        self.series.push(Series {
            what: what.to_owned(),
            measure: Measure::Cosine,
            prompt: Some(prompt.to_owned()),
            axis,
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
                check.what(),
                check.found(),
                check.must()
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
            apple_device: self.apple_device,
            core_ai_recorded: self.core_ai_recorded,
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
    min_margin: f32,
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
        .is_some_and(|margin| *margin < min_margin);
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
        let of = rows.expected.len();
        let count = rows.divergence.unwrap_or(of);
        let found = Found::Count { count, of };
        let mut check = Check::new(CheckId::Tokens, Some(&rows.prompt), found, Bound::All);
        check.of = Some(rows.what.clone());
        if let (Some(at), true) = (rows.divergence, rows.forgiven) {
            check.holds = true;
            check.note = Some(format!(
                "; the first difference is forgiven: token {at} leads by {}",
                rows.margins[at]
            ));
        }
        // A row that is longer than expected has all of them, and is not equal.
        check.holds &= rows.divergence.is_none() || rows.forgiven;
        self.check(check);
        self.show(rows, text);
    }

    /// Adds rows of tokens that nothing is held against.
    pub fn show(&mut self, mut rows: TokenRows, text: impl Fn(u32) -> String) {
        rows.expected_text = rows.expected.iter().map(|id| text(*id)).collect();
        rows.found_text = rows.found.iter().map(|id| text(*id)).collect();
        self.tokens.push(rows);
    }
}
