//! The metadata of an asset: `metadata.json`.

use crate::{Error, Result};

/// The version of the directory layout, as `metadata.json` states it.
const ASSET_VERSION: &str = "2.0";

/// The metadata of an asset, which is its `metadata.json`.
///
/// ```
/// use aimodel::AssetMetadata;
///
/// let metadata = AssetMetadata::new("aimodel 0.1.0", 1_795_374_656)?;
/// assert_eq!(metadata.creation_date.as_deref(), Some("20261122T191056Z"));
/// # Ok::<(), aimodel::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AssetMetadata {
    /// When it was made, as `YYYYMMDDTHHMMSSZ`.
    pub creation_date: Option<String>,
    /// The program that made it, with its version.
    pub producer: Option<String>,
    /// Who made it.
    pub author: Option<String>,
    /// Under which terms it may be used.
    pub license: Option<String>,
    /// What it is.
    pub description: Option<String>,
}

impl AssetMetadata {
    /// Metadata with a producer and the time of creation in seconds since the
    /// start of 1970, UTC.
    ///
    /// # Errors
    /// A time after the year 9999.
    pub fn new(producer: &str, created: u64) -> Result<Self> {
        let (year, month, day) = civil(created / 86_400);
        if year > 9999 {
            return Err(Error::Invalid(format!(
                "{created} seconds are after the year 9999, which a creation date cannot state"
            )));
        }
        let second = created % 86_400;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let date = format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z");
        Ok(Self {
            creation_date: Some(date),
            producer: Some(producer.to_owned()),
            author: None,
            license: None,
            description: None,
        })
    }

    /// The time of creation in seconds since the start of 1970, if it is
    /// stated and is a date of the calendar.
    #[must_use]
    pub fn created(&self) -> Option<u64> {
        let text = self.creation_date.as_deref().filter(|date| is_date(date))?;
        let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
        let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
        let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
        let date = days(year, month, day)?;
        (hour < 24 && minute < 60 && second < 60)
            .then_some(date * 86_400 + hour * 3600 + minute * 60 + second)
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        let mut object = serde_json::Map::new();
        object.insert("assetVersion".to_owned(), ASSET_VERSION.into());
        let optional = [
            ("creationDate", &self.creation_date),
            ("producer", &self.producer),
            ("author", &self.author),
            ("license", &self.license),
            ("description", &self.description),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                object.insert(key.to_owned(), value.as_str().into());
            }
        }
        format!("{:#}\n", serde_json::Value::Object(object)).into_bytes()
    }

    pub(crate) fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let value: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|error| format!("is not JSON: {error}"))?;
        let object = value.as_object().ok_or("expected a JSON object")?;
        let text = |key: &str| match object.get(key) {
            None => Ok(None),
            Some(serde_json::Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(format!("`{key}` must be a string, found {other:.40}")),
        };
        match text("assetVersion")?.as_deref() {
            Some(ASSET_VERSION) => {}
            Some(other) => {
                return Err(format!(
                    "`assetVersion` is {other:?}; only {ASSET_VERSION:?} is known"
                ));
            }
            None => return Err("`assetVersion` is missing".to_owned()),
        }
        let creation_date = text("creationDate")?;
        if let Some(date) = creation_date.as_deref().filter(|date| !is_date(date)) {
            return Err(format!(
                "`creationDate` is {date:?}; expected YYYYMMDDTHHMMSSZ"
            ));
        }
        Ok(Self {
            creation_date,
            producer: text("producer")?,
            author: text("author")?,
            license: text("license")?,
            description: text("description")?,
        })
    }
}

/// Year, month and day of a day since the start of 1970, counted in eras of
/// 400 years that start in March.
fn civil(day: u64) -> (u64, u64, u64) {
    let shifted = day + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = (march_month + 2) % 12 + 1;
    (era * 400 + year + u64::from(month <= 2), month, day)
}

/// The inverse of [`civil`]: the days from the start of 1970 to a date, if the
/// calendar has it.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    // The year that a date's March began in, so that leap days come last.
    let (year_of_march, march_month) = match month {
        1 | 2 => (year.checked_sub(1)?, month + 9),
        3..=12 => (year, month - 3),
        _ => return None,
    };
    let leaps = year_of_march / 4 - year_of_march / 100 + year_of_march / 400;
    let of_year = (153 * march_month + 2) / 5 + day.checked_sub(1)?;
    let since = (365 * year_of_march + leaps + of_year).checked_sub(719_468)?;
    (civil(since) == (year, month, day)).then_some(since)
}

/// Whether a text reads as `YYYYMMDDTHHMMSSZ`.
fn is_date(text: &str) -> bool {
    text.len() == 16
        && text.bytes().enumerate().all(|(i, byte)| match i {
            8 => byte == b'T',
            15 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        })
}

#[cfg(test)]
mod tests {
    use super::{AssetMetadata, is_date};

    #[test]
    fn dates_are_those_of_the_calendar() {
        let date = |seconds| {
            AssetMetadata::new("", seconds)
                .unwrap()
                .creation_date
                .unwrap()
        };
        assert_eq!(date(0), "19700101T000000Z");
        assert_eq!(date(951_782_399), "20000228T235959Z");
        assert_eq!(date(951_782_400), "20000229T000000Z");
        assert_eq!(date(1_709_251_199), "20240229T235959Z");
        assert_eq!(date(4_107_542_400), "21000301T000000Z");
        assert_eq!(date(253_402_300_799), "99991231T235959Z");
        for seconds in [
            0,
            951_782_399,
            951_782_400,
            1_709_251_199,
            4_107_542_400,
            253_402_300_799,
        ] {
            let metadata = AssetMetadata::new("", seconds).unwrap();
            assert_eq!(metadata.created(), Some(seconds));
        }
        for date in [
            "19700230T000000Z",
            "19701301T000000Z",
            "19700101T240000Z",
            "1969",
            "19691231T235959Z",
        ] {
            let mut metadata = AssetMetadata::new("", 0).unwrap();
            metadata.creation_date = Some(date.to_owned());
            assert_eq!(metadata.created(), None, "{date}");
        }
        assert!(AssetMetadata::new("", 253_402_300_800).is_err());
        assert!(AssetMetadata::new("", u64::MAX).is_err());
        assert!(is_date("20261122T191056Z"));
        assert!(!is_date("2026-11-22T19:10"));
    }
}
