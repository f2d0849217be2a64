//! The folder of an asset: the program, its hash, and the metadata.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use mlir_bytecode::{Module, Tables};
use sha2::{Digest, Sha256};

use crate::{
    AiCode, AssetMetadata, Builtin, Error, Result,
    hashing::HashingWriter,
    progress::{Metered, ProgressFn},
};

/// The file with the program.
pub const PROGRAM: &str = "main.mlirb";
/// The file with the SHA-256 of the program, 32 bytes.
pub const HASH: &str = "main.hash";
/// The file with the metadata.
pub const METADATA: &str = "metadata.json";

/// The largest metadata file that is read, in bytes.
pub(crate) const MAX_METADATA_BYTES: u64 = 1 << 20;

/// Writes an asset: a new folder `dir` with the program, numbered from its IR
/// alone, its hash, and `metadata`. Blobs are streamed and hashed on the way.
///
/// The hash is written last, so that a folder that a crash left incomplete is
/// not opened as an asset. To have a folder appear whole or not at all, write
/// with [`write_asset_into`] below a name of your own and rename it.
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
    let folder = NewFolder::create(dir.as_ref())?;
    write_asset_into(dir.as_ref(), module, metadata)?;
    for name in [PROGRAM, METADATA, HASH] {
        let path = dir.as_ref().join(name);
        // Windows syncs only what is open for writing.
        let sync = || File::options().append(true).open(&path)?.sync_all();
        sync().map_err(|error| file_error(&path, error))?;
    }
    folder.keep();
    Ok(())
}

/// Writes the three files of an asset into `folder`, which is made if it is
/// missing.
///
/// # Errors
/// One of the files exists, the disk refuses, or the module cannot be written.
/// What was written until then is left to the caller, who made the folder.
pub fn write_asset_into(
    folder: impl AsRef<Path>,
    module: &Module,
    metadata: &AssetMetadata,
) -> Result<()> {
    let mut go_on = |_| ControlFlow::Continue(());
    write_files(folder.as_ref(), module, &metadata.to_json(), &mut go_on)
}

/// The same, with the metadata as the bytes of its file.
pub(crate) fn write_files(
    folder: &Path,
    module: &Module,
    metadata: &[u8],
    progress: ProgressFn<'_>,
) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| file_error(folder, error))?;
    let program = folder.join(PROGRAM);
    let tables = Tables::number(module)?;
    let file = File::create_new(&program).map_err(|error| file_error(&program, error))?;
    let mut interrupted = false;
    let written = HashingWriter::run(file, |out| {
        let metered = Metered {
            out,
            progress,
            interrupted: &mut interrupted,
        };
        mlir_bytecode::write(module, &tables, metered)
    });
    let hash = written.map_err(|error| match error {
        _ if interrupted => Error::Interrupted,
        // The file failed, not the source of the bytes.
        (mlir_bytecode::Error::Io(error), true) => file_error(&program, error),
        (error, _) => error.into(),
    })?;
    for (name, bytes) in [(METADATA, metadata), (HASH, &hash)] {
        let path = folder.join(name);
        let write = || File::create_new(&path)?.write_all(bytes);
        write().map_err(|error| file_error(&path, error))?;
    }
    Ok(())
}

/// A folder that is removed again, with those above it that were made for it,
/// unless it is kept.
struct NewFolder {
    /// The folders that were made, the outermost first.
    made: Vec<PathBuf>,
}

impl NewFolder {
    fn create(dir: &Path) -> Result<Self> {
        let missing = dir.ancestors().skip(1);
        let missing = missing.take_while(|path| !path.as_os_str().is_empty() && !path.exists());
        let mut paths: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        paths.reverse();
        paths.push(dir.to_owned());
        let mut folder = Self { made: Vec::new() };
        for path in paths {
            fs::create_dir(&path).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => asset_error(
                    &path,
                    "exists already and is not overwritten; remove it or choose another name",
                ),
                _ => file_error(&path, error),
            })?;
            folder.made.push(path);
        }
        Ok(folder)
    }

    fn keep(mut self) {
        self.made.clear();
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        // The error that is worth reporting has happened already.
        if let Some(dir) = self.made.pop() {
            let _ = fs::remove_dir_all(dir);
        }
        while let Some(parent) = self.made.pop() {
            let _ = fs::remove_dir(parent);
        }
    }
}

/// An asset that was opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Asset {
    /// The folder.
    pub dir: PathBuf,
    /// The program. Where it was mapped, its large constants stay in the file.
    pub module: Module,
    /// The order of the tables in the file.
    pub tables: Tables,
    /// The metadata.
    pub metadata: AssetMetadata,
    /// The SHA-256 of the program that the asset states.
    pub stated_hash: [u8; 32],
}

/// Opens an asset and reads its program into memory. Whether the program has
/// the hash that the asset states is left to [`Asset::check_hash`].
///
/// [`open_asset_mmap`] is the way for programs that are too large for that.
///
/// # Errors
/// A file is missing or is not what it must be; the message names it.
pub fn open_asset(dir: impl AsRef<Path>) -> Result<Asset> {
    open_with(dir.as_ref(), &|path| open_program(path))
}

