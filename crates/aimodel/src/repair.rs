//! Making an asset load again whose debug locations are refused.

use std::{io, ops::ControlFlow, path::Path, sync::Arc};

use mlir_bytecode::{Blob, BlobError, BlobSource, ResourceValue};

use crate::{
    Asset, Error, Locations, METADATA, Result, StagedDir,
    asset::{LARGEST_METADATA, read_small},
    diff, open_asset, strip_locations,
};

/// Is told how many more bytes were written, and may break the work off.
pub type Told = Arc<dyn Fn(u64) -> ControlFlow<()> + Send + Sync>;

/// Large constants are written in pieces of this size.
const PIECE: usize = 1 << 20;

impl StagedDir {
    /// Writes into the folder `name` of it an asset with the graphs, the
    /// constants and the metadata of `asset`, and with the locations that a
    /// stripped asset has. The program's hash is written anew; `metadata.json`
    /// stays as it is, to the byte, unless it names no producer and `producer`
    /// gives one.
    ///
    /// What was written is read again and compared with what was there, so
    /// that it differs in nothing else.
    ///
    /// # Errors
    /// The program has another hash than the asset states: a repair would
    /// hide that it is damaged. The program is no asset of graphs, or the disk
    /// refuses.
    pub fn repair_asset(
        &self,
        name: impl AsRef<Path>,
        asset: &Asset,
        producer: Option<&str>,
        told: &Told,
    ) -> Result<()> {
        asset.check_hash()?;
        let folder = name.as_ref();
        let mut metadata = read_small(&asset.dir.join(METADATA), LARGEST_METADATA)?;
        if let Some(producer) = producer.filter(|_| asset.metadata.producer.is_none()) {
            metadata = with_producer(&metadata, producer)
                .ok_or_else(|| Error::Invalid(format!("{METADATA} is no JSON object")))?;
        }
        let mut module = asset.module.clone();
        strip_locations(&mut module)?;
        for (_, resource) in &mut module.resources {
            if let ResourceValue::Blob { data, .. } = &mut resource.value {
                *data = Blob::new(Counted {
                    blob: data.clone(),
                    told: told.clone(),
                });
            }
        }
        self.write_program(folder, &module, &metadata)?;

        let written = open_asset(self.path().join(folder))?;
        let changed = |what: &str| {
            Error::Invalid(format!(
                "{}: repairing it would change more than its locations, so nothing was written: \
                 {what}",
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
}

/// The metadata with one more key; all others stay, in their order.
fn with_producer(metadata: &[u8], producer: &str) -> Option<Vec<u8>> {
    let mut value: serde_json::Value = serde_json::from_slice(metadata).ok()?;
    let object = value.as_object_mut()?;
    object.insert("producer".to_owned(), producer.into());
    Some(format!("{value:#}\n").into_bytes())
}

/// A blob that says how much of it was written.
struct Counted {
    blob: Blob,
    told: Told,
}

impl BlobSource for Counted {
    fn len(&self) -> u64 {
        self.blob.len()
    }

    fn write_to(&self, out: &mut dyn io::Write) -> Result<(), BlobError> {
        let told = |bytes: u64| match (self.told)(bytes) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(BlobError::source(Error::Interrupted)),
        };
        let Some(bytes) = self.blob.as_slice() else {
            self.blob.write_to(out)?;
            return told(self.len());
        };
        for piece in bytes.chunks(PIECE) {
            out.write_all(piece)?;
            told(piece.len() as u64)?;
        }
        Ok(())
    }

    fn as_slice(&self) -> Option<&[u8]> {
        self.blob.as_slice()
    }
}
