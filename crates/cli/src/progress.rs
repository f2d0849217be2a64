//! Progress of long work: a bar on a terminal, plain lines elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

pub use fsutil::size;

/// How often a line is printed where there is no terminal.
const EVERY: Duration = Duration::from_secs(5);

/// The progress of one piece of work, in bytes.
pub struct Progress {
    label: String,
    bar: Option<ProgressBar>,
    started: Instant,
    printed: Mutex<Instant>,
    /// What was done before the work began, which does not count for its rate.
    before: OnceLock<u64>,
}

impl Progress {
    /// Progress of the work that `label` names, for example `export int8hu`.
    pub fn new(label: impl Into<String>) -> Progress {
        let label = label.into();
        let bar = std::io::stderr().is_terminal().then(|| {
            let template = "{msg} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
            let bar = ProgressBar::new(0).with_message(label.clone());
            match ProgressStyle::with_template(template) {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        });
        let now = Instant::now();
        Progress {
            label,
            bar,
            started: now,
            printed: Mutex::new(now),
            before: OnceLock::new(),
        }
    }

    /// Shows the progress of the hub.
    #[cfg(feature = "hub")]
    pub fn hub(&self, progress: ::hub::Progress<'_>) {
        match progress {
            ::hub::Progress::Bytes { done, total } => self.at(done, total),
            ::hub::Progress::Note(note) => match &self.bar {
                Some(bar) => bar.suspend(|| eprintln!("{note}")),
                None => eprintln!("{note}"),
            },
        }
    }

    /// Shows that `done` of `total` bytes are done.
    pub fn at(&self, done: u64, total: u64) {
        let before = *self.before.get_or_init(|| {
            if let Some(bar) = &self.bar {
                bar.set_position(done);
                bar.reset_eta();
            }
            done
        });
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
            return;
        }
        // Another thread is printing already.
        let Ok(mut printed) = self.printed.try_lock() else {
            return;
        };
        if printed.elapsed() >= EVERY {
            *printed = Instant::now();
            let seconds = self.started.elapsed().as_secs_f64();
            let rate = done.saturating_sub(before) as f64 / seconds;
            let left = total.saturating_sub(done) as f64 / rate.max(1.0);
            eprintln!(
                "{}: {} of {}, {}/s, {left:.0} s left",
                self.label,
                size(done),
                size(total),
                size(rate as u64),
            );
        }
    }

    /// Removes the bar, and gives the time that the work took.
    pub fn finish(&self) -> Duration {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.started.elapsed()
    }
}

/// Writes text to standard output at once. If the reader has closed the pipe,
/// the work goes on.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Prints a line of what was done: a word, and what there is to say of it.
pub fn say(what: &str, text: &str) -> anyhow::Result<()> {
    print(&format!("{what:>9}  {text}\n"))?;
    Ok(())
}

/// A time in words: `0.42 s`, `2 min 5 s`.
pub fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        0.0..10.0 => format!("{seconds:.2} s"),
        10.0..60.0 => format!("{seconds:.1} s"),
        _ => format!("{} min {} s", time.as_secs() / 60, time.as_secs() % 60),
    }
}
