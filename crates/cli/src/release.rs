//! `release`: the folder that is published on the hub.

use crate::device::Device;
use crate::progress::{say, seconds, size};
use crate::{Refused, embedded, export, gate, hub, progress};
use ::gate::Transcript;
use ::release::{Given, Listing, Parts, Recipe, Release, names};
use anyhow::{Result, bail};
use bundle::Layout;
use checkpoint::Source;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What executes bundles; a transcript is named after it.
const DEVICES: [&str; 3] = ["cpu", "cuda", "metal"];

/// Flags of `release`.
#[derive(clap::Args)]
pub struct Args {
    /// The folder to make; with --push or --dry-run, an existing one is used as
    /// it is
    #[arg(long)]
    out: PathBuf,
    /// What to release: a release recipe that comes with the program, or a TOML
    /// file [default: the one for --model]
    #[arg(long)]
    recipe: Option<String>,
    /// The checkpoint: a folder, nano, or a model id on the Hugging Face hub
    /// [default: the one that the recipe names]
    #[arg(long)]
    model: Option<String>,
    /// The folder with bundles and transcripts; those that are missing are made
    #[arg(long, default_value = "exports")]
    exports: PathBuf,
    /// Run the gates on this device, even if there are transcripts of others
    #[arg(long, value_enum)]
    device: Option<Device>,
    /// The folder of the recorded oracle [default: as for gate]
    #[arg(long)]
    oracle: Option<PathBuf>,
    /// List what an upload would hold, and change nothing on the hub
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    hub: hub::Args,
}

/// Makes a release, or lists what is in one.
pub fn run(args: Args) -> Result<()> {
    let started = Instant::now();
    let publish = args.dry_run || args.hub.wanted();
    if !(publish && args.out.exists()) {
        if args.out.exists() {
            bail!(
                "{} exists already and is not overwritten; remove it, or choose another --out",
                args.out.display()
            );
        }
        let name = args.recipe.as_deref();
        let given = recipe(name, args.model.as_deref().unwrap_or(export::MODEL))?;
        let mut job = Job::new(given, args.model.as_deref(), &args.exports)?;
        job.device = args.device;
        job.oracle = args.oracle;
        let release = job.run(&args.out)?;
        let bytes = size(release.listing.bytes());
        let files = release.listing.files.len();
        say(
            "release",
            &format!("{}, {files} files, {bytes}", args.out.display()),
        )?;
        say("took", &seconds(started.elapsed()))?;
    }
    if publish {
        let listing = ::release::check_for_push(&args.out).map_err(refused)?;
        if args.dry_run {
            list(&listing)?;
        }
        args.hub.push(&args.out, &listing, args.dry_run)?;
    }
    Ok(())
}

/// Prints what an upload would hold.
fn list(listing: &Listing) -> Result<()> {
    for file in &listing.files {
        progress::print(&format!(
            "{}  {:>12}  {}\n",
            file.sha256, file.bytes, file.path
        ))?;
    }
    let (files, bytes) = (listing.files.len(), size(listing.bytes()));
    progress::print(&format!("{files} files, {bytes}\n"))?;
    Ok(())
}

/// What it takes to make a release.
pub struct Job {
    given: Given,
    /// The text of its set of gates.
    gates: String,
    model: Option<String>,
    exports: PathBuf,
    /// What the gates run on.
    pub device: Option<Device>,
    /// Where the recorded oracle is.
    pub oracle: Option<PathBuf>,
}

/// The largest set of gates that is read, in bytes.
const MAX_GATES: u64 = 1 << 20;

impl Job {
    /// A release of a recipe, from bundles and transcripts below `exports`.
    pub fn new(given: Given, model: Option<&str>, exports: &Path) -> Result<Job> {
        let gates = gate::gates_file(&given.recipe.gates)?;
        let gates = fsutil::read_text(&gates, MAX_GATES)?;
        Ok(Job {
            given,
            gates: gates.replace("\r\n", "\n"),
            model: model.map(str::to_owned),
            exports: exports.to_owned(),
            device: None,
            oracle: None,
        })
    }

    /// Makes what is missing, and the folder.
    pub fn run(&self, out: &Path) -> Result<Release> {
        let recipe = &self.given.recipe;
        if self
            .model
            .as_ref()
            .is_some_and(|model| *model != recipe.model)
        {
            // If all bundles exist already, nothing else would check it.
            source(recipe, self.model.as_deref(), recipe.revision.as_deref())?;
        }
        self.export()?;
        let transcripts = self.transcripts()?;
        let parts = Parts {
            given: &self.given,
            gates: &self.gates,
            exports: &self.exports,
            transcripts: &transcripts,
        };
        ::release::assemble(&parts, out).map_err(refused)
    }

