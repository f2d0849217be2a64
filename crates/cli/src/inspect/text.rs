//! The report as text.

use super::{Contents, Program};
use crate::progress::size;
use aimodel::{Function, METADATA, Summary};
use anyhow::Result;
use gate::{lint::RULES, transcript::Finding};
use serde_json::Value;
use std::fmt::Write as _;

impl Contents {
    /// The whole report.
    pub fn text(&self) -> Result<String> {
        let mut text = String::new();
        if let Some((metadata, tokenizer)) = &self.bundle {
            bundle_text(metadata, tokenizer, &mut text)?;
        }
        for program in &self.programs {
            program.text(&mut text)?;
        }
        if let Some(findings) = &self.findings {
            lint_text(findings, &mut text)?;
        }
        Ok(text)
    }
}

/// A text out of a file, on one line: what somebody else wrote may not forge a
/// line of this report, nor command the terminal.
pub fn plain(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}

fn bundle_text(metadata: &Value, tokenizer: &[(String, u64)], text: &mut String) -> Result<()> {
    match metadata.as_object() {
        Some(object) => {
            writeln!(text, "bundle")?;
            for (key, value) in object {
                match value {
                    Value::String(value) => writeln!(text, "  {}: {}", plain(key), plain(value))?,
                    value => writeln!(text, "  {}: {}", plain(key), plain(&value.to_string()))?,
                }
            }
        }
        None => writeln!(text, "bundle without {METADATA}")?,
    }
    for (name, bytes) in tokenizer {
        writeln!(text, "  tokenizer/{}: {}", plain(name), size(*bytes))?;
    }
    Ok(())
}

impl Program {
    fn text(&self, text: &mut String) -> Result<()> {
        writeln!(text, "{}", plain(&self.path.display().to_string()))?;
        writeln!(text, "  size: {} ({} bytes)", size(self.bytes), self.bytes)?;
        if let (Some(asset), Some(hash)) = (&self.asset, &self.hash) {
            match self.hash_fits() {
                true => writeln!(text, "  hash: ok, {}", hex::encode(hash))?,
                false => writeln!(
                    text,
                    "  hash: WRONG, {} is stated and {} was found",
                    hex::encode(asset.stated_hash),
                    hex::encode(hash)
                )?,
            }
            let metadata = &asset.metadata;
            let lines = [
                ("made", &metadata.creation_date),
                ("by", &metadata.producer),
                ("author", &metadata.author),
                ("license", &metadata.license),
                ("description", &metadata.description),
            ];
            for (key, value) in lines {
                if let Some(value) = value {
                    writeln!(text, "  {key}: {}", plain(value))?;
                }
            }
        }
        let fault = self.fault.as_deref().unwrap_or("ok");
        writeln!(text, "  verify: {}", plain(fault))?;
        match &self.summary {
            Ok(summary) => summary_text(summary, text)?,
            Err(problem) => writeln!(text, "  no summary: {}", plain(problem))?,
        }
        Ok(())
    }
}

fn summary_text(summary: &Summary, text: &mut String) -> Result<()> {
    if let Some(version) = summary.version {
        writeln!(text, "  version: {version}")?;
    }
    for function in &summary.functions {
        function_text(function, text)?;
    }
    writeln!(text, "  storage")?;
    for storage in &summary.storage {
        writeln!(
            text,
            "    {:<5} {:>14} elements {:>10}",
            storage.element,
            storage.elements,
            size(storage.bytes)
        )?;
    }
    let (count, bytes) = summary.resources;
    writeln!(text, "    {count} resources hold {}", size(bytes))?;
    writeln!(text, "  operations")?;
    operations_text("all", &summary.operations, text)?;
    // Composites are called once for each layer: one line for each kernel.
    let public = summary.graphs.iter().filter(|graph| !graph.private);
    for graph in public {
        operations_text(&format!("@{}", graph.name), &graph.operations, text)?;
    }
    let mut kernels: Vec<(&str, Vec<&aimodel::GraphSummary>)> = Vec::new();
    for graph in summary.graphs.iter().filter(|graph| graph.private) {
        let kernel = graph.composite.as_deref().unwrap_or("private");
        match kernels.iter_mut().find(|(name, _)| *name == kernel) {
            Some((_, graphs)) => graphs.push(graph),
            None => kernels.push((kernel, vec![graph])),
        }
    }
    for (kernel, graphs) in kernels {
        writeln!(text, "  composite {}", plain(kernel))?;
        for graph in graphs {
            operations_text(&format!("@{}", graph.name), &graph.operations, text)?;
        }
    }
    Ok(())
}

fn function_text(function: &Function, text: &mut String) -> Result<()> {
    writeln!(text, "  function {}", plain(&function.name))?;
    let groups = [
        ("input", &function.inputs),
        ("state", &function.states),
        ("output", &function.outputs),
    ];
    for (kind, parameters) in groups {
        for parameter in parameters {
            let parameter = plain(&parameter.to_string());
            writeln!(text, "    {kind:<6} {parameter}")?;
        }
    }
    Ok(())
}

fn operations_text(of: &str, operations: &[(String, u64)], text: &mut String) -> Result<()> {
    let total: u64 = operations.iter().map(|(_, count)| count).sum();
    let listed: Vec<String> = operations
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    let listed = plain(&listed.join(", "));
    writeln!(text, "    {}: {total} = {listed}", plain(of))?;
    Ok(())
}

fn lint_text(findings: &[Finding], text: &mut String) -> Result<()> {
    writeln!(text, "lint")?;
    if findings.is_empty() {
        writeln!(text, "  no finding, by {} rules", RULES.len())?;
    }
    for finding in findings {
        let (rule, place) = (&finding.rule, plain(&finding.place));
        writeln!(text, "  {rule}: {place}")?;
        writeln!(text, "    {}", plain(&finding.message))?;
    }
    Ok(())
}
