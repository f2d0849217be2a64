//! What Core AI's own runtime answered, on file.
//!
//! On a processor it takes up to a minute or two a token for a large decoder,
//! and there is none where a card is. Its answer depends on nothing but the
//! bundles and the prompts, so it is asked for once, and read elsewhere.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{
    Asked, Error, Result, Subject,
    device::{AssetId, Prompt},
    json,
};

/// The version of the file.
const VERSION: u32 = 1;

/// Answers to the prompts of a set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    version: u32,
    /// Which runtime it was: `coreai-core 1.0.0b3`.
    pub runtime: String,
    /// The decoder's asset.
    pub decoder: AssetId,
    /// The vision encoder's.
    pub vision: AssetId,
    /// The answers.
    pub prompts: Vec<Answer>,
}

/// What a runtime answered to a prompt, greedily and past end tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The prompt's name.
    pub name: String,
    /// SHA-256 of what it was given: [`Prompt::digest`].
    pub input: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// By how many logits each leads.
    pub margins: Vec<f32>,
}

impl Answer {
    /// To a prompt.
    pub fn new(asked: &Asked, tokens: Vec<u32>, margins: Vec<f32>) -> Answer {
        Answer {
            name: asked.name.clone(),
            input: input(asked),
            tokens,
            margins,
        }
    }
}

fn input(asked: &Asked) -> String {
    Prompt::new(asked, &[], &[]).input
}

impl Answers {
    /// What a runtime answered for a subject.
    pub fn new(subject: &Subject, runtime: String, prompts: Vec<Answer>) -> Answers {
        Answers {
            version: VERSION,
            runtime,
            decoder: AssetId::of(&subject.decoder),
            vision: AssetId::of(&subject.vision),
            prompts,
        }
    }

    /// Writes them to a new file, whole or not at all.
    ///
    /// # Errors
    /// The file exists or cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        json::write_new(path, self)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is no such file.
    pub fn load(path: &Path) -> Result<Answers> {
        let help = "expected what gate --core-ai wrote; name another file, and Core AI is asked";
        let answers: Answers = json::read(path, help)?;
        let VERSION = answers.version else {
            let problem = format!(
                "has version {}, expected {VERSION}; {help}",
                answers.version
            );
            return Err(Error::input(path.display(), problem));
        };
        Ok(answers)
    }

    /// The answers to a subject's prompts, in their order: `tokens` tokens each.
    ///
    /// # Errors
    /// They are of other bundles, or lack a prompt or tokens. `place` is where
    /// they come from.
    pub fn of(
        self,
        subject: &Subject,
        asked: &[Asked],
        tokens: usize,
        place: &Path,
    ) -> Result<Vec<Answer>> {
        let assets = [&subject.decoder, &subject.vision].map(AssetId::of);
        let found = self.of_assets(&assets, asked, tokens);
        found.map_err(|problem| {
            let problem = format!("{problem}; name another file, and Core AI is asked again");
            Error::input(place.display(), problem)
        })
    }

    fn of_assets(
        mut self,
        [decoder, vision]: &[AssetId; 2],
        asked: &[Asked],
        tokens: usize,
    ) -> Result<Vec<Answer>, String> {
        let assets = [
            ("decoder", decoder, &self.decoder),
            ("vision encoder", vision, &self.vision),
        ];
        for (which, expected, found) in assets {
            if expected.sha256 != found.sha256 {
                return Err(format!(
                    "is of another {which}: its main.mlirb has SHA-256 {}, and the bundle that is \
                     judged has {}",
                    found.sha256, expected.sha256
                ));
            }
        }
        let mut answers = Vec::new();
        for asked in asked {
            let input = input(asked);
            let same = |answer: &Answer| answer.name == asked.name && answer.input == input;
            let Some(at) = self.prompts.iter().position(same) else {
                return Err(format!(
                    "has no answer to the prompt {:?} of the set",
                    asked.name
                ));
            };
            let mut answer = self.prompts.swap_remove(at);
            let least = answer.tokens.len().min(answer.margins.len());
            if least < tokens {
                return Err(format!(
                    "has {least} tokens in answer to {:?}, and the set compares {tokens}",
                    asked.name
                ));
            }
            answer.tokens.truncate(tokens);
            answer.margins.truncate(tokens);
            answers.push(answer);
        }
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asset(name: &str) -> AssetId {
        AssetId {
            name: name.to_owned(),
            sha256: name.repeat(3),
        }
    }

    fn asked(name: &str, ids: &[i32]) -> Asked {
        Asked {
            name: name.to_owned(),
            ids: ids.to_vec(),
            rope_shift_start: 1 << 30,
            rope_shift_amount: 0,
            patches: None,
        }
    }

    fn answers() -> Answers {
        let answer = |name, ids: &[i32]| {
            Answer::new(&asked(name, ids), vec![7, 8, 9], vec![0.5, 0.25, 0.125])
        };
        Answers {
            version: VERSION,
            runtime: "coreai-core 1.0.0b3".to_owned(),
            decoder: asset("decoder"),
            vision: asset("vision"),
            prompts: vec![answer("one", &[1]), answer("two", &[1, 2])],
        }
    }

    #[test]
    fn what_was_written_answers_the_prompts_that_it_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers.json");
        answers().write(&path).unwrap();
        assert!(answers().write(&path).is_err());
        let read = Answers::load(&path).unwrap();
        assert_eq!(read, answers());
        let asked = [asked("two", &[1, 2])];
        let assets = [asset("decoder"), asset("vision")];
        let found = read.of_assets(&assets, &asked, 2).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].tokens, [7, 8]);
        assert_eq!(found[0].margins, [0.5, 0.25]);
    }

    #[test]
    fn answers_to_something_else_are_refused() {
        let two = asked("two", &[1, 2]);
        let cases = [
            ("d", "vision", two.clone(), 3, "another decoder"),
            ("decoder", "v", two.clone(), 3, "another vision encoder"),
            (
                "decoder",
                "vision",
                asked("two", &[1, 3]),
                3,
                "no answer to the prompt \"two\"",
            ),
            (
                "decoder",
                "vision",
                asked("six", &[1, 2]),
                3,
                "no answer to the prompt \"six\"",
            ),
            (
                "decoder",
                "vision",
                two,
                4,
                "has 3 tokens in answer to \"two\"",
            ),
        ];
        for (decoder, vision, asked, tokens, message) in cases {
            let assets = [asset(decoder), asset(vision)];
            let error = answers().of_assets(&assets, &[asked], tokens).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_no_answer_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers.json");
        let whole = serde_json::to_string(&answers()).unwrap();
        let version = whole.replace("\"version\":1", "\"version\":2");
        for text in ["{}", &whole[..whole.len() / 2], &version] {
            std::fs::write(&path, text).unwrap();
            let error = Answers::load(&path).unwrap_err().to_string();
            assert!(
                error.contains("answers.json") && error.contains("name another file"),
                "{error}"
            );
        }
    }
}
