//! The asset directory: the program, its hash, and what it says about itself.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use mlir_bytecode::{Module, Tables};
use sha2::{Digest, Sha256};

use crate::{
    AiCode, Builtin, Error, Result, StagedDir, hashing::HashingWriter, staged::file_error,
};

/// The version of the directory layout, as `metadata.json` states it.
const ASSET_VERSION: &str = "2.0";

/// The file with the program.
pub const PROGRAM: &str = "main.mlirb";
/// The file with the SHA-256 of the program, 32 bytes.
pub const HASH: &str = "main.hash";
/// The file with what the asset says about itself.
pub const METADATA: &str = "metadata.json";

/// No metadata file is larger; one that is belongs to something else.
pub(crate) const LARGEST_METADATA: u64 = 1 << 20;

/// What an asset says about itself in its `metadata.json`.
///
/// ```
/// use aimodel::AssetMetadata;
///
/// let metadata = AssetMetadata::new("aimodel 0.1.0", 1_795_374_656)?;
/// assert_eq!(metadata.creation_date.as_deref(), Some("20261122T191056Z"));
/// # Ok::<(), aimodel::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// stated and is one of the calendar's.
    pub fn created(&self) -> Option<u64> {
        let text = self.creation_date.as_deref().filter(|date| is_date(date))?;
        let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
        let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
        let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
        let date = days(year, month, day)?;
        (hour < 24 && minute < 60 && second < 60)
            .then_some(date * 86_400 + hour * 3600 + minute * 60 + second)
    }

    fn to_json(&self) -> Vec<u8> {
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

    fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let value: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|error| format!("is no JSON: {error}"))?;
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

/// Writes an asset: a new folder `dir` with the program, numbered from its IR
/// alone, its hash, and `metadata`. Blobs are streamed and hashed on the way.
/// The folder appears when it is complete.
///
/// ```
/// use aimodel::{AssetBuilder, AssetMetadata, ElementType, TensorType, open_asset, write_asset};
///
/// let mut builder = AssetBuilder::new();
/// let mut graph = builder.graph("main");
/// let x = graph.input("x", TensorType::fixed([4], ElementType::F16))?;
/// let y = graph.add(x, x)?;
/// graph.finish(&[("y", y)])?;
///
/// let parent = tempfile::tempdir()?;
/// let dir = parent.path().join("double.aimodel");
/// let metadata = AssetMetadata::new("docs", 0)?;
/// write_asset(&dir, &builder.finish()?, &metadata)?;
///
/// let asset = open_asset(&dir)?;
/// asset.check_hash()?;
/// aimodel::verify(&asset.module)?;
/// assert_eq!(asset.metadata, metadata);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// `dir` exists, the disk refuses, or the module cannot be written. Nothing is
/// left behind then.
pub fn write_asset(dir: impl AsRef<Path>, module: &Module, metadata: &AssetMetadata) -> Result<()> {
    let staged = StagedDir::create(dir)?;
    staged.write_asset("", module, metadata)?;
    staged.commit()
}

impl StagedDir {
    /// Writes an asset into the folder `name` of it, as [`write_asset`] does;
    /// an empty name is the folder itself.
    ///
    /// # Errors
    /// The disk refuses, or the module cannot be written.
    pub fn write_asset(
        &self,
        name: impl AsRef<Path>,
        module: &Module,
        metadata: &AssetMetadata,
    ) -> Result<()> {
        self.write_program(name.as_ref(), module, &metadata.to_json())
    }

    /// The same, with the metadata as the bytes of its file.
    pub(crate) fn write_program(
        &self,
        folder: &Path,
        module: &Module,
        metadata: &[u8],
    ) -> Result<()> {
        let program = folder.join(PROGRAM);
        let tables = Tables::number(module)?;
        let file = self.create_file(&program)?;
        let hash = HashingWriter::run(file, |out| mlir_bytecode::write(module, &tables, out))
            .map_err(|error| match error {
                // Of the file, not of what the bytes come from.
                (mlir_bytecode::Error::Io(error), true) => self.failed(&program, error),
                (error, _) => error.into(),
            })?;
        self.write_file(folder.join(HASH), &hash)?;
        self.write_file(folder.join(METADATA), metadata)
    }
}

