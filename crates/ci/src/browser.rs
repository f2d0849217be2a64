//! A browser without a window, as far as a test needs one.

use crate::repo;
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Names that Chromium and its kin go by.
const NAMES: [&str; 6] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
];
/// Where they are on a Mac.
const APPLICATIONS: [&str; 3] = [
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
];
/// What names one that is elsewhere.
const VARIABLE: &str = "AIMODEL_BROWSER";
/// How long a page may take; two seconds are usual.
const PATIENCE: Duration = Duration::from_secs(120);

/// Chromium, and a folder for its profiles and our pages.
pub struct Browser {
    program: PathBuf,
    scratch: tempfile::TempDir,
}

/// A page after it was loaded.
pub struct Loaded {
    /// The document as it became.
    pub dom: String,
    /// What was written to the console: errors, warnings and blocked requests
    /// among it.
    pub console: Vec<String>,
}

/// A page in a frame of some width.
#[derive(Deserialize)]
pub struct Measured {
    /// The frame's width.
    pub width: u32,
    /// By how much the page is wider.
    pub sideways: f64,
    /// What reaches beyond the right edge.
    pub outside: Vec<String>,
    /// What the page asked for besides itself.
    pub requests: Vec<String>,
    /// The text of the heading.
    pub heading: String,
    /// Where it ends, in pixels from the top.
    pub heading_end: f64,
    /// The stages that the page lists: class and words of each.
    pub stages: Vec<[String; 2]>,
    /// Charts that take up room.
    pub charts: usize,
}

impl Browser {
    /// The one that `AIMODEL_BROWSER` names, or one at a usual place.
    pub fn find() -> Result<Browser> {
        let given = env::var_os(VARIABLE).map(PathBuf::from);
        let program = match given {
            Some(path) => {
                ensure!(
                    path.is_file(),
                    "{VARIABLE}: {} is not a file",
                    path.display()
                );
                path
            }
            None => usual().with_context(|| {
                format!(
                    "there is no browser to look at the report with: install Chromium (Debian: \
                     apt-get install chromium) or Chrome, or set {VARIABLE} to the program of one; \
                     looked for {} on the PATH",
                    NAMES.join(", ")
                )
            })?,
        };
        let scratch = repo::scratch()?;
        Ok(Browser { program, scratch })
    }

    /// Loads a page of this HTML from disk.
    pub fn load(&self, html: &str) -> Result<Loaded> {
        let page = self.scratch.path().join("page.html");
        fs::write(&page, html)?;
        let [dom, log] = ["dom", "log"].map(|name| self.scratch.path().join(name));
        let mut command = self.command()?;
        command.args(["--enable-logging=stderr", "--dump-dom"]);
        command.arg(format!("file://{}", page.display()));
        command.stdout(File::create(&dom)?);
        command.stderr(File::create(&log)?);
        let ended = wait(&mut command)?;
        let log = String::from_utf8_lossy(&fs::read(log)?).into_owned();
        ensure!(ended, "{} failed:\n{log}", self.program.display());
        let console = log.lines().filter(|line| line.contains(":CONSOLE"));
        Ok(Loaded {
            dom: fs::read_to_string(dom)?,
            console: console.map(str::to_owned).collect(),
        })
    }

    /// Shows a page in frames of some widths, and measures it there.
    pub fn measure(&self, html: &str, widths: &[u32]) -> Result<Vec<Measured>> {
        // A window has a minimum width, a frame does not.
        let source = html.replace('&', "&amp;").replace('"', "&quot;");
        let frames = widths.iter().map(|width| {
            format!(r#"<iframe width="{width}" height="844" srcdoc="{source}"></iframe>"#)
        });
        let frames: String = frames.collect();
        let loaded = self.load(&format!("{}{frames}", include_str!("measure.html")))?;
        let found = loaded.dom.split_once("<output>");
        let found = found.and_then(|(_, rest)| rest.split_once("</output>"));
        let (found, _) = found.with_context(|| {
            format!(
                "the page was not measured; the console has {:#?}",
                loaded.console
            )
        })?;
        let found = found
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&nbsp;", "\u{a0}")
            .replace("&amp;", "&");
        serde_json::from_str(&found).with_context(|| format!("measured: {found}"))
    }

    fn command(&self) -> Result<Command> {
        let profile = self.scratch.path().join("profile");
        // What an earlier page left is not this one's.
        if profile.exists() {
            fs::remove_dir_all(&profile)?;
        }
        let mut command = Command::new(&self.program);
        command.args([
            "--headless",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            // Containers have little of it.
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ]);
        command.arg(format!("--user-data-dir={}", profile.display()));
        // Chromium does not sandbox itself for root.
        #[cfg(unix)]
        if std::os::unix::fs::MetadataExt::uid(&fs::metadata(self.scratch.path())?) == 0 {
            command.arg("--no-sandbox");
        }
        command.stdin(Stdio::null());
        Ok(command)
    }
}

fn usual() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let named = NAMES
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    let applications = APPLICATIONS.iter().map(|path| Path::new(path).to_owned());
    named.chain(applications).find(|path| path.is_file())
}

/// Runs a command to its end; whether that was a good one.
fn wait(command: &mut Command) -> Result<bool> {
    let program = command.get_program().to_owned();
    let child = command.spawn();
    let mut child = child.with_context(|| format!("{} does not start", program.display()))?;
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if started.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            bail!("{} did not end within {PATIENCE:?}", program.display());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
