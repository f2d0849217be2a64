//! What Core AI's own runtime answered, recorded in a file.
//!
//! On a CPU it takes a minute or two a token for a large decoder, and there is
//! none where a GPU is. Its answer depends on nothing but the bundles,
//! the prompts and its version, so it is asked for once, and read elsewhere.

use std::path::Path;

use bundle::AssetRole;
use serde::{Deserialize, Serialize};

use crate::{
    Candidate, Error, NamedPrompt, Result,
    device::{AssetId, Prompt},
    json,
};

/// The version of the file.
const VERSION: u32 = 1;

/// The max length of a runtime's name and version, in bytes.
const MAX_LABEL: usize = 100;

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
    /// That of the table of embeddings, in a layout that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding: Option<AssetId>,
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
    pub fn new(asked: &NamedPrompt, tokens: Vec<u32>, margins: Vec<f32>) -> Answer {
        Answer {
            name: asked.name.clone(),
            input: input(asked),
            tokens,
            margins,
        }
    }
}

fn embedding(candidate: &Candidate) -> Option<AssetId> {
    candidate.asset(AssetRole::Embedding).ok().map(AssetId::of)
}

fn input(asked: &NamedPrompt) -> String {
    Prompt::new(asked, &[], &[]).input
}

impl Answers {
    /// What a runtime answered for a candidate.
    ///
    /// # Errors
    /// The candidate lacks an asset.
    pub fn new(candidate: &Candidate, runtime: String, prompts: Vec<Answer>) -> Result<Answers> {
        let [decoder, vision] =
            [AssetRole::Main, AssetRole::Vision].map(|role| candidate.asset(role).map(AssetId::of));
        Ok(Answers {
            version: VERSION,
            runtime,
            decoder: decoder?,
            vision: vision?,
            embedding: embedding(candidate),
            prompts,
        })
    }

