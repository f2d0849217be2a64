//! `ask`: an answer from exported bundles alone.

use crate::answer::{Answering, SamplingArgs, Work, explain, figures, open};
use crate::bundles::BundleArgs;
use crate::device::Device;
use crate::progress::seconds;
use anyhow::Result;
use engine::Conversation;
use picture::Image;
use std::path::PathBuf;
use std::time::Instant;

/// Flags of `ask`.
#[derive(clap::Args)]
pub struct Args {
    /// What to ask
    prompt: String,
    /// A picture to ask about, PNG or JPEG; a vlm bundle takes several, each with
    /// a flag of its own
    #[arg(long = "image", value_name = "IMAGE")]
    images: Vec<PathBuf>,
    #[command(flatten)]
    choice: BundleArgs,
    /// Where to run it
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    device: Device,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Answers on standard output; everything else goes to standard error.
pub fn run(args: Args) -> Result<()> {
    let mut answering = Answering::new(&args.sampling)?;
    let images = args.images.iter().map(|path| Image::load(path));
    let images = images.collect::<Result<Vec<_>, _>>()?;
    let bundle = args.choice.find()?;

    let started = Instant::now();
    let work = Work::begin(&format!("loading {}", bundle.name));
    let model = open(&bundle, args.device)?;
    if !images.is_empty() {
        model.vision().map_err(explain)?;
    }
    let loaded = started.elapsed();
    let question = Conversation::question(args.prompt, images);
    let answer = answering.answer(&mut model.session(), &question, &work)?;
    eprintln!(
        "{} on {}, loaded in {}",
        bundle.name,
        args.device,
        seconds(loaded)
    );
    eprintln!("{}", figures(&answer));
    if let Some(why) = answering.cut_off(&answer, &model) {
        eprintln!("{why}");
    }
    Ok(())
}
