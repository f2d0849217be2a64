//! `gate`: checks a bundle against its checkpoint.

mod external_tools;

use crate::device::Device;
use crate::progress::{self, say, seconds};
use crate::{Refused, embedded, export, hub};
use ::gate::device::IPhone;
use ::gate::{
    Candidate, CoreAi, Gates, Settings, Stage, StageReport, Transcript, Verdict, device_name,
};
use ::release::names;
use anyhow::{Context, Result, ensure};
use bundle::Layout;
use checkpoint::Source;
use quantize::Recipe;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub use external_tools::Python;

/// Flags of `gate`.
#[derive(clap::Args)]
pub struct Args {
    /// The checkpoint: a folder, nano, or a model id on the Hugging Face hub
    #[arg(long, default_value = export::MODEL)]
    model: String,
    /// Branch, tag or commit on the hub
    #[arg(long)]
    revision: Option<String>,
    /// The folder that holds the bundles
    #[arg(long, default_value = "exports")]
    exports: PathBuf,
    /// Which bundle: how its decoder stores its weights
    #[arg(long, default_value = "int8hu", value_parser = export::modes())]
    mode: String,
    /// Which bundle: its layout, pipelined or vlm
    #[arg(long, default_value = "pipelined", value_parser = ["pipelined", "vlm"])]
    bundle: String,
    /// Which pipelined bundle: how many tokens a call takes [default: s1]
    #[arg(long)]
    query: Option<String>,
    /// The name of the bundles, instead of the model's
    #[arg(long)]
    name: Option<String>,
    /// Decoder layers that the ladder compares, from the first [default: all]
    #[arg(long)]
    layers: Option<usize>,
    /// Stages to run [default: all]
    #[arg(long = "stage", value_delimiter = ',')]
    stages: Vec<Stage>,
    /// Stages that may not be skipped
    #[arg(long, value_delimiter = ',')]
    require: Vec<Stage>,
    /// What executes the bundle
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    device: Device,
    /// Execute every operation by itself, without the fused kernels for
    /// composites and int8 products
    #[arg(long)]
    unfused: bool,
    /// The thresholds: a set that comes with the program, or a TOML file
    /// [default: nano for nano, qwen3-vl for others]
    #[arg(long)]
    gates: Option<String>,
    /// The folder of the recorded oracle [default: for nano the one that comes
    /// with the program, for others one beside the bundles]
    #[arg(long)]
    oracle: Option<PathBuf>,
    /// Stage engine: run Core AI's own runtime on a large decoder, too, which takes
    /// hours, and save what it generates in this new file
    #[arg(long, value_name = "FILE", conflicts_with = "core_ai")]
    ask_core_ai: Option<PathBuf>,
    /// Stage engine: what Core AI's own runtime generated, as saved by --ask-core-ai
    #[arg(long, value_name = "FILE")]
    core_ai: Option<PathBuf>,
    /// Write the prompts for a host on a Mac or an iPhone (docs/run-contract.md)
    #[arg(long)]
    fixture: Option<PathBuf>,
    /// The transcript that a Mac or an iPhone wrote; with --iphone, where to save it
    #[arg(long)]
    transcript: Option<PathBuf>,
    /// On a Mac: run the host app on this iPhone, and fetch its transcript
    #[arg(long, requires = "transcript")]
    iphone: Option<String>,
    /// The host app's bundle identifier
    #[arg(long, requires = "iphone", default_value = "org.example.DeviceGate")]
    app: String,
    /// Let the host app decode with the pipelined engine instead of Core AI alone
    #[arg(long, requires = "iphone")]
    pipelined: bool,
    /// Write a report as one HTML file
    #[arg(long)]
    report: Option<PathBuf>,
    /// The file for the evidence [default: in transcripts/ beside the bundles;
    /// NAME.part.json if the evidence that is there has more stages]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print the evidence as JSON instead of one line for each stage
    #[arg(long)]
    json: bool,
}

/// Runs the gates.
pub fn run(args: Args) -> Result<()> {
    let source = hub::source(&args.model, args.revision.as_deref())?;
    let recipe = args.mode.parse()?;
    let layout = export::layout(&args.bundle, args.query.as_deref())?;
    ensure!(
        layout != Layout::Vlm || (args.fixture.is_none() && args.transcript.is_none()),
        "--bundle vlm: there are no fixtures and transcripts of devices for this layout yet; leave \
         --fixture, --transcript and --iphone out"
    );
    let mut job = Job::new(source, &args.exports, recipe, layout, args.name.as_deref())?;
    if let Some(gates) = &args.gates {
        job.set_gates(gates)?;
    }
    job.settings.device = args.device.open()?;
    job.settings.options.fuse = !args.unfused;
    job.settings.layers = args.layers;
    job.settings.core_ai = match (args.core_ai, args.ask_core_ai) {
        (Some(file), _) => CoreAi::Kept(file),
        (None, Some(file)) => CoreAi::Keep(file),
        (None, None) => CoreAi::Now,
    };
    job.settings.fixture = args.fixture;
    job.settings.transcript = args.transcript;
    job.settings.iphone = args.iphone.map(|name| IPhone {
        name,
        app: args.app,
        pipelined: args.pipelined,
    });
    if let Some(oracle) = args.oracle {
        job.settings.oracle = oracle;
    }
    if !args.stages.is_empty() {
        job.stages = args.stages;
    }
    job.required = args.require;
    job.quiet = args.json;

    replaceable(args.out.as_deref(), args.report.as_deref())?;
    let started = Instant::now();
    let transcript = job.run()?;
    job.save(&transcript, args.out.as_deref(), args.report.as_deref())?;
    if args.json {
        progress::print(&as_json(&transcript)?)?;
    }
    match transcript.holds(&[]) {
        Ok(()) if args.json => Ok(()),
        Ok(()) => say("proven", &format!("in {}", seconds(started.elapsed()))),
        Err(why) => Err(Refused(why).into()),
    }
}

