//! `export`: the bundles of a checkpoint.

use crate::hub;
use crate::progress::{self, Progress, seconds};
use ::export::{Exported, Options};
use anyhow::{Context, Result, bail};
use bundle::{CallShape, Layout};
use checkpoint::Source;
use clap::builder::{PossibleValue, PossibleValuesParser};
use quantize::RECIPES;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::env::VarError;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The modes of `--mode` and of `export`: the recipes for weights that there are.
pub fn modes() -> PossibleValuesParser {
    let modes = RECIPES.iter();
    PossibleValuesParser::new(
        modes.map(|recipe| PossibleValue::new(recipe.name).help(recipe.description)),
    )
}

/// The model that is exported unless another is named.
pub const MODEL: &str = "Qwen/Qwen3-VL-2B-Instruct";
/// Image tokens along a side by default: a 448 × 448 picture.
const GRID: u64 = 14;
/// The same for nano, which was trained on 128 × 128 pictures.
const NANO_GRID: u64 = 4;

/// Flags of `export`.
#[derive(clap::Args)]
pub struct Args {
    /// How the decoder stores its weights
    #[arg(value_parser = modes())]
    mode: String,
    /// A folder, nano, or a model id on the Hugging Face hub
    #[arg(long, default_value = MODEL)]
    model: String,
    /// Branch, tag or commit on the hub
    #[arg(long)]
    revision: Option<String>,
    /// The folder to write the bundles to
    #[arg(long, default_value = "exports")]
    out: PathBuf,
    /// Image tokens along each side of a picture, which has 32 times as many
    /// pixels [default: 14; nano: 4]
    #[arg(long)]
    grid: Option<u64>,
    /// The longest context, in tokens, that the bundle's metadata states
    #[arg(long, default_value_t = 4096)]
    max_ctx: u64,
    /// Which assets the bundle has: pipelined (for the community's fork of
    /// Apple's engine), or vlm (for Apple's own package)
    #[arg(long, default_value = "pipelined", value_parser = ["pipelined", "vlm"])]
    bundle: String,
    /// In a pipelined bundle, how many tokens a call takes: s1 (one), dynamic
    /// (any number), or pf2 to pf4096 (one, and so many in a prefill function);
    /// several with commas between them [default: s1]
    #[arg(long)]
    query: Option<String>,
    /// Leave the vision encoder out
    #[arg(long)]
    skip_vision: bool,
    /// Leave the decoder out
    #[arg(long)]
    skip_decoder: bool,
    /// The name of the bundles, instead of the model's
    #[arg(long)]
    name: Option<String>,
    /// The licence of the weights, which the assets state: an SPDX id
    /// [default: known for nano and the published models, none for others]
    #[arg(long)]
    license: Option<String>,
}

/// Exports.
pub fn run(args: Args) -> Result<()> {
    let source = hub::source(&args.model, args.revision.as_deref())?;
    let mut job = Job::new(source, &args.mode, &args.out)?;
    if let Some(grid) = args.grid {
        job.options.grid = grid;
    }
    job.options.layouts = layouts(&args)?;
    job.options.max_context = args.max_ctx;
    job.options.name = args.name;
    job.options.license = args.license.or(job.options.license);
    job.options.vision = !args.skip_vision;
    job.options.decoder = !args.skip_decoder;

    let started = Instant::now();
    let bundles = job.run()?;
    for bundle in &bundles {
        let bytes = progress::size(bundle.bytes);
        progress::print(&format!("{}  {bytes}\n", bundle.path.display()))?;
    }
    progress::print(&format!("exported in {}\n", seconds(started.elapsed())))?;
    Ok(())
}

/// One export.
pub struct Job {
    /// The checkpoint.
    pub source: Source,
    /// What is made of it.
    pub options: Options,
    /// The folder that the bundles are written to.
    pub out: PathBuf,
}

impl Job {
    /// An export with the defaults of the command's flags.
    pub fn new(source: Source, recipe: &str, out: &Path) -> Result<Job> {
        let nano = source.model() == "nano";
        let options = Options {
            recipe: recipe.parse()?,
            layouts: vec![Layout::Pipelined(CallShape::One)],
            grid: if nano { NANO_GRID } else { GRID },
            max_context: 4096,
            decoder: true,
            vision: true,
            name: None,
            license: models::known_license(source.model()).map(str::to_owned),
            created: created()?,
        };
        Ok(Job {
            source,
            options,
            out: out.to_owned(),
        })
    }

