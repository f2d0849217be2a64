//! Repair of assets whose debug locations newer systems refuse.

use std::path::Path;

use crate::{
    Asset, Error, Locations, METADATA, Result,
    asset::{MAX_METADATA_BYTES, read_small, write_files},
    diff,
    progress::ProgressFn,
    strip_locations,
};

/// Writes into `folder`, as [`write_asset_into`](crate::write_asset_into) does,
/// an asset with the graphs, the constants and the metadata of `asset`, and
/// with the locations that a stripped asset has. The program's hash is computed
/// anew; `metadata.json` stays as it is, to the byte, unless it names no
/// producer and `producer` gives one.
///
/// What was written is read again and compared with what was there, so that it
/// differs in nothing else. With the feature `mmap` it is mapped for that, and
/// must be left alone by everybody else until this function returns.
///
/// # Errors
/// The program has another hash than the asset states: a repair would hide that
/// it is damaged. The program is not an asset of graphs, or the disk refuses.
/// [`Error::Interrupted`] if `progress` ends the work. What was written until
/// then is left to the caller, who made the folder.
pub fn repair_asset(
    asset: &Asset,
    folder: impl AsRef<Path>,
    producer: Option<&str>,
    progress: ProgressFn<'_>,
) -> Result<()> {
    asset.check_hash()?;
    let folder = folder.as_ref();
    let mut metadata = read_small(&asset.dir.join(METADATA), MAX_METADATA_BYTES)?;
    if let Some(producer) = producer.filter(|_| asset.metadata.producer.is_none()) {
        metadata = with_producer(&metadata, producer)
            .ok_or_else(|| Error::Invalid(format!("{METADATA} is not a JSON object")))?;
    }
    let mut module = asset.module.clone();
    strip_locations(&mut module)?;
    write_files(folder, &module, &metadata, progress)?;

    let written = reopen(folder)?;
    let changed = |what: &str| {
        Error::Invalid(format!(
            "{}: repairing it would change more than its locations, so nothing was written: {what}",
            asset.dir.display()
        ))
    };
    if let Some(first) = diff(&written.module, &asset.module)?.first() {
        return Err(changed(&format!("{} {}", first.place, first.message)));
    }
    match Locations::of(&written.module).faulty() {
        0 => Ok(()),
        left => Err(changed(&format!("{left} of them stay as they are"))),
    }
}

/// Opens what was just written.
#[cfg(feature = "mmap")]
#[allow(unsafe_code)]
fn reopen(folder: &Path) -> Result<Asset> {
    // SAFETY: `write_files` has just made this file: it takes no file that was
    // there before, so that nobody has it open from earlier. It is written and
    // closed, and nothing here writes into it again. The map ends when
    // `repair_asset` returns, before the folder has become the caller's; until
    // then its documentation asks that nobody else touches the new folder.
    unsafe { crate::open_asset_mmap(folder) }
}

#[cfg(not(feature = "mmap"))]
fn reopen(folder: &Path) -> Result<Asset> {
    crate::open_asset(folder)
}

/// The metadata with one more key; all others stay, in their order.
fn with_producer(metadata: &[u8], producer: &str) -> Option<Vec<u8>> {
    let mut value: serde_json::Value = serde_json::from_slice(metadata).ok()?;
    let object = value.as_object_mut()?;
    object.insert("producer".to_owned(), producer.into());
    Some(format!("{value:#}\n").into_bytes())
}