/// A run of the gates.
pub struct Job {
    candidate: Candidate,
    /// What must hold.
    pub gates: Gates,
    /// How they are run.
    pub settings: Settings,
    /// Which.
    pub stages: Vec<Stage>,
    /// Those that may not be skipped.
    pub required: Vec<Stage>,
    exports: PathBuf,
    /// Print nothing.
    pub quiet: bool,
}

impl Job {
    /// All gates, with the defaults of the command's flags.
    pub fn new(
        source: Source,
        exports: &Path,
        recipe: &'static Recipe,
        layout: Layout,
        name: Option<&str>,
    ) -> Result<Job> {
        let nano = source.model() == "nano";
        let name = name.map_or_else(|| bundle::short_name(source.model()), str::to_owned);
        let oracle = if nano {
            embedded::path("oracles/nano/recorded")?
        } else {
            exports.join(format!("{name}_oracle"))
        };
        Ok(Job {
            candidate: Candidate::open(source, exports, &name, recipe, layout)?,
            gates: Gates::load(&gates_file(if nano { "nano" } else { "qwen3-vl" })?)?,
            settings: Settings {
                device: runtime::candle_core::Device::Cpu,
                options: runtime::Options::default(),
                layers: None,
                oracle,
                core_ai: CoreAi::Now,
                root: embedded::folder()?.to_owned(),
                fixture: None,
                transcript: None,
                iphone: None,
            },
            stages: Stage::ALL.to_vec(),
            required: Vec::new(),
            exports: exports.to_owned(),
            quiet: false,
        })
    }

    /// Takes other gates: a set of the program, or a file.
    ///
    /// # Errors
    /// There is no such set or file, or it is not valid.
    pub fn set_gates(&mut self, given: &str) -> Result<()> {
        let file = gates_file(given)?;
        self.gates = Gates::load(&file)?;
        self.settings.root = pictures(&self.gates, &file)?;
        Ok(())
    }

    /// Runs them, with a line for each.
    pub fn run(&self) -> Result<Transcript> {
        if !self.quiet {
            let device = device_name(&self.settings.device);
            let bundles = self.candidate.bundles();
            let bundles: Vec<&str> = bundles.map(|bundle| bundle.name()).collect();
            let text = format!(
                "{}, on {device}, by the gates {}",
                bundles.join(" and "),
                self.gates.name
            );
            say("gate", &text)?;
        }
        let print_line = |report: &StageReport| {
            if !self.quiet {
                // Where standard output is closed, the transcript still counts.
                let _ = progress::print(&line(report));
            }
        };
        let transcript = ::gate::run(
            &self.candidate,
            &self.gates,
            &self.settings,
            &self.stages,
            &Python,
            print_line,
        );
        let mut transcript = transcript.map_err(|error| self.with_flag(error))?;
        transcript.required.clone_from(&self.required);
        Ok(transcript)
    }

    /// An error with the flag that would change it.
    fn with_flag(&self, error: ::gate::Error) -> anyhow::Error {
        match &error {
            ::gate::Error::Option { option, problem } => {
                let flag = match *option {
                    "layers" => "--layers",
                    "iphone" => "--iphone",
                    "core_ai" => match self.settings.core_ai {
                        CoreAi::Keep(_) => "--ask-core-ai",
                        _ => "--core-ai",
                    },
                    _ => return error.into(),
                };
                anyhow::anyhow!("{flag}: {problem}")
            }
            ::gate::Error::Answers { .. } => {
                anyhow::anyhow!("{error} (--ask-core-ai FILE does that)")
            }
            _ => error.into(),
        }
    }

    /// Writes the evidence, to `out` or where it belongs, and a report of it.
    pub fn save(
        &self,
        transcript: &Transcript,
        out: Option<&Path>,
        report: Option<&Path>,
    ) -> Result<()> {
        let out = out.map_or_else(|| self.file_for(transcript), Path::to_owned);
        replace(&out, &as_json(transcript)?)?;
        if !self.quiet {
            say("evidence", &out.display().to_string())?;
        }
        if let CoreAi::Keep(path) = &self.settings.core_ai
            && !self.quiet
            && path.exists()
        {
            say("answers", &format!("{}, of Core AI", path.display()))?;
        }
        if let Some(path) = report {
            replace(path, &::gate::report::render(transcript)?)?;
            if !self.quiet {
                say("report", &path.display().to_string())?;
            }
        }
        Ok(())
    }