/// An asset that was opened.
#[derive(Clone, Debug)]
pub struct Asset {
    /// The folder.
    pub dir: PathBuf,
    /// The program. Its large constants stay in the mapped file.
    pub module: Module,
    /// The order of the tables in the file.
    pub tables: Tables,
    /// What the asset says about itself.
    pub metadata: AssetMetadata,
    /// The SHA-256 of the program that the asset states.
    pub stated_hash: [u8; 32],
}

/// Opens an asset and maps its program. Whether the program has the hash that
/// the asset states is left to [`Asset::check_hash`], which reads all of it.
///
/// The program stays mapped for as long as the module or a constant of it is
/// alive, and must not be changed in that time: replace an asset by a new
/// folder, never by writing into its files. Nothing in this crate writes into
/// an existing file.
///
/// # Errors
/// A file is missing or is not what it must be; the message names it.
pub fn open_asset(dir: impl AsRef<Path>) -> Result<Asset> {
    let dir = dir.as_ref();
    if !dir.is_dir() {
        return Err(asset_error(
            dir,
            match dir.exists() {
                true => "is not a folder; expected an .aimodel folder",
                false => "there is no such folder",
            },
        ));
    }
    let path = dir.join(METADATA);
    let metadata = AssetMetadata::from_json(&read_small(&path, LARGEST_METADATA)?)
        .map_err(|problem| asset_error(&path, problem))?;
    let path = dir.join(HASH);
    let hash = read_small(&path, 32)?;
    let stated_hash = <[u8; 32]>::try_from(hash.as_slice()).map_err(|_| {
        let problem = format!("expected the 32 bytes of a SHA-256, found {}", hash.len());
        asset_error(&path, problem)
    })?;
    let (module, tables) = open_program(dir.join(PROGRAM))?;
    Ok(Asset {
        dir: dir.to_owned(),
        module,
        tables,
        metadata,
        stated_hash,
    })
}

/// Maps and reads a program by itself: the `main.mlirb` of an asset. As with
/// [`open_asset`], the file must not be changed while the module is alive.
///
/// # Errors
/// There is no such file, or it is not AICode in MLIR bytecode.
pub fn open_program(path: impl AsRef<Path>) -> Result<(Module, Tables)> {
    let path = path.as_ref();
    regular_file(path)?;
    // SAFETY: a program is never changed under its name: `write_asset` makes
    // it whole before it gets one, and refuses a name that is taken. The
    // documentation asks the same of the caller.
    let opened = unsafe { mlir_bytecode::open_mmap(path, &[&AiCode, &Builtin]) };
    opened.map_err(|error| match error {
        mlir_bytecode::Error::Io(error) => file_error(path, error),
        other => asset_error(path, other.to_string()),
    })
}

impl Asset {
    /// The SHA-256 of the program as it lies on the disk.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn compute_hash(&self) -> Result<[u8; 32]> {
        let path = self.dir.join(PROGRAM);
        let hash = || {
            let mut hasher = Sha256::new();
            io::copy(&mut File::open(&path)?, &mut hasher)?;
            io::Result::Ok(hasher.finalize().into())
        };
        hash().map_err(|error| file_error(&path, error))
    }

    /// Checks that the program has the hash that the asset states.
    ///
    /// # Errors
    /// It has another, or cannot be read.
    pub fn check_hash(&self) -> Result<()> {
        let found = self.compute_hash()?;
        if found == self.stated_hash {
            return Ok(());
        }
        let problem = format!(
            "its SHA-256 is {}, but {HASH} states {}; the file is damaged or was changed, so \
             fetch or export it again",
            hex(&found),
            hex(&self.stated_hash)
        );
        Err(asset_error(&self.dir.join(PROGRAM), problem))
    }
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn asset_error(path: &Path, problem: impl Into<String>) -> Error {
    Error::Asset {
        path: path.to_owned(),
        problem: problem.into(),
    }
}

/// Refuses what is no regular file before opening it: a pipe would wait for a
/// writer for ever.
fn regular_file(path: &Path) -> Result<()> {
    let metadata = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => asset_error(path, "is missing"),
        _ => file_error(path, error),
    })?;
    match metadata.is_file() {
        true => Ok(()),
        false => Err(asset_error(path, "is not a regular file")),
    }
}

pub(crate) fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>> {
    regular_file(path)?;
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| file_error(path, error))?;
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| file_error(path, error))?;
    if bytes.len() as u64 > limit {
        let problem = format!("expected {limit} bytes at most, found more");
        return Err(asset_error(path, problem));
    }
    Ok(bytes)
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