    /// Exports the bundles that are not there.
    fn export(&self) -> Result<()> {
        let recipe = &self.given.recipe;
        let there = |name: &str| self.exports.join(name).exists();
        for mut options in ::release::exports(recipe, export::created()?) {
            let missing = |layout: &Layout| !there(&recipe.decoder(options.recipe, *layout).name);
            options.layouts.retain(missing);
            options.decoder = !options.layouts.is_empty();
            options.vision &= !there(&recipe.vision());
            if !options.decoder && !options.vision {
                continue;
            }
            let source = source(recipe, self.model.as_deref(), recipe.revision.as_deref())?;
            let out = self.exports.clone();
            let job = export::Job {
                source,
                options,
                out,
            };
            for bundle in job.run()? {
                let name = bundle.path.file_name().unwrap_or_default().display();
                say("export", &format!("{name}, {}", size(bundle.bytes)))?;
            }
        }
        Ok(())
    }

    /// What the gates found of each decoder; they run where that is not known.
    fn transcripts(&self) -> Result<Vec<Transcript>> {
        let recipe = &self.given.recipe;
        let folder = self.exports.join(names::TRANSCRIPTS);
        let mut found = Vec::new();
        for decoder in recipe.decoders() {
            let file = |device: &str| folder.join(names::transcript(&decoder.name, device));
            let mut known = DEVICES.map(file).to_vec();
            known.retain(|path| path.exists());
            let wanted = self.device.map(|device| file(&device.to_string()));
            if known.is_empty() || wanted.is_some_and(|wanted| !known.contains(&wanted)) {
                let revision = recipe.revision.as_deref();
                let source = source(recipe, self.model.as_deref(), revision)?;
                let exports = &self.exports;
                let mut job = gate::Job::new(source, exports, decoder.mode, decoder.layout, None)?;
                job.gates = ::gate::Gates::parse(&recipe.gates, &self.gates)?;
                job.settings.device = self.device.unwrap_or(Device::Cpu).open()?;
                if let Some(oracle) = &self.oracle {
                    job.settings.oracle = oracle.clone();
                }
                let transcript = job.run()?;
                job.save(&transcript, None, None)?;
                known.push(job.transcript_path());
            }
            known.sort();
            known.dedup();
            for path in known {
                found.push(gate::read(&path)?);
            }
        }
        Ok(found)
    }
}

/// A recipe by its name or file; without, the one for a model.
pub fn recipe(named: Option<&str>, model: &str) -> Result<Given> {
    if let Some(name) = named {
        let file = embedded::named_or_file("--recipe", name, "recipes", "recipe")?;
        return Ok(Given::load(&file)?);
    }
    for name in embedded::toml_names("recipes") {
        let given = Given::load(&embedded::path(&format!("recipes/{name}.toml"))?)?;
        if given.recipe.model == model {
            return Ok(given);
        }
    }
    bail!(
        "no recipe of this program is for {model}; write one (docs/release.md says how), and name its file with --recipe"
    )
}

/// The checkpoint of a recipe, or what `--model` names. A folder is assumed to
/// hold the model that the recipe names; its commit is known only if the recipe
/// pins the digest of the weights.
pub fn source(recipe: &Recipe, model: Option<&str>, revision: Option<&str>) -> Result<Source> {
    let given = model.unwrap_or(&recipe.model);
    if given == recipe.model {
        return hub::source(given, revision);
    }
    if !Path::new(given).is_dir() {
        bail!(
            "--model {given}: expected {}, which the recipe names, or a folder that holds it",
            recipe.model
        );
    }
    let commit = recipe.commit().filter(|_| recipe.checkpoint.is_some());
    let source = Source::folder(given)?;
    Ok(source.called(&recipe.model, commit.map(str::to_owned)))
}

/// A failed check as [`Refused`], which gives exit code 1, with the flags of the
/// options that caused it; other errors as they are.
pub fn refused(error: ::release::Error) -> anyhow::Error {
    match error {
        ::release::Error::Refused(mut refusal) => {
            for problem in &mut refusal.0 {
                let flag = match problem.option {
                    Some("license") => "export --license",
                    Some("layers") => "gate --layers",
                    _ => continue,
                };
                problem.message.push_str(&format!(" ({flag})"));
            }
            Refused(refusal.to_string()).into()
        }
        other => other.into(),
    }
}
