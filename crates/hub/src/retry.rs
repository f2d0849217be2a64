//! When to ask again, and how long to wait before.

use crate::{Progress, ProgressFn, Settings};
use hf_hub::HFError;
use std::future::Future;
use std::time::Duration;

/// The longest pause that is not at the hub's request.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause that a hub may request.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

/// Why a try did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An error of hf-hub.
    Hub(HFError),
    /// A status that is not success, and how long the hub asks to wait.
    Status(u16, Option<Duration>),
    /// Fewer bytes than were announced, and no error.
    Short,
}

impl From<HFError> for Failure {
    fn from(error: HFError) -> Failure {
        Failure::Hub(error)
    }
}

impl Failure {
    /// Whether the next try may succeed.
    fn is_temporary(&self) -> bool {
        match self {
            Failure::Short => true,
            Failure::Hub(HFError::RateLimited { .. } | HFError::Xet { .. }) => true,
            Failure::Status(status, _) => is_temporary(*status),
            Failure::Hub(HFError::Http { context }) => is_temporary(context.status.as_u16()),
            Failure::Hub(HFError::Request { source, .. }) => {
                !source.is_builder() && !source.is_redirect()
            }
            Failure::Hub(_) => false,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Failure::Hub(HFError::RateLimited { retry_after, .. }) => *retry_after,
            Failure::Status(_, asked) => *asked,
            _ => None,
        }
    }

    fn is_no_connection(&self) -> bool {
        matches!(self, Failure::Hub(HFError::Request { source, .. }) if source.is_connect())
    }

    fn describe(&self) -> String {
        match self {
            Failure::Hub(HFError::RateLimited { .. }) | Failure::Status(429, _) => {
                "the hub asks to slow down".into()
            }
            Failure::Hub(HFError::Http { context }) if context.status.as_u16() == 429 => {
                "the hub asks to slow down".into()
            }
            Failure::Status(status, _) => format!("the hub answers {status}"),
            Failure::Hub(HFError::Http { context }) => {
                format!("the hub answers {}", context.status.as_u16())
            }
            _ if self.is_no_connection() => "no connection".into(),
            _ => "the connection broke off".into(),
        }
    }
}

/// Whether an HTTP status says to try again.
pub(crate) fn is_temporary(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..=599)
}

/// Repeats a request that failed, with growing pauses.
pub(crate) struct Retry<'a> {
    what: &'a str,
    progress: ProgressFn<'a>,
    max_tries: u32,
    first: Duration,
    /// Tries since the last byte came.
    pub(crate) tries: u32,
}

impl<'a> Retry<'a> {
    pub(crate) fn new(settings: &Settings, what: &'a str, progress: ProgressFn<'a>) -> Retry<'a> {
        Retry {
            what,
            progress,
            max_tries: settings.tries.max(1),
            first: settings.pause,
            tries: 0,
        }
    }

    /// With two tries at most, for the first request: without a network, nobody
    /// should have to wait long.
    pub(crate) fn brief(mut self) -> Retry<'a> {
        self.max_tries = self.max_tries.min(2);
        self
    }

    /// Starts counting tries again, after some bytes arrived.
    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }

    /// Waits before another try, or returns the failure if there is none.
    pub(crate) async fn wait_after(&mut self, failure: Failure) -> Result<(), Failure> {
        self.tries += 1;
        if !failure.is_temporary() || self.tries >= self.max_tries {
            return Err(failure);
        }
        let doubled = self
            .first
            .saturating_mul(2u32.saturating_pow(self.tries - 1));
        let pause = match failure.retry_after() {
            Some(asked) if asked > MAX_RETRY_AFTER => return Err(failure),
            Some(asked) => asked.max(self.first),
            None => doubled.min(MAX_PAUSE),
        };
        let note = format!(
            "{}: {}; again in {:.1} s",
            self.what,
            failure.describe(),
            pause.as_secs_f64()
        );
        (self.progress)(Progress::Note(&note));
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Tries until it succeeds.
    pub(crate) async fn until<T, F>(&mut self, mut ask: impl FnMut() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, HFError>>,
    {
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) => self.wait_after(error.into()).await?,
            }
        }
    }
}
