//! What is in the machine: CPU, GPUs, memory, disk.

use super::capability::{Capability, within};
use crate::call::build_with;
use crate::device::Device;
use crate::progress::size;
use std::{
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// A GPU that takes longer to answer is stuck.
const GPU_TIMEOUT: Duration = Duration::from_secs(20);
/// A disk, too.
const DISK_TIMEOUT: Duration = Duration::from_secs(10);

/// What a model takes, in bytes, int8hu.
struct Needs {
    name: &'static str,
    checkpoint: u64,
    /// Decoder and vision encoder.
    bundles: u64,
    /// Resident while it is exported; while its bundles are gated without the
    /// ladder; and with it, whose model has 4 bytes a parameter.
    memory: [u64; 3],
}

/// From the shapes of the published models; docs/measured.md has what was
/// measured of the first.
const MODELS: [Needs; 3] = [
    Needs {
        name: "2b",
        checkpoint: 4_260_000_000,
        bundles: 3_260_000_000,
        memory: [1_000_000_000, 3_500_000_000, 10_000_000_000],
    },
    Needs {
        name: "4b",
        checkpoint: 8_900_000_000,
        bundles: 5_900_000_000,
        memory: [1_200_000_000, 6_100_000_000, 19_000_000_000],
    },
    Needs {
        name: "8b",
        checkpoint: 17_600_000_000,
        bundles: 10_500_000_000,
        memory: [1_500_000_000, 10_300_000_000, 36_000_000_000],
    },
];

/// The CPU.
pub fn cpu() -> Capability {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let sets = instruction_sets();
    let sets = if sets.is_empty() {
        "no vector instructions that the kernels use, so it is slow".to_owned()
    } else {
        sets.join(", ")
    };
    let found = format!("{}: {sets}; {threads} threads", std::env::consts::ARCH);
    Capability::here("cpu", found).needed()
}

#[cfg(target_arch = "x86_64")]
fn instruction_sets() -> Vec<&'static str> {
    use std::arch::is_x86_feature_detected as has;
    let sets = [
        ("AVX2", has!("avx2")),
        ("FMA", has!("fma")),
        ("F16C", has!("f16c")),
        (
            "AVX-512",
            has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl"),
        ),
    ];
    let sets = sets.into_iter();
    sets.filter_map(|(name, has)| has.then_some(name)).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn instruction_sets() -> Vec<&'static str> {
    Vec::new()
}

/// An NVIDIA GPU, where this build can use one.
pub fn cuda() -> Capability {
    if cfg!(feature = "cuda") {
        return gpu("cuda", Device::Cuda);
    }
    if Path::new("/proc/driver/nvidia/version").exists() {
        Capability::missing(
            "cuda",
            "there is an NVIDIA driver, but this build cannot use CUDA",
            build_with("cuda"),
        )
    } else {
        Capability::absent(
            "cuda",
            "this build cannot use CUDA, and no driver was found",
        )
    }
}

/// A Mac's GPU, where this build can use one.
pub fn metal() -> Capability {
    if cfg!(feature = "metal") {
        return gpu("metal", Device::Metal);
    }
    if cfg!(target_os = "macos") {
        Capability::missing("metal", "this build cannot use Metal", build_with("metal"))
    } else {
        Capability::absent("metal", "this is not a Mac")
    }
}

fn gpu(name: &'static str, device: Device) -> Capability {
    match within(GPU_TIMEOUT, move || device.open().map(drop)) {
        Some(Ok(())) => Capability::here(name, "the first device answers"),
        Some(Err(error)) => Capability::missing(
            name,
            format!("{error:#}"),
            "use --device cpu, or repair the driver",
        ),
        None => Capability::missing(
            name,
            format!("no answer in {} s", GPU_TIMEOUT.as_secs()),
            "restart its driver; until then, use --device cpu",
        ),
    }
}

/// Bytes of memory that are free, and of all, within what a container may use;
/// 0 and 0 where the system does not say.
pub fn memory_there() -> (u64, u64) {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    let (mut total, mut free) = (system.total_memory(), system.available_memory());
    if let Some(limits) = system.cgroup_limits() {
        total = total.min(limits.total_memory);
        free = free.min(limits.free_memory);
    }
    (free, total)
}

/// The memory that is free.
pub fn memory() -> Capability {
    match memory_there() {
        (_, 0) => {
            let found = "this system does not say how much there is";
            Capability::here("memory", found).needed()
        }
        (free, total) => enough_memory(free, total),
    }
}

/// Whether it is enough for the smallest model.
pub fn enough_memory(free: u64, total: u64) -> Capability {
    let [exported, gated, climbed] =
        [0, 1, 2].map(|work| fitting(|model| model.memory[work] <= free));
    let found = format!(
        "{} free of {}: enough to export {exported}, to gate {gated}, with the ladder {climbed}",
        size(free),
        size(total)
    );
    let min = MODELS[0].memory[1];
    let capability = if free >= min {
        Capability::here("memory", found)
    } else {
        Capability::missing(
            "memory",
            found,
            format!("free {} or more, or work with nano only", size(min)),
        )
    };
    capability.needed()
}

/// The disk that exports would lie on.
pub fn disk(out: &Path) -> Capability {
    let shown = out.display().to_string();
    let out = out.to_owned();
    match within(DISK_TIMEOUT, move || free_space(&out)) {
        Some(Ok(free)) => enough_disk(free, &shown),
        Some(Err(error)) => Capability::missing(
            "disk",
            format!("{shown} cannot be looked at: {error}"),
            "choose another folder with --out",
        )
        .needed(),
        None => Capability::missing(
            "disk",
            format!("{shown} does not answer"),
            "choose another folder with --out",
        )
        .needed(),
    }
}

/// The free space where a folder is or would be made.
fn free_space(folder: &Path) -> io::Result<u64> {
    let folder: PathBuf = std::path::absolute(folder)?;
    let there = folder.ancestors().find(|folder| folder.exists());
    fs4::available_space(there.unwrap_or(&folder))
}

/// Whether it is enough for the smallest model.
pub fn enough_disk(free: u64, folder: &str) -> Capability {
    let bundles = fitting(|model| model.bundles <= free);
    let with_checkpoint = fitting(|model| model.bundles + model.checkpoint <= free);
    let found = format!(
        "{} free at {folder}: room for the bundles of {bundles}, with the checkpoint for \
         {with_checkpoint}",
        size(free)
    );
    let min = MODELS[0].bundles;
    let capability = if free >= min {
        Capability::here("disk", found)
    } else {
        Capability::missing(
            "disk",
            found,
            format!(
                "free {} or more, or choose another folder with --out",
                size(min)
            ),
        )
    };
    capability.needed()
}

/// The models that something is enough for, in words.
fn fitting(enough: impl Fn(&Needs) -> bool) -> String {
    let names: Vec<&str> = MODELS
        .iter()
        .filter(|model| enough(model))
        .map(|model| model.name)
        .collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
