//! A connection to a hub.

use crate::name::{is_repository_id, tame};
use crate::retry::{Patience, Trouble, passes};
use crate::{Error, Settings, Tell};
use hf_hub::{HFClient, HFError, HFRepository, RepoTypeModel};
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long a connection may take to come about, and to stay silent.
const CONNECT: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_secs(90);

/// A hub.
#[derive(Debug)]
pub struct Hub {
    pub(crate) settings: Settings,
    pub(crate) runtime: Runtime,
    pub(crate) http: reqwest::Client,
    client: HFClient,
}

impl Hub {
    /// A hub; nothing is asked yet.
    ///
    /// # Errors
    /// [`Error::Setting`] if the settings cannot be used.
    pub fn new(settings: Settings) -> Result<Hub, Error> {
        let wrong = |message: String| Error::Setting {
            name: "HF_ENDPOINT",
            message,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        let agent = concat!("aimodel/", env!("CARGO_PKG_VERSION"));
        // hf-hub's own client waits for ever.
        let http = reqwest::Client::builder()
            .user_agent(agent)
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .build()
            .map_err(|error| wrong(tame(&error.to_string())))?;
        // Its own retries know no Retry-After; ours do.
        let mut builder = HFClient::builder()
            .client(http.clone())
            .user_agent(agent)
            .endpoint(&settings.endpoint)
            .cache_dir(&settings.cache)
            .retry_max_attempts(0);
        if let Some(token) = &settings.token {
            builder = builder.token(token.secret());
        }
        let client = builder
            .build()
            .map_err(|error| wrong(tame(&error.to_string())))?;
        Ok(Hub {
            settings,
            runtime,
            http,
            client,
        })
    }

    /// The settings that it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn client(&self) -> &HFClient {
        &self.client
    }

    pub(crate) fn model(&self, id: &str) -> Result<HFRepository<RepoTypeModel>, Error> {
        match id.split_once('/') {
            Some((organization, name)) if is_repository_id(id) => {
                Ok(self.client.model(organization, name))
            }
            _ => Err(Error::Id { id: id.into() }),
        }
    }

    pub(crate) fn patience<'a>(&'a self, what: &'a str, tell: Tell<'a>) -> Patience<'a> {
        Patience::new(&self.settings, what, tell)
    }

    /// The trouble that is the last, in words. What the server said is shown,
    /// but for the token, if it said that.
    pub(crate) fn explain(&self, id: &str, what: &str, tries: u32, trouble: Trouble) -> Error {
        let endpoint = self.settings.endpoint.clone();
        let what = what.to_owned();
        let page = format!("{endpoint}/{id}");
        let status = |status: u16, said: String| {
            let (endpoint, what, page) = (endpoint.clone(), what.clone(), page.clone());
            let message = format!("it answers {status}{said}");
            match (status, &self.settings.token) {
                (404, _) => Error::Missing { what, said },
                (401 | 403, None) => Error::Anonymous {
                    what,
                    status,
                    said,
                    page,
                },
                (401 | 403, Some(_)) => Error::Denied {
                    what,
                    status,
                    said,
                    page,
                },
                _ if passes(status) => Error::Busy {
                    endpoint,
                    what,
                    tries,
                    message,
                },
                _ => Error::Refused { what, message },
            }
        };
        let error = match trouble {
            Trouble::Short => {
                let message = "the connection broke off".into();
                return Error::Busy {
                    endpoint,
                    what,
                    tries,
                    message,
                };
            }
            Trouble::Status(code, _) => return status(code, String::new()),
            Trouble::Hub(error) => error,
        };
        let said = self.said(&error);
        match &error {
            HFError::RepoNotFound { .. }
            | HFError::RevisionNotFound { .. }
            | HFError::EntryNotFound { .. } => Error::Missing { what, said },
            HFError::AuthRequired { context }
            | HFError::Forbidden { context }
            | HFError::RateLimited { context, .. }
            | HFError::Http { context } => status(context.status.as_u16(), said),
            HFError::Request { source, .. } if source.is_connect() => Error::Unreachable {
                endpoint,
                message: self.scrub(&deepest(source)),
            },
            HFError::Request { source, .. } => Error::Busy {
                endpoint,
                what,
                tries,
                message: match source.is_timeout() {
                    true => "it fell silent".into(),
                    false => self.scrub(&deepest(source)),
                },
            },
            HFError::Xet { source, .. } => Error::Busy {
                endpoint,
                what,
                tries,
                message: self.scrub(&deepest(source.as_ref())),
            },
            other => Error::Refused {
                what,
                message: self.scrub(&other.to_string()),
            },
        }
    }

    fn said(&self, error: &HFError) -> String {
        let context = match error {
            HFError::Http { context }
            | HFError::AuthRequired { context }
            | HFError::Forbidden { context }
            | HFError::Conflict { context }
            | HFError::RateLimited { context, .. } => context,
            HFError::RepoNotFound {
                context: Some(context),
                ..
            }
            | HFError::RevisionNotFound {
                context: Some(context),
                ..
            }
            | HFError::EntryNotFound {
                context: Some(context),
                ..
            } => context,
            _ => return String::new(),
        };
        let message = context.server_message.as_deref().unwrap_or_default();
        match self.scrub(message) {
            said if said.is_empty() => said,
            said => format!(" ({said})"),
        }
    }

    /// Text of a server or a library, fit to be shown.
    pub(crate) fn scrub(&self, text: &str) -> String {
        let text = match &self.settings.token {
            Some(token) => text.replace(token.secret(), "[token]"),
            None => text.to_owned(),
        };
        tame(&text)
    }
}

/// The innermost cause: reqwest's own text has the address, which may be signed.
fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
