//! Opening what may be gigabytes: programs are mapped, not read.

use aimodel::{Asset, Module, Result};
use std::path::Path;

/// Opens an asset that the user named, and maps its program.
pub(crate) fn open_asset(dir: impl AsRef<Path>) -> Result<Asset> {
    // SAFETY: no command writes into an asset that is there: those that make
    // one write new folders. The README asks of the user that nobody else
    // writes into the files that a command uses, and the map does not outlive
    // the command.
    unsafe { aimodel::open_asset_mmap(dir) }
}

/// Maps a program by itself.
pub(crate) fn open_program(path: impl AsRef<Path>) -> Result<Module> {
    // SAFETY: as for `open_asset`.
    unsafe { aimodel::open_program_mmap(path) }.map(|(module, _)| module)
}