    /// Where a transcript goes: one that has fewer stages does not replace the
    /// evidence that is there.
    fn file_for(&self, transcript: &Transcript) -> PathBuf {
        let whole = self.transcript_path();
        match read(&whole) {
            Ok(earlier) if transcript.says_less_than(&earlier) => whole.with_extension("part.json"),
            _ => whole,
        }
    }

    /// The default file for the evidence of all stages.
    pub fn transcript_path(&self) -> PathBuf {
        let (name, device) = (
            self.candidate.decoder.name(),
            device_name(&self.settings.device),
        );
        let file = names::transcript(name, device);
        self.exports.join(names::TRANSCRIPTS).join(file)
    }
}

fn as_json(transcript: &Transcript) -> Result<String> {
    Ok(format!("{:#}\n", serde_json::to_value(transcript)?))
}

/// A line for a stage.
fn line(report: &StageReport) -> String {
    let verdict = match report.verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "FAIL",
        Verdict::Skipped => "skipped",
    };
    let time = seconds(std::time::Duration::from_secs_f64(report.seconds));
    format!(
        "{:>9}  {verdict:<7}  {time:>7}  {}\n",
        report.stage.name(),
        // It quotes files, which may contain control characters.
        fsutil::visible(&report.summary)
    )
}

/// A set of gates that the program brings along, by its name, or a file.
pub fn gates_file(given: &str) -> Result<PathBuf> {
    embedded::named_or_file("--gates", given, "gates", "set")
}

/// The folder that the pictures of a set of gates are named from: that of its
/// file, the current one, or that of the program's own files, whichever has
/// them all.
fn pictures(gates: &Gates, file: &Path) -> Result<PathBuf> {
    let beside = file.parent().unwrap_or(Path::new("")).to_owned();
    for folder in [beside, PathBuf::new()] {
        let mut images = gates
            .prompts
            .iter()
            .filter_map(|prompt| prompt.image.as_ref());
        if images.all(|image| folder.join(image).is_file()) {
            return Ok(folder);
        }
    }
    Ok(embedded::folder()?.to_owned())
}

/// The largest transcript that is read, in bytes.
const MAX_TRANSCRIPT: u64 = 64 << 20;

/// Reads a transcript, whose file is named after its bundle and device.
pub fn read(path: &Path) -> Result<Transcript> {
    let bytes = fsutil::read(path, MAX_TRANSCRIPT)
        .context("a transcript cannot be read; remove it, and the gates run again")?;
    let transcript = Transcript::parse(&bytes).map_err(|problem| {
        anyhow::anyhow!(
            "{} is not a transcript of the gates: {problem}; remove it, and they run again",
            path.display()
        )
    })?;
    let expected = ::release::transcript_name(&transcript);
    if path
        .file_name()
        .is_none_or(|name| name != expected.as_str())
    {
        return Err(Refused(format!(
            "{}: is about another bundle or device, and would be called {expected}; remove it, \
             and the gates run again",
            path.display()
        ))
        .into());
    }
    Ok(transcript)
}

/// Refuses to replace anything but evidence or a report of an earlier run.
fn replaceable(out: Option<&Path>, report: Option<&Path>) -> Result<()> {
    let files = [
        (out, "{", "the evidence"),
        (report, "<!DOCTYPE html>", "the report"),
    ];
    for (path, start, what) in files {
        let Some(path) = path.filter(|path| path.exists()) else {
            continue;
        };
        let mut found = Vec::new();
        if path.is_file() {
            let file = std::fs::File::open(path)?;
            file.take(start.len() as u64).read_to_end(&mut found)?;
        }
        ensure!(
            found == start.as_bytes() && path.file_name() != Some("metadata.json".as_ref()),
            "{} exists and is not {what} of an earlier run; name another file, or remove it",
            path.display()
        );
    }
    Ok(())
}

/// Writes a file whole, in place of an earlier one.
fn replace(path: &Path, text: &str) -> Result<()> {
    fsutil::replace(path, text.as_bytes())
        .with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_earlier_report_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let report = at("report.html", "<!DOCTYPE html>\n<html>");
        let evidence = at("nano_cpu.json", "{}");
        replaceable(Some(&evidence), Some(&report)).unwrap();
        replaceable(None, Some(&folder.path().join("new.html"))).unwrap();
        let hash = at("main.hash", "0123");
        for path in [hash.as_path(), folder.path(), &evidence] {
            let error = replaceable(None, Some(path)).unwrap_err().to_string();
            assert!(
                error.contains("is not the report of an earlier run"),
                "{error}"
            );
        }
        let metadata = at("metadata.json", "{}");
        for path in [metadata, report] {
            assert!(replaceable(Some(&path), None).is_err());
        }
    }
}
