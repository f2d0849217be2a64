//! Times as bundles state them.

use aimodel::AssetMetadata;

use crate::{Error, Result};

/// A time in seconds since the start of 1970 as a bundle's manifest states it:
/// `YYYY-MM-DDTHH:MM:SS+00:00`.
///
/// # Errors
/// [`Error::Date`] for a time after the year 9999.
///
/// ```
/// assert_eq!(bundle::iso_date(951_782_399)?, "2000-02-28T23:59:59+00:00");
/// # Ok::<(), bundle::Error>(())
/// ```
pub fn iso_date(seconds: u64) -> Result<String> {
    let metadata = AssetMetadata::new("", seconds).map_err(|_| Error::Date(seconds))?;
    let compact = metadata.creation_date.unwrap_or_default();
    let part = |from: usize, to: usize| compact.get(from..to).unwrap_or_default();
    Ok(format!(
        "{}-{}-{}T{}:{}:{}+00:00",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(9, 11),
        part(11, 13),
        part(13, 15)
    ))
}
