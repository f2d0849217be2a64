//! Which hub, which token, and where the cache is: the environment variables
//! that every Hugging Face tool reads.

use crate::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The hub unless `HF_ENDPOINT` names another.
const ENDPOINT: &str = "https://huggingface.co";

/// The largest file with a token that is read, in bytes.
const MAX_TOKEN_FILE: u64 = 1 << 16;

/// An access token. It is never shown, not even by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token, unless the text is blank.
    pub fn new(text: &str) -> Option<Token> {
        let text = text.trim();
        (!text.is_empty()).then(|| Token(text.to_owned()))
    }

    pub(crate) fn secret(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[token]")
    }
}

/// How to reach a hub.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The hub's address, `https://…`.
    pub endpoint: String,
    /// The token, if there is one.
    pub token: Option<Token>,
    /// The folder of the cache, which has a folder for each repository.
    pub cache: PathBuf,
    /// Whether only the cache may be used.
    pub offline: bool,
    /// How often a request is tried again, when no byte came in between.
    pub tries: u32,
    /// The pause before the second try; it doubles each time.
    pub pause: Duration,
}

impl Settings {
    /// What `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HOME`,
    /// `HF_HUB_CACHE`, `HF_HUB_OFFLINE` and `HF_HUB_DISABLE_IMPLICIT_TOKEN` say.
    ///
    /// # Errors
    /// [`Error::Setting`] if one of them cannot be used.
    pub fn from_env() -> Result<Settings, Error> {
        let home = home()?;
        let mut settings = Settings::new(&variable("HF_ENDPOINT").unwrap_or(ENDPOINT.into()))?;
        settings.cache = variable("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from);
        settings.offline = flag("HF_HUB_OFFLINE");
        settings.token = if flag("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            None
        } else {
            token(&home)
        };
        Ok(settings)
    }

    /// A hub without a token, with its cache in the folder `hub` here.
    ///
    /// # Errors
    /// [`Error::Setting`] if it is not an http or https URL.
    pub fn new(endpoint: &str) -> Result<Settings, Error> {
        let wrong = |message: String| Error::Setting {
            name: "HF_ENDPOINT",
            message,
        };
        let url = reqwest::Url::parse(endpoint)
            .map_err(|error| wrong(format!("{endpoint:?} is not a URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong(format!("{endpoint:?} is not https://…")));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("it has a password in it; use HF_TOKEN".into()));
        }
        Ok(Settings {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: None,
            cache: PathBuf::from("hub"),
            offline: false,
            tries: 6,
            pause: Duration::from_millis(500),
        })
    }
}

fn token(home: &Path) -> Option<Token> {
    let read = |path: PathBuf| Token::new(&fsutil::read_text(&path, MAX_TOKEN_FILE).ok()?);
    let named = variable("HF_TOKEN").and_then(|text| Token::new(&text));
    named
        .or_else(|| read(variable("HF_TOKEN_PATH")?.into()))
        .or_else(|| read(home.join("token")))
}

fn home() -> Result<PathBuf, Error> {
    if let Some(home) = variable("HF_HOME") {
        return Ok(home.into());
    }
    let cache = match variable("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache),
        None => std::env::home_dir()
            .ok_or_else(|| Error::Setting {
                name: "HF_HOME",
                message: "there is no home folder; set it to the folder of the cache".into(),
            })?
            .join(".cache"),
    };
    Ok(cache.join("huggingface"))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn flag(name: &str) -> bool {
    let text = variable(name).unwrap_or_default().to_ascii_lowercase();
    matches!(text.as_str(), "1" | "true" | "yes" | "on")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_shown() {
        let mut settings = Settings::new("https://example.org/").unwrap();
        settings.token = Token::new(" hf_secret\n");
        assert_eq!(settings.token.as_ref().unwrap().secret(), "hf_secret");
        assert!(!format!("{settings:?}").contains("secret"));
        assert_eq!(settings.endpoint, "https://example.org");
        assert!(Token::new(" \n").is_none());
    }

    #[test]
    fn what_is_not_a_url_is_refused() {
        for endpoint in ["", "huggingface.co", "file:///x", "https://me:secret@x.org"] {
            let error = Settings::new(endpoint).unwrap_err().to_string();
            assert!(error.contains("HF_ENDPOINT"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
