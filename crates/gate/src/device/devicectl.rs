//! An iPhone on a cable, driven with `xcrun devicectl`.
//!
//! The command lines follow Apple's tool as public scripts use it. None of this
//! has been run on Apple hardware by this project: docs/run-contract.md says
//! what else has not.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// The folder in the app's container that everything is copied to, and where
/// the app leaves its transcript.
const FOLDER: &str = "Documents/device-gate";

/// A run of the host app on an iPhone.
#[derive(Clone, Debug)]
pub struct Drive {
    /// The iPhone: its name, or what `xcrun devicectl list devices` calls its
    /// identifier.
    pub device: String,
    /// The host app's bundle identifier, such as `org.example.DeviceGate`.
    pub bundle_id: String,
    /// The built and signed `.app`; without it the app that is there is used.
    pub app: Option<PathBuf>,
    /// Whether the app decodes with the pipelined engine, which it must have
    /// been built with, and not with Core AI alone.
    pub pipelined: bool,
    /// The folder of the decoder's bundle.
    pub decoder: PathBuf,
    /// The folder of the vision encoder.
    pub vision: Option<PathBuf>,
    /// The fixture, a file.
    pub fixture: PathBuf,
    /// Where the transcript goes, a file.
    pub transcript: PathBuf,
}

impl Drive {
    /// The arguments of `xcrun`, one list a call, in their order: install, copy
    /// there, launch and wait for the end, copy back.
    pub fn commands(&self) -> Vec<Vec<OsString>> {
        let mut commands = Vec::new();
        if let Some(app) = &self.app {
            let mut install = self.call(&["install", "app"]);
            install.push(app.into());
            commands.push(install);
        }
        let bundles = [Some(&self.decoder), self.vision.as_ref()];
        for bundle in bundles.into_iter().flatten() {
            let name = bundle.file_name().unwrap_or_default().to_string_lossy();
            commands.push(self.copy("to", bundle, &name));
        }
        commands.push(self.copy("to", &self.fixture, "fixture.json"));
        let mut launch = self.call(&["process", "launch"]);
        launch.extend(["--terminate-existing", "--console"].map(OsString::from));
        launch.extend([&self.bundle_id, "--run"].map(OsString::from));
        launch.extend(self.pipelined.then(|| "pipelined".into()));
        commands.push(launch);
        commands.push(self.copy("from", &self.transcript, "transcript.json"));
        commands
    }

    /// `devicectl device …` for this iPhone.
    fn call(&self, what: &[&str]) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["devicectl".into(), "device".into()];
        arguments.extend(what.iter().map(OsString::from));
        arguments.extend(["--device", &self.device].map(OsString::from));
        arguments
    }

    /// Copies between `here` and `there` in the app's folder.
    fn copy(&self, direction: &str, here: &Path, there: &str) -> Vec<OsString> {
        let mut arguments = self.call(&["copy", direction]);
        arguments.extend(["--domain-type", "appDataContainer"].map(OsString::from));
        arguments.extend(["--domain-identifier", &self.bundle_id].map(OsString::from));
        let there = OsString::from(format!("{FOLDER}/{there}"));
        let ends = match direction {
            "to" => [here.into(), there],
            _ => [there, here.into()],
        };
        for (flag, end) in ["--source", "--destination"].into_iter().zip(ends) {
            arguments.extend([flag.into(), end]);
        }
        arguments
    }

    /// Runs them, with what they say in plain view.
    ///
    /// # Errors
    /// The transcript exists already, or a call fails; those after it are not
    /// made.
    #[cfg(target_os = "macos")]
    pub fn run(&self) -> super::Result<super::DeviceTranscript> {
        use super::Error;
        if self.transcript.exists() {
            let exists = std::io::ErrorKind::AlreadyExists;
            return Err(super::io_error(&self.transcript, exists.into()));
        }
        for arguments in self.commands() {
            let words: Vec<_> = arguments
                .iter()
                .map(|word| word.to_string_lossy())
                .collect();
            let failed = |problem: String| Error::Tool {
                line: format!("xcrun {}", words.join(" ")),
                problem,
            };
            let status = std::process::Command::new("xcrun")
                .args(&arguments)
                .status()
                .map_err(|error| failed(format!("{error}; it comes with Xcode")))?;
            if !status.success() {
                return Err(failed(format!(
                    "ended with {status}; what it said is above. The iPhone must be paired, \
                     unlocked and in developer mode"
                )));
            }
        }
        super::DeviceTranscript::load(&self.transcript)
    }
}

#[cfg(test)]
mod tests {
    use super::Drive;

    fn lines(drive: &Drive) -> Vec<String> {
        let commands = drive.commands().into_iter();
        commands
            .map(|words| words.join(" ".as_ref()).into_string().unwrap())
            .collect()
    }

    #[test]
    fn everything_is_copied_before_the_app_is_launched_and_fetched_after() {
        let mut drive = Drive {
            device: "phone".to_owned(),
            bundle_id: "org.example.Gate".to_owned(),
            app: Some("build/Gate.app".into()),
            pipelined: false,
            decoder: "exports/decoder".into(),
            vision: Some("exports/vision".into()),
            fixture: "out/nano.json".into(),
            transcript: "out/phone.json".into(),
        };
        let domain = "--domain-type appDataContainer --domain-identifier org.example.Gate";
        let to = format!("devicectl device copy to --device phone {domain} --source");
        let there = "--destination Documents/device-gate";
        let expected = [
            "devicectl device install app --device phone build/Gate.app".to_owned(),
            format!("{to} exports/decoder {there}/decoder"),
            format!("{to} exports/vision {there}/vision"),
            format!("{to} out/nano.json {there}/fixture.json"),
            "devicectl device process launch --device phone --terminate-existing --console \
             org.example.Gate --run"
                .to_owned(),
            format!(
                "devicectl device copy from --device phone {domain} --source \
                 Documents/device-gate/transcript.json --destination out/phone.json"
            ),
        ];
        assert_eq!(lines(&drive), expected);

        drive.app = None;
        drive.vision = None;
        drive.pipelined = true;
        let launch = format!("{} pipelined", expected[4]);
        let [_, decoder, _, fixture, _, last] = expected;
        assert_eq!(lines(&drive), [decoder, fixture, launch, last]);
    }
}
