//! Everything in the artifact against what the checkpoint gives: each function,
//! operation and constant, to the bit, none extra and none missing.
//!
//! The checkpoint is lowered again, in memory, and its weights quantized again;
//! nothing of that is written. This sees what no cosine can: one flipped bit,
//! or a layer whose scales are off by a hundredth.

use std::collections::BTreeMap;

use aimodel::{Module, ResourceValue};
use checkpoint::TokenizerFiles;
use models::Architecture;
use sha2::{Digest, Sha256};

use crate::{Chain, Result, evidence::Evidence, quantization, transcript::Finding};

/// Runs the stage.
pub fn run(chain: &Chain<'_>) -> Result<Evidence> {
    let subject = chain.subject;
    let (config, checkpoint) = (&subject.config, &subject.checkpoint);
    let grid = subject.geometry.grid;
    let decoder = config.lower_decoder(checkpoint, subject.mode, subject.query, grid)?;
    let vision = config.lower_vision(checkpoint, grid)?;
    let mut evidence = Evidence::default();
    let stated = Some(&subject.geometry) == config.geometry(grid).as_ref();
    evidence.check(
        "how pictures are cut, as metadata.json states it",
        None,
        if stated {
            "as the checkpoint has it"
        } else {
            "otherwise"
        },
        "as the checkpoint has it",
        stated,
    );
    for (bundle, expected) in [(&subject.decoder, &decoder), (&subject.vision, &vision)] {
        let name = bundle.name();
        let found = aimodel::diff(&bundle.asset.module, expected)?;
        let (constants, bytes) = constants(&bundle.asset.module);
        evidence.check(
            format!("{name}: what differs from the checkpoint's program"),
            None,
            format!("{} of all functions, operations and constants", found.len()),
            "0",
            found.is_empty(),
        );
        evidence.fact(
            &format!("{name}: large constants"),
            format!("{constants} of {bytes} bytes"),
        );
        evidence
            .findings
            .extend(found.into_iter().map(|one| Finding {
                rule: one.kind.to_owned(),
                place: format!("{name}: {}", one.place),
                message: one.message,
            }));
    }
    tokenizer(chain, &mut evidence)?;
    let halves = config.lower_decoder(checkpoint, quantize::Recipe::F16, subject.query, grid)?;
    let layers = config.text_config.num_hidden_layers;
    let (text, module) = (&config.text_config, &subject.decoder.asset.module);
    let embedding = models::qwen3_vl::names::EMBED_TOKENS;
    let series = quantization::errors(module, &halves, embedding, layers, text.hidden_size)?;
    evidence.series.extend(series);
    Ok(evidence)
}

/// The bundle's tokenizer against the checkpoint's: the same files, none else.
fn tokenizer(chain: &Chain<'_>, evidence: &mut Evidence) -> Result<()> {
    let bundle = &chain.subject.decoder.files;
    let theirs = TokenizerFiles::load(&chain.subject.source)?;
    let expected = theirs.files.iter().map(|(name, bytes)| {
        let hash = hex::encode(&Sha256::digest(bytes));
        (format!("tokenizer/{name}"), hash)
    });
    let expected: BTreeMap<String, String> = expected.collect();
    let found = bundle.files.iter();
    let found: BTreeMap<_, _> = found
        .filter(|(name, _)| name.starts_with("tokenizer/"))
        .collect();
    let mut differ = Vec::new();
    for (name, hash) in &expected {
        match found.get(name) {
            Some(found) if *found == hash => {}
            Some(_) => differ.push((name.clone(), "is another than the checkpoint's")),
            None => differ.push((name.clone(), "is missing, and the checkpoint has it")),
        }
    }
    for name in found.keys().filter(|name| !expected.contains_key(**name)) {
        differ.push((
            (*name).clone(),
            "is there, and the checkpoint has no such file",
        ));
    }
    evidence.check(
        format!(
            "{}: tokenizer files that are not the checkpoint's",
            bundle.name
        ),
        None,
        format!("{} of {}", differ.len(), expected.len()),
        "0",
        differ.is_empty(),
    );
    evidence
        .findings
        .extend(differ.into_iter().map(|(place, message)| Finding {
            rule: "tokenizer".to_owned(),
            place: format!("{}: {place}", bundle.name),
            message: message.to_owned(),
        }));
    Ok(())
}

/// How many resources there are, and their bytes together.
fn constants(module: &Module) -> (usize, u64) {
    let blobs = module.resources.iter();
    let sizes = blobs.filter_map(|(_, resource)| match &resource.value {
        ResourceValue::Blob { data, .. } => Some(data.len()),
        _ => None,
    });
    (sizes.clone().count(), sizes.sum())
}