/// As [`open_asset`], with the program mapped: its large constants stay in the
/// file until they are used.
///
/// # Safety
/// Nobody, this process or another one, may write into the program's file or
/// truncate it while the module, a clone of it or a blob of it is alive. Blobs
/// lend the mapped bytes as `&[u8]`: a change beneath such a slice is undefined
/// behaviour, and reading past a new, earlier end of the file ends the process.
///
/// Nothing in this crate writes into an existing file: it makes new folders,
/// and a folder that is removed or renamed stays mapped as it was. What is left
/// to the caller is everybody else who may write to the place.
///
/// # Errors
/// As [`open_asset`].
#[cfg(feature = "mmap")]
#[allow(unsafe_code)]
pub unsafe fn open_asset_mmap(dir: impl AsRef<Path>) -> Result<Asset> {
    open_with(dir.as_ref(), &|path| {
        // SAFETY: the caller promises the same of the program in `dir`.
        unsafe { open_program_mmap(path) }
    })
}

fn open_with(dir: &Path, program: &dyn Fn(&Path) -> Result<(Module, Tables)>) -> Result<Asset> {
    if !dir.is_dir() {
        return Err(asset_error(
            dir,
            if dir.exists() {
                "is not a folder; expected an .aimodel folder"
            } else {
                "there is no such folder"
            },
        ));
    }
    let path = dir.join(METADATA);
    let metadata = AssetMetadata::from_json(&read_small(&path, MAX_METADATA_BYTES)?)
        .map_err(|problem| asset_error(&path, problem))?;
    let path = dir.join(HASH);
    let hash = read_small(&path, 32)?;
    let stated_hash = <[u8; 32]>::try_from(hash.as_slice()).map_err(|_| {
        let problem = format!("expected the 32 bytes of a SHA-256, found {}", hash.len());
        asset_error(&path, problem)
    })?;
    let (module, tables) = program(&dir.join(PROGRAM))?;
    Ok(Asset {
        dir: dir.to_owned(),
        module,
        tables,
        metadata,
        stated_hash,
    })
}

/// Reads a program by itself into memory: the `main.mlirb` of an asset.
///
/// # Errors
/// There is no such file, or it is not AICode in MLIR bytecode.
pub fn open_program(path: impl AsRef<Path>) -> Result<(Module, Tables)> {
    let path = path.as_ref();
    regular_file(path)?;
    let bytes = read_whole(path).map_err(|error| file_error(path, error))?;
    mlir_bytecode::read(bytes, &[&AiCode, &Builtin]).map_err(|error| program_error(path, error))
}

/// As [`open_program`], with the file mapped.
///
/// # Safety
/// As for [`open_asset_mmap`], for this file.
///
/// # Errors
/// As [`open_program`].
#[cfg(feature = "mmap")]
#[allow(unsafe_code)]
pub unsafe fn open_program_mmap(path: impl AsRef<Path>) -> Result<(Module, Tables)> {
    let path = path.as_ref();
    regular_file(path)?;
    // SAFETY: the caller promises the same.
    unsafe { mlir_bytecode::open_mmap(path, &[&AiCode, &Builtin]) }
        .map_err(|error| program_error(path, error))
}

fn program_error(path: &Path, error: mlir_bytecode::Error) -> Error {
    match error {
        mlir_bytecode::Error::Io(error) => file_error(path, error),
        other => asset_error(path, other.to_string()),
    }
}

/// Reads a file into shared memory. A `Vec` that became an `Arc` would be
/// copied, and a program is gigabytes.
fn read_whole(path: &Path) -> io::Result<Arc<[u8]>> {
    let mut file = File::open(path)?;
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, length).collect();
    // Nobody else has it yet.
    if let Some(bytes) = Arc::get_mut(&mut bytes) {
        file.read_exact(bytes)?;
    }
    Ok(bytes)
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
            hex::encode(found),
            hex::encode(self.stated_hash)
        );
        Err(asset_error(&self.dir.join(PROGRAM), problem))
    }
}

/// The error of a file, which says what to do about a full disk.
fn file_error(path: &Path, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => asset_error(
            path,
            format!(
                "the disk is full ({source}); nothing was written. Free some space or choose \
                 another place"
            ),
        ),
        _ => Error::File {
            path: path.to_owned(),
            source,
        },
    }
}

fn asset_error(path: &Path, problem: impl Into<String>) -> Error {
    Error::Asset {
        path: path.to_owned(),
        problem: problem.into(),
    }
}

/// Refuses anything but a regular file before it is opened: a pipe would wait
/// for a writer forever.
fn regular_file(path: &Path) -> Result<()> {
    let metadata = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => asset_error(path, "is missing"),
        _ => file_error(path, error),
    })?;
    if metadata.is_file() {
        Ok(())
    } else {
        Err(asset_error(path, "is not a regular file"))
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