    /// An export of nano.
    pub fn nano(recipe: &str, out: &Path) -> Result<Job> {
        Job::new(Source::nano(), recipe, out)
    }

    /// Image tokens along a side.
    pub fn grid(&self) -> usize {
        self.options.grid as usize
    }

    /// Exports; gives the bundles, decoders first.
    pub fn run(&self) -> Result<Vec<Exported>> {
        let label = format!("export {} {}", self.source.model(), self.options.recipe);
        let progress = Arc::new(Progress::new(label));
        let shown = Arc::clone(&progress);
        let interrupted = interrupt()?;
        let callback: ::export::Progress = Arc::new(move |done, total| {
            shown.at(done, total);
            if interrupted.load(Ordering::Relaxed) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        let bundles = ::export::export(&self.source, &self.out, &self.options, callback);
        progress.finish();
        bundles.map_err(with_flag)
    }
}

/// An error with the flag that would change it.
fn with_flag(error: ::export::Error) -> anyhow::Error {
    let ::export::Error::Option { option, problem } = &error else {
        let vision = matches!(error, ::export::Error::VisionExists { .. });
        let error = anyhow::Error::from(error);
        return if vision {
            error.context("--skip-vision leaves it out")
        } else {
            error
        };
    };
    let flag = match *option {
        "grid" => "--grid",
        "max_context" => "--max-ctx",
        "license" => "--license",
        "vision" => "--skip-vision",
        "layouts" => "--query",
        "name" => "--name",
        _ => return error.into(),
    };
    anyhow::anyhow!("{flag}: {problem}")
}

/// A flag that is set by Ctrl-C or a request to terminate, so that a command
/// can clean up. The second one ends the program at once.
pub fn interrupt() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, flag.clone())?;
        signal_hook::flag::register(signal, flag.clone())?;
    }
    Ok(flag)
}

/// The time that bundles state: not the clock's, so that the same checkpoint
/// always gives the same bytes. A release sets `SOURCE_DATE_EPOCH`.
pub fn created() -> Result<u64> {
    let variable = "SOURCE_DATE_EPOCH";
    match std::env::var(variable) {
        Err(VarError::NotPresent) => Ok(0),
        Ok(text) => text
            .parse()
            .with_context(|| format!("{variable} is {text:?}, expected seconds since 1970")),
        Err(error) => Err(error).context(variable),
    }
}

/// The bundles that the flags ask for.
fn layouts(args: &Args) -> Result<Vec<Layout>> {
    if args.bundle == Layout::Vlm.name() {
        if args.skip_vision || args.skip_decoder {
            bail!("--bundle vlm: its assets belong together; none of them can be left out");
        }
        return Ok(vec![layout(&args.bundle, args.query.as_deref())?]);
    }
    pipelined(args.query.as_deref().unwrap_or("s1"))
}

/// The layout that `--bundle` and `--query` name together.
pub fn layout(bundle: &str, query: Option<&str>) -> Result<Layout> {
    match (bundle == Layout::Vlm.name(), query) {
        (true, Some(query)) => {
            bail!("--query {query}: a vlm bundle takes any number of tokens a call; leave it out")
        }
        (true, None) => Ok(Layout::Vlm),
        (false, query) => Ok(Layout::Pipelined(query.unwrap_or("s1").parse()?)),
    }
}

/// The pipelined bundles that a `--query` argument lists.
pub fn pipelined(list: &str) -> Result<Vec<Layout>> {
    let shapes = list
        .split(',')
        .map(|shape| Ok(Layout::Pipelined(shape.parse()?)));
    shapes.collect()
}

#[cfg(test)]
mod tests {
    use super::RECIPES;

    #[test]
    fn the_readme_lists_all_modes() {
        let readme = include_str!("../../../README.md");
        for recipe in RECIPES {
            let row = format!("| `{}` | {} |", recipe.name, recipe.description);
            assert!(readme.lines().any(|line| line == row), "{row}");
        }
    }
}
