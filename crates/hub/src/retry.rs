//! When to ask again, and how long to wait before.

use crate::{Event, Settings, Tell};
use hf_hub::HFError;
use std::future::Future;
use std::time::Duration;

/// The longest pause between two tries that we choose.
const LONGEST: Duration = Duration::from_secs(30);
/// The longest that a hub may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(600);

/// Why a try did not succeed.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// hf-hub's word for it.
    Hub(HFError),
    /// A status that is not success, and how long the hub asks to wait.
    Status(u16, Option<Duration>),
    /// Fewer bytes than were announced, and no error.
    Short,
}

impl From<HFError> for Trouble {
    fn from(error: HFError) -> Trouble {
        Trouble::Hub(error)
    }
}

impl Trouble {
    /// Whether it may be gone at the next try.
    fn passes(&self) -> bool {
        match self {
            Trouble::Short => true,
            Trouble::Hub(HFError::RateLimited { .. } | HFError::Xet { .. }) => true,
            Trouble::Status(status, _) => passes(*status),
            Trouble::Hub(HFError::Http { context }) => passes(context.status.as_u16()),
            Trouble::Hub(HFError::Request { source, .. }) => {
                !source.is_builder() && !source.is_redirect()
            }
            Trouble::Hub(_) => false,
        }
    }

    fn asked(&self) -> Option<Duration> {
        match self {
            Trouble::Hub(HFError::RateLimited { retry_after, .. }) => *retry_after,
            Trouble::Status(_, asked) => *asked,
            _ => None,
        }
    }

    fn is_no_connection(&self) -> bool {
        matches!(self, Trouble::Hub(HFError::Request { source, .. }) if source.is_connect())
    }

    fn in_words(&self) -> String {
        match self {
            Trouble::Hub(HFError::RateLimited { .. }) | Trouble::Status(429, _) => {
                "the hub asks to slow down".into()
            }
            Trouble::Hub(HFError::Http { context }) if context.status.as_u16() == 429 => {
                "the hub asks to slow down".into()
            }
            Trouble::Status(status, _) => format!("the hub answers {status}"),
            Trouble::Hub(HFError::Http { context }) => {
                format!("the hub answers {}", context.status.as_u16())
            }
            _ if self.is_no_connection() => "no connection".into(),
            _ => "the connection broke off".into(),
        }
    }
}

pub(crate) fn passes(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..=599)
}

/// Asks again, a number of times in a row, with growing pauses.
pub(crate) struct Patience<'a> {
    what: &'a str,
    tell: Tell<'a>,
    most: u32,
    first: Duration,
    /// Tries since the last byte came.
    pub(crate) tries: u32,
}

impl<'a> Patience<'a> {
    pub(crate) fn new(settings: &Settings, what: &'a str, tell: Tell<'a>) -> Patience<'a> {
        Patience {
            what,
            tell,
            most: settings.tries.max(1),
            first: settings.pause,
            tries: 0,
        }
    }

    /// For a first word with a hub: whoever has no network shall not wait long.
    pub(crate) fn brief(mut self) -> Patience<'a> {
        self.most = self.most.min(2);
        self
    }

    /// Bytes came, so the count begins anew.
    pub(crate) fn renew(&mut self) {
        self.tries = 0;
    }

    /// Waits before another try, or gives the trouble back.
    pub(crate) async fn bear(&mut self, trouble: Trouble) -> Result<(), Trouble> {
        self.tries += 1;
        if !trouble.passes() || self.tries >= self.most {
            return Err(trouble);
        }
        let doubled = self
            .first
            .saturating_mul(2u32.saturating_pow(self.tries - 1));
        let pause = match trouble.asked() {
            Some(asked) if asked > LONGEST_ASKED => return Err(trouble),
            Some(asked) => asked.max(self.first),
            None => doubled.min(LONGEST),
        };
        let note = format!(
            "{}: {}; again in {:.1} s",
            self.what,
            trouble.in_words(),
            pause.as_secs_f64()
        );
        (self.tell)(Event::Note(&note));
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Tries until it succeeds.
    pub(crate) async fn until<T, F>(&mut self, mut ask: impl FnMut() -> F) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, HFError>>,
    {
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) => self.bear(error.into()).await?,
            }
        }
    }
}
