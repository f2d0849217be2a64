//! A connection to a hub.

use crate::name::{is_repository_id, short_line};
use crate::retry::{Failure, Retry, is_temporary};
use crate::{Error, ProgressFn, Settings};
use hf_hub::{HFClient, HFError, HFRepository, RepoTypeModel};
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(20);
/// How long a connection may be silent.
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
    /// A client of a hub. It sends nothing yet.
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
        // hf-hub's own client has no timeouts.
        let http = reqwest::Client::builder()
            .user_agent(agent)
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .build()
            .map_err(|error| wrong(short_line(&error.to_string())))?;
        // hf-hub's retries ignore Retry-After; this crate's do not.
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
            .map_err(|error| wrong(short_line(&error.to_string())))?;
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

    pub(crate) fn retry<'a>(&'a self, what: &'a str, progress: ProgressFn<'a>) -> Retry<'a> {
        Retry::new(&self.settings, what, progress)
    }

    /// The error after the last try. It quotes the server, without the token
    /// if the server repeated that.
    pub(crate) fn explain(&self, id: &str, what: &str, tries: u32, failure: Failure) -> Error {
        let endpoint = self.settings.endpoint.clone();
        let what = what.to_owned();
        let page = format!("{endpoint}/{id}");
        let status = |status: u16, server_message: String| {
            let (endpoint, what, page) = (endpoint.clone(), what.clone(), page.clone());
            let message = format!("it answers {status}{server_message}");
            match (status, &self.settings.token) {
                (404, _) => Error::Missing {
                    what,
                    server_message,
                },
                (401 | 403, None) => Error::Anonymous {
                    what,
                    status,
                    server_message,
                    page,
                },
                (401 | 403, Some(_)) => Error::Denied {
                    what,
                    status,
                    server_message,
                    page,
                },
                _ if is_temporary(status) => Error::Busy {
                    endpoint,
                    what,
                    tries,
                    message,
                },
                _ => Error::Refused { what, message },
            }
        };
        let error = match failure {
            Failure::Short => {
                let message = "the connection broke off".into();
                return Error::Busy {
                    endpoint,
                    what,
                    tries,
                    message,
                };
            }
            Failure::Status(code, _) => return status(code, String::new()),
            Failure::Hub(error) => error,
        };
        let server_message = self.server_message(&error);
        match &error {
            HFError::RepoNotFound { .. }
            | HFError::RevisionNotFound { .. }
            | HFError::EntryNotFound { .. } => Error::Missing {
                what,
                server_message,
            },
            HFError::AuthRequired { context }
            | HFError::Forbidden { context }
            | HFError::RateLimited { context, .. }
            | HFError::Http { context } => status(context.status.as_u16(), server_message),
            HFError::Request { source, .. } if source.is_connect() => Error::Unreachable {
                endpoint,
                message: self.scrub(&deepest(source)),
            },
            HFError::Request { source, .. } => Error::Busy {
                endpoint,
                what,
                tries,
                message: if source.is_timeout() {
                    "it stopped answering".into()
                } else {
                    self.scrub(&deepest(source))
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

    fn server_message(&self, error: &HFError) -> String {
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
            server_message if server_message.is_empty() => server_message,
            server_message => format!(" ({server_message})"),
        }
    }

    /// Text of a server or a library, fit to be shown.
    pub(crate) fn scrub(&self, text: &str) -> String {
        let text = match &self.settings.token {
            Some(token) => text.replace(token.secret(), "[token]"),
            None => text.to_owned(),
        };
        short_line(&text)
    }
}

/// The innermost cause: reqwest's own text has the URL, which may be signed.
fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