    /// Writes them to a new file, whole or not at all.
    ///
    /// # Errors
    /// The file exists or cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        json::write_new(path, self)
    }

    /// Reads what was answered for a candidate.
    ///
    /// # Errors
    /// A file that cannot be read, is not such a file, or is about other bundles.
    pub fn load(path: &Path, candidate: &Candidate) -> Result<Answers> {
        let answers: Answers = json::read(
            path,
            "expected answers of Core AI's runtime that an earlier run kept",
        )?;
        let expected = Answers::new(candidate, String::new(), Vec::new())?;
        match answers.problem(&expected) {
            None => Ok(answers),
            Some(problem) => Err(Error::Answers {
                path: path.to_owned(),
                problem,
            }),
        }
    }

    /// Why they are not answers for the assets of `expected`.
    fn problem(&self, expected: &Answers) -> Option<String> {
        if self.version != VERSION {
            return Some(format!("has version {}, expected {VERSION}", self.version));
        }
        if !(1..=MAX_LABEL).contains(&self.runtime.len())
            || self.runtime.contains(fsutil::is_unseen)
        {
            return Some("does not name the runtime in a few words".to_owned());
        }
        let assets = [
            ("decoder", Some(&expected.decoder), Some(&self.decoder)),
            ("vision encoder", Some(&expected.vision), Some(&self.vision)),
            (
                "table of embeddings",
                expected.embedding.as_ref(),
                self.embedding.as_ref(),
            ),
        ];
        for (which, expected, found) in assets {
            let [expected, found] = [expected, found].map(|id| id.map_or("none", |id| &id.sha256));
            if expected != found {
                return Some(format!(
                    "is of another {which}, and not of the one whose main.mlirb has SHA-256 \
                     {expected}"
                ));
            }
        }
        let mut names: Vec<&str> = self.prompts.iter().map(|one| one.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() < self.prompts.len() {
            return Some("answers a prompt twice".to_owned());
        }
        let mut margins = self.prompts.iter().flat_map(|one| &one.margins);
        let no_lead = margins.find(|margin| !(0.0..f32::INFINITY).contains(*margin))?;
        Some(format!("says that a token leads by {no_lead}"))
    }

    /// The answers to prompts, in their order: `tokens` tokens each, of as many
    /// as there are in the `vocabulary`.
    ///
    /// # Errors
    /// They lack a prompt or tokens. `place` is where they come from.
    pub fn to(
        &self,
        asked: &[NamedPrompt],
        tokens: usize,
        vocabulary: usize,
        place: &Path,
    ) -> Result<Vec<Answer>> {
        let answers = asked
            .iter()
            .map(|asked| self.one(asked, tokens, vocabulary));
        answers
            .collect::<Result<_, _>>()
            .map_err(|problem| Error::Answers {
                path: place.to_owned(),
                problem,
            })
    }

    fn one(&self, asked: &NamedPrompt, tokens: usize, vocabulary: usize) -> Result<Answer, String> {
        let (name, input) = (&asked.name, input(asked));
        let same = |answer: &&Answer| answer.name == *name && answer.input == input;
        let Some(answer) = self.prompts.iter().find(same) else {
            return Err(format!("has no answer to the prompt {name:?} of the set"));
        };
        let mut answer = answer.clone();
        let found = answer.tokens.len().min(answer.margins.len());
        if found < tokens {
            return Err(format!(
                "has {found} tokens in answer to {name:?}, and the set compares {tokens}"
            ));
        }
        if let Some(token) = answer
            .tokens
            .iter()
            .find(|one| **one as usize >= vocabulary)
        {
            return Err(format!(
                "answers {name:?} with token {token}, and there are {vocabulary}"
            ));
        }
        answer.tokens.truncate(tokens);
        answer.margins.truncate(tokens);
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use models::TokenizedPrompt;

    fn asset(name: &str) -> AssetId {
        AssetId {
            name: name.to_owned(),
            sha256: name.repeat(3),
        }
    }

    fn asked(name: &str, ids: &[i32]) -> NamedPrompt {
        NamedPrompt {
            name: name.to_owned(),
            prompt: engine::Prompt {
                tokens: TokenizedPrompt {
                    ids: ids.to_vec(),
                    ..TokenizedPrompt::default()
                },
                patches: Vec::new(),
            },
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
            embedding: None,
            prompts: vec![answer("one", &[1]), answer("two", &[1, 2])],
        }
    }

    #[test]
    fn what_was_written_answers_the_prompts_that_it_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers.json");
        answers().write(&path).unwrap();
        assert!(answers().write(&path).is_err());
        let read: Answers = json::read(&path, "").unwrap();
        assert_eq!(read, answers());
        assert_eq!(read.problem(&answers()), None);
        let found = read.to(&[asked("two", &[1, 2])], 2, 10, &path).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].tokens, [7, 8]);
        assert_eq!(found[0].margins, [0.5, 0.25]);
    }

    #[test]
    fn a_file_that_does_not_serve_is_refused() {
        type Change = fn(&mut Answers);
        let expected = answers();
        let cases: [(Change, &str); 10] = [
            (|a| a.version = 2, "has version 2"),
            (|a| a.runtime.clear(), "name the runtime"),
            (|a| a.runtime = "x".repeat(101), "name the runtime"),
            (|a| a.runtime.push('\u{1b}'), "name the runtime"),
            (|a| a.decoder = asset("d"), "another decoder"),
            (|a| a.vision = asset("v"), "another vision encoder"),
            (
                |a| a.embedding = Some(asset("e")),
                "another table of embeddings",
            ),
            (|a| a.prompts[1] = a.prompts[0].clone(), "twice"),
            (|a| a.prompts[1].margins[2] = f32::NAN, "leads by NaN"),
            (|a| a.prompts[0].margins[0] = -1.0, "leads by -1"),
        ];
        for (change, message) in cases {
            let mut answers = answers();
            change(&mut answers);
            let problem = answers.problem(&expected).unwrap();
            assert!(problem.contains(message), "{problem}");
        }
    }

    #[test]
    fn answers_to_something_else_are_refused() {
        let two = asked("two", &[1, 2]);
        let cases = [
            (
                asked("two", &[1, 3]),
                3,
                10,
                "no answer to the prompt \"two\"",
            ),
            (
                asked("six", &[1, 2]),
                3,
                10,
                "no answer to the prompt \"six\"",
            ),
            (two.clone(), 4, 10, "has 3 tokens in answer to \"two\""),
            (two, 3, 9, "with token 9, and there are 9"),
        ];
        for (asked, tokens, vocabulary, message) in cases {
            let place = Path::new("answers.json");
            let found = answers().to(&[asked], tokens, vocabulary, place);
            let error = found.unwrap_err().to_string();
            assert!(error.starts_with("answers.json"), "{error}");
            assert!(
                error.contains(message) && error.contains("ask Core AI's runtime again"),
                "{error}"
            );
        }
    }
}
