//! The order in which stages run, and the transcript that they make.

use std::time::Instant;

use crate::{
    Candidate, Context, Error, ExternalTools, Gates, Result, Settings,
    context::device_name,
    stages::{device, engine, execute, ladder, lint, oracle, weights},
    transcript::{Environment, Model, Stage, StageReport, Transcript, VERSION},
};

/// Runs stages in the order of [`Stage::ALL`]. `report_each` is called with each
/// report as soon as it is there.
///
/// # Errors
/// What keeps a stage from being judged at all, such as files that cannot be
/// read. What a gate says no to is in the transcript.
pub fn run(
    candidate: &Candidate,
    gates: &Gates,
    settings: &Settings,
    stages: &[Stage],
    tools: &dyn ExternalTools,
    mut report_each: impl FnMut(&StageReport),
) -> Result<Transcript> {
    let depth = candidate.architecture.layers();
    if let Some(layers) = settings
        .layers
        .filter(|layers| !(1..=depth).contains(layers))
    {
        let problem = format!("expected 1 to {depth} layers, those of this model, found {layers}");
        return Err(Error::option("layers", problem));
    }
    let context = Context::new(candidate, gates, settings, stages, tools)?;
    let mut reports = Vec::new();
    for stage in Stage::ALL {
        if !stages.contains(&stage) {
            continue;
        }
        let started = Instant::now();
        let evidence = match stage {
            Stage::Lint => lint::run(&context),
            Stage::Oracle => oracle::run(&context),
            Stage::Ladder => ladder::run(&context),
            Stage::Weights => weights::run(&context),
            Stage::Execute => execute::run(&context),
            Stage::Engine => engine::run(&context),
            Stage::Device => device::run(&context),
        }?;
        let report = evidence.report(stage, started.elapsed().as_secs_f64());
        report_each(&report);
        reports.push(report);
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Transcript {
        version: VERSION,
        model: Model {
            id: candidate.source.model().to_owned(),
            revision: candidate.source.revision().map(str::to_owned),
            checkpoint: candidate.checkpoint.digest(),
            layers: depth,
        },
        bundles: candidate
            .bundles()
            .map(|bundle| bundle.files.clone())
            .collect(),
        gates: gates.name.clone(),
        gates_sha256: gates.sha256.clone(),
        environment: Environment {
            tool: concat!("aimodel ", env!("CARGO_PKG_VERSION")).to_owned(),
            platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            device: device_name(&settings.device).to_owned(),
            threads,
        },
        required: Vec::new(),
        stages: reports,
    })
}
