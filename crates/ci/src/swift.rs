//! The hosts in Swift: `hosts/apple/check.sh` compiles them against stubs and
//! runs their tests, which answer the gate's own fixture with a transcript; the
//! gate judges that.

use super::{nano, outcome::Outcome};
use crate::repo;
use ::gate::{Stage, Verdict};
use anyhow::ensure;
use std::process::Command;

/// The step.
pub fn run() -> Outcome {
    if !cfg!(target_os = "linux") {
        return Ok("skipped: the stubs of Apple's frameworks are for Linux".to_owned());
    }
    let found = Command::new("swiftc").arg("--version").output();
    if !found.is_ok_and(|output| output.status.success()) {
        return Ok("skipped: swiftc is not on the PATH".to_owned());
    }
    let scratch = repo::scratch()?;
    let fixture = scratch.path().join("fixture.json");
    let transcript = scratch.path().join("transcript.json");
    nano::stage(Stage::Device, "int8hu", |job| {
        job.settings.fixture = Some(fixture.clone());
    })?;

    let script = repo::root().join("hosts/apple/check.sh");
    let mut check = Command::new(&script);
    check.env("FIXTURE", &fixture);
    check.env("TRANSCRIPT", &transcript);
    let status = check.status()?;
    ensure!(
        status.success(),
        "{} ended with {status}; its output is above",
        script.display()
    );

    let report = nano::stage(Stage::Device, "int8hu", |job| {
        job.settings.transcript = Some(transcript.clone());
    })?;
    ensure!(report.verdict == Verdict::Pass, "{}", report.summary);
    ensure!(
        report.apple_device == Some(false),
        "a transcript made on Linux is taken for a device's: {}",
        report.summary
    );
    Ok(
        "hosts/apple compiles against stubs in language modes 5 and 6; its tests pass, and their \
         transcript is read as one that is not of an Apple device"
            .to_owned(),
    )
}
