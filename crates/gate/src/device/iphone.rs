//! An iPhone on a cable, driven with `xcrun devicectl`.
//!
//! The command lines follow Apple's tool as public scripts use it. None of this
//! has been run on Apple hardware by this project: docs/run-contract.md says
//! what else has not.

use std::{ffi::OsString, path::Path};

use super::DeviceTranscript;
use crate::{Error, Result};

/// The folder in the app's container that everything is copied to, and where
/// the app leaves its transcript.
const FOLDER: &str = "Documents/device-gate";

/// An iPhone with the host app on it.
#[derive(Clone, Debug)]
pub struct IPhone {
    /// Its name, or the identifier that `xcrun devicectl list devices` shows.
    pub name: String,
    /// The app's bundle identifier, such as `org.example.DeviceGate`.
    pub app: String,
    /// Whether the app decodes with the pipelined engine, which it must have
    /// been built with, and not with Core AI alone.
    pub pipelined: bool,
}

impl IPhone {
    /// The arguments of `xcrun`, one list a call, in their order: copy bundles
    /// (folders) and the fixture there, launch the app and wait for its end,
    /// copy the transcript back.
    pub fn commands(
        &self,
        bundles: &[&Path],
        fixture: &Path,
        transcript: &Path,
    ) -> Vec<Vec<OsString>> {
        let mut commands: Vec<_> = bundles
            .iter()
            .map(|bundle| {
                let name = bundle.file_name().unwrap_or_default().to_string_lossy();
                self.copy("to", bundle, &name)
            })
            .collect();
        commands.push(self.copy("to", fixture, "fixture.json"));
        let mut launch = self.call(["process", "launch"]);
        launch.extend(["--terminate-existing", "--console"].map(OsString::from));
        launch.extend([self.app.as_str(), "--run"].map(OsString::from));
        launch.extend(self.pipelined.then(|| "pipelined".into()));
        commands.push(launch);
        commands.push(self.copy("from", transcript, "transcript.json"));
        commands
    }

    /// `devicectl device …` for this iPhone.
    fn call(&self, what: [&str; 2]) -> Vec<OsString> {
        let words = [
            "devicectl",
            "device",
            what[0],
            what[1],
            "--device",
            &self.name,
        ];
        words.map(OsString::from).into()
    }

    /// Copies between `here` and `there` in the app's folder.
    fn copy(&self, direction: &str, here: &Path, there: &str) -> Vec<OsString> {
        let mut arguments = self.call(["copy", direction]);
        arguments.extend(["--domain-type", "appDataContainer"].map(OsString::from));
        arguments.extend(["--domain-identifier", &self.app].map(OsString::from));
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

    /// Runs the app on `fixture` and fetches what it has written to
    /// `transcript`, which must not exist. What `devicectl` says is in plain
    /// view.
    ///
    /// # Errors
    /// This is not a Mac, the transcript exists already, or a call fails; those
    /// after it are not made.
    pub fn run(
        &self,
        bundles: &[&Path],
        fixture: &Path,
        transcript: &Path,
    ) -> Result<DeviceTranscript> {
        if transcript.exists() {
            let problem = "exists already; the iPhone's transcript needs a name of its own";
            return Err(Error::input(transcript.display(), problem));
        }
        for arguments in self.commands(bundles, fixture, transcript) {
            xcrun(&arguments)?;
        }
        DeviceTranscript::load(transcript)
    }
}

#[cfg(target_os = "macos")]
fn xcrun(arguments: &[OsString]) -> Result<()> {
    let words: Vec<_> = arguments
        .iter()
        .map(|word| word.to_string_lossy())
        .collect();
    let failed = |problem: String| Error::input(format!("xcrun {}", words.join(" ")), problem);
    let status = std::process::Command::new("xcrun")
        .args(arguments)
        .status()
        .map_err(|error| failed(format!("{error}; it comes with Xcode")))?;
    if status.success() {
        Ok(())
    } else {
        Err(failed(format!(
            "ended with {status}; what it said is above. The iPhone must be paired, unlocked and \
             in developer mode, and the host app must be installed"
        )))
    }
}

#[cfg(not(target_os = "macos"))]
fn xcrun(_: &[OsString]) -> Result<()> {
    let problem = "an iPhone is driven from a Mac with Xcode; elsewhere give as `transcript` \
                   the file that one has written";
    Err(Error::option("iphone", problem))
}

#[cfg(test)]
mod tests {
    use super::IPhone;
    use std::path::Path;

    #[test]
    fn everything_is_copied_before_the_app_is_launched_and_fetched_after() {
        let mut phone = IPhone {
            name: "phone".to_owned(),
            app: "org.example.Gate".to_owned(),
            pipelined: false,
        };
        let lines = |phone: &IPhone| -> Vec<String> {
            let bundles = [Path::new("exports/decoder"), Path::new("exports/vision")];
            let [fixture, transcript] = [Path::new("out/nano.json"), Path::new("out/phone.json")];
            let commands = phone.commands(&bundles, fixture, transcript).into_iter();
            commands
                .map(|words| words.join(" ".as_ref()).into_string().unwrap())
                .collect()
        };
        let domain = "--domain-type appDataContainer --domain-identifier org.example.Gate";
        let to = format!("devicectl device copy to --device phone {domain} --source");
        let there = "--destination Documents/device-gate";
        let launch = "devicectl device process launch --device phone --terminate-existing \
                      --console org.example.Gate --run";
        let expected = [
            format!("{to} exports/decoder {there}/decoder"),
            format!("{to} exports/vision {there}/vision"),
            format!("{to} out/nano.json {there}/fixture.json"),
            launch.to_owned(),
            format!(
                "devicectl device copy from --device phone {domain} --source \
                 Documents/device-gate/transcript.json --destination out/phone.json"
            ),
        ];
        assert_eq!(lines(&phone), expected);

        phone.pipelined = true;
        assert_eq!(lines(&phone)[3], format!("{launch} pipelined"));
    }

    #[test]
    fn a_transcript_is_not_written_over() {
        let phone = IPhone {
            name: String::new(),
            app: String::new(),
            pipelined: false,
        };
        let folder = tempfile::tempdir().unwrap();
        let here = Path::new("");
        let error = phone.run(&[here; 2], here, folder.path()).unwrap_err();
        assert!(error.to_string().contains("exists already"), "{error}");
    }

    #[cfg(not(target_os = "macos"))]
    #[test]
    fn without_a_mac_there_is_no_iphone() {
        let phone = IPhone {
            name: String::new(),
            app: String::new(),
            pipelined: false,
        };
        let here = Path::new("");
        let error = phone.run(&[here; 2], here, here).unwrap_err();
        assert!(error.to_string().contains("from a Mac"), "{error}");
    }
}
