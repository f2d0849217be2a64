//! The device stage: what a host app is asked, and what it answers.
//!
//! A [`Fixture`] is one JSON file that an app on a Mac or an iPhone reads: the
//! bundles that it must run, prompts as the decoder takes them, and the tokens
//! that our engine gives. The app writes a [`DeviceTranscript`], and [`judge()`]
//! says whether each run gave those tokens. docs/run-contract.md has the host's
//! side; conformance/device.py does the same in Core AI's runtime elsewhere.

mod fixture;
mod iphone;
mod judge;
mod transcript;

pub use fixture::{AssetId, Fixture, Patches, Prompt, VERSION};
pub use iphone::IPhone;
pub use judge::judge;
pub use transcript::{DeviceTranscript, Host, Loaded, Platform, PromptRuns, Run};

#[cfg(test)]
mod tests {
    use super::{DeviceTranscript, Fixture, Patches, judge::tests::fixture};
    use crate::json::MAX_BYTES;

    /// What Swift's encoder writes: keys in another order, and none for what is
    /// nil.
    const TRANSCRIPT: &str = r#"{
        "decoder": {"load_seconds": 12, "name": "d.aimodel", "sha256": "00"},
        "engine": "InferenceFunction.run",
        "host": {"model": "m", "os": "iOS 27.0.0", "os_build": "24A1", "platform": "ios"},
        "made_with": "Core AI on m",
        "prompts": [{"input": "00", "name": "p", "runs": [
            {"first_seconds": 0.5, "tokens": [1, 2], "total_seconds": 1.25}
        ]}],
        "version": 1
    }"#;

    fn load(text: &str) -> Result<DeviceTranscript, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("transcript.json");
        std::fs::write(&path, text).unwrap();
        DeviceTranscript::load(&path).map_err(|error| {
            let text = error.to_string();
            assert!(text.contains("transcript.json"), "{text}");
            text
        })
    }

    #[test]
    fn a_transcript_may_leave_out_what_there_is_not() {
        let transcript = load(TRANSCRIPT).unwrap();
        assert_eq!(transcript.vision, None);
        assert_eq!(transcript.prompts[0].runs[0].vision_seconds, None);
        assert_eq!(transcript.prompts[0].runs[0].tokens, [1, 2]);
    }

    #[test]
    fn what_is_not_a_transcript_is_refused() {
        let unknown = TRANSCRIPT.replace("\"engine\"", "\"motor\"");
        assert!(
            load(&unknown)
                .unwrap_err()
                .contains("unknown field `motor`")
        );
        let unlabelled = TRANSCRIPT.replace("\"made_with\": \"Core AI on m\",", "");
        assert!(
            load(&unlabelled)
                .unwrap_err()
                .contains("missing field `made_with`")
        );
        let platform = TRANSCRIPT.replace("\"ios\"", "\"toaster\"");
        assert!(load(&platform).unwrap_err().contains("toaster"));
        let negative = TRANSCRIPT.replace("[1, 2]", "[-1]");
        assert!(load(&negative).is_err());
        let cut = &TRANSCRIPT[..TRANSCRIPT.len() / 2];
        assert!(load(cut).unwrap_err().contains("docs/run-contract.md"));
        let padded = format!("{TRANSCRIPT}{}", " ".repeat(MAX_BYTES as usize));
        assert!(load(&padded).unwrap_err().contains("at most"));
    }

    #[test]
    fn a_fixture_is_written_once_and_reads_the_same() {
        let fixture = fixture();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fixture.json");
        fixture.write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(serde_json::from_str::<Fixture>(&text).unwrap(), fixture);
        assert!(fixture.write(&path).is_err());
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 1);
    }

    #[test]
    fn patches_are_base64() {
        let patches = Patches {
            rows: 1,
            columns: 2,
            values: vec![0, 0x3c, 0, 0xbc],
        };
        let text = serde_json::to_string(&patches).unwrap();
        assert_eq!(text, r#"{"rows":1,"columns":2,"values":"ADwAvA=="}"#);
        assert!(serde_json::from_str::<Patches>(&text.replace("A==", "!")).is_err());
    }
}
