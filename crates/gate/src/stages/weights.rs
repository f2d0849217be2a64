//! Everything in the artifact against what the checkpoint gives: each function,
//! operation and constant, to the bit, none extra and none missing.
//!
//! The checkpoint is lowered again, in memory, and its weights quantized again;
//! nothing of that is written. This sees what no cosine can: one flipped bit,
//! or a layer whose scales are off by a hundredth.

use std::collections::BTreeMap;

use aimodel::{Module, ResourceValue};
use bundle::{AssetRole, Vision};
use checkpoint::TokenizerFiles;

use crate::{
    Context, Error, Result,
    candidate::Exported,
    evidence::Evidence,
    quantization,
    transcript::{Bound, Check, CheckId, Finding, Found},
};

/// Runs the stage.
pub fn run(context: &Context<'_>) -> Result<Evidence> {
    let candidate = context.candidate;
    let architecture = &candidate.architecture;
    let mut evidence = Evidence::default();
    let geometry = architecture.geometry(candidate.geometry.grid);
    let geometry = geometry.map(|geometry| geometry.for_layout(candidate.layout));
    let token = architecture.image_token();
    let pictures = Vision::for_layout(candidate.layout, geometry.as_ref(), token);
    let stated = Some(&candidate.geometry) == geometry.as_ref() && candidate.pictures == pictures;
    let found = Found::Words(
        if stated {
            "as the checkpoint has it"
        } else {
            "otherwise"
        }
        .to_owned(),
    );
    let bound = Bound::Words("as the checkpoint has it".to_owned());
    let check = Check::new(CheckId::Geometry, None, found, bound);
    evidence.check(check.of(candidate.decoder.name()));
    for (role, expected) in candidate.lower(candidate.recipe)? {
        let name = name(context, role);
        let module = &candidate.asset(role)?.module;
        let found = aimodel::diff(module, &expected)?;
        let (constants, bytes) = constants(module);
        let differ = Found::Count {
            count: found.len(),
            of: module.resources.len(),
        };
        let check = Check::new(CheckId::Differences, None, differ, Bound::None);
        evidence.check(check.of(&name).note(" constants, functions and operations"));
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
    tokenizer(context, &mut evidence)?;
    let exact = candidate.lower(quantize::Recipe::F16)?;
    let main = exact.into_iter().find(|(role, _)| *role == AssetRole::Main);
    let missing = || Error::input(candidate.decoder.name(), "the layout has no decoder");
    let (_, exact) = main.ok_or_else(missing)?;
    let module = &candidate.asset(AssetRole::Main)?.module;
    let errors = quantization::errors(module, &exact, architecture.as_ref(), candidate.recipe)?;
    evidence.series.extend(errors.series);
    if !errors.left_out.is_empty() {
        let left_out = errors.left_out.join("; ");
        evidence.fact("matrices whose error is not measured", left_out);
    }
    Ok(evidence)
}

/// How an asset is called: by its folder, where that has no other.
fn name(context: &Context<'_>, role: AssetRole) -> String {
    let mut bundles = context.candidate.bundles();
    let of_role = |bundle: &&Exported| bundle.assets.iter().any(|(found, _)| *found == role);
    match bundles.find(of_role) {
        Some(bundle) if bundle.assets.len() > 1 => format!("{}, {role}", bundle.name()),
        Some(bundle) => bundle.name().to_owned(),
        None => role.to_string(),
    }
}

/// The bundle's tokenizer against the checkpoint's: the same files, none else.
fn tokenizer(context: &Context<'_>, evidence: &mut Evidence) -> Result<()> {
    let bundle = &context.candidate.decoder.files;
    let candidate = context.candidate;
    let checkpoint = TokenizerFiles::load(&candidate.source)?;
    let checkpoint = candidate
        .architecture
        .tokenizer_files(checkpoint, candidate.layout)?;
    let expected = checkpoint.files.iter().map(|(name, bytes)| {
        let hash = fsutil::sha256(bytes);
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
    let found = Found::Count {
        count: differ.len(),
        of: expected.len(),
    };
    let check = Check::new(CheckId::TokenizerFiles, None, found, Bound::None);
    evidence.check(check.of(&bundle.name));
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
