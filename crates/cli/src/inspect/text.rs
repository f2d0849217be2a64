//! The report as text.

use super::{
    contents::{Contents, Program},
    model::Model,
};
use crate::progress::size;
use aimodel::{Function, METADATA, Summary};
use anyhow::Result;
use fsutil::one_line;
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
        if let Some(model) = Model::of(self) {
            writeln!(text, "model")?;
            for (about, words) in model.lines() {
                writeln!(text, "  {about}: {words}")?;
            }
        }
        if let Some(findings) = &self.findings {
            lint_text(findings, &mut text)?;
        }
        Ok(text)
    }
}

fn bundle_text(metadata: &Value, tokenizer: &[(String, u64)], text: &mut String) -> Result<()> {
    match metadata.as_object() {
        Some(object) => {
            writeln!(text, "bundle")?;
            for (key, value) in object {
                match value {
                    Value::String(value) => {
                        writeln!(text, "  {}: {}", one_line(key), one_line(value))?
                    }
                    value => writeln!(
                        text,
                        "  {}: {}",
                        one_line(key),
                        one_line(&value.to_string())
                    )?,
                }
            }
        }
        None => writeln!(text, "bundle without {METADATA}")?,
    }
    for (name, bytes) in tokenizer {
        writeln!(text, "  tokenizer/{}: {}", one_line(name), size(*bytes))?;
    }
    Ok(())
}

impl Program {
    fn text(&self, text: &mut String) -> Result<()> {
        writeln!(text, "{}", one_line(&self.path.display().to_string()))?;
        writeln!(text, "  size: {} ({} bytes)", size(self.bytes), self.bytes)?;
        if let (Some(asset), Some(hash)) = (&self.asset, &self.hash) {
            if self.hash_fits() {
                writeln!(text, "  hash: ok, {}", hex::encode(hash))?;
            } else {
                writeln!(
                    text,
                    "  hash: WRONG, {} is stated and {} was found",
                    hex::encode(asset.stated_hash),
                    hex::encode(hash)
                )?;
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
                    writeln!(text, "  {key}: {}", one_line(value))?;
                }
            }
        }
        let fault = self.fault.as_deref().unwrap_or("ok");
        writeln!(text, "  verify: {}", one_line(fault))?;
        match &self.summary {
            Ok(summary) => summary_text(summary, text)?,
            Err(problem) => writeln!(text, "  no summary: {}", one_line(problem))?,
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
        writeln!(text, "  composite {}", one_line(kernel))?;
        for graph in graphs {
            operations_text(&format!("@{}", graph.name), &graph.operations, text)?;
        }
    }
    Ok(())
}

fn function_text(function: &Function, text: &mut String) -> Result<()> {
    writeln!(text, "  function {}", one_line(&function.name))?;
    let groups = [
        ("input", &function.inputs),
        ("state", &function.states),
        ("output", &function.outputs),
    ];
    for (kind, parameters) in groups {
        for parameter in parameters {
            let parameter = one_line(&parameter.to_string());
            writeln!(text, "    {kind:<6} {parameter}")?;
        }
    }
    Ok(())
}

fn operations_text(of: &str, operations: &[(String, u64)], text: &mut String) -> Result<()> {
    let total: u64 = operations.iter().map(|(_, count)| count).sum();
    let listed: Vec<String> = operations
        .iter()
        .map(|(name, count)| format!("{} {count}", one_line(name)))
        .collect();
    let listed = listed.join(", ");
    writeln!(text, "    {}: {total} = {listed}", one_line(of))?;
    Ok(())
}

fn lint_text(findings: &[Finding], text: &mut String) -> Result<()> {
    writeln!(text, "lint")?;
    if findings.is_empty() {
        writeln!(text, "  no finding, by {} rules", RULES.len())?;
    }
    for finding in findings {
        let (rule, place) = (&finding.rule, one_line(&finding.place));
        writeln!(text, "  {rule}: {place}")?;
        writeln!(text, "    {}", one_line(&finding.message))?;
    }
    Ok(())
}
