//! The sets of instructions that a CPU may have, and kernels compiled for each.

#[cfg(target_arch = "x86_64")]
use super::{avx2::Avx2, avx512::Avx512};
use super::{lanes::Simd, scalar::Scalar};

/// One of the sets of instructions that this CPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// Any CPU. The others are compared with it.
    Scalar(Scalar),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

impl Level {
    /// Any CPU.
    pub const SCALAR: Self = Self::Scalar(Scalar);

    /// Those that the CPU has, the best first.
    pub fn all() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let more = [
            Avx512::detect().map(Self::Avx512),
            Avx2::detect().map(Self::Avx2),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let more: [Option<Self>; 0] = [];
        more.into_iter().flatten().chain([Self::SCALAR])
    }

    /// The best of them.
    pub fn best() -> Self {
        static BEST: std::sync::OnceLock<Level> = std::sync::OnceLock::new();
        *BEST.get_or_init(|| Self::all().next().unwrap_or(Self::SCALAR))
    }

    /// How many lanes a tile of a product has side by side.
    pub fn tile(self) -> usize {
        match self {
            Self::Scalar(_) => Scalar::TILE,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => Avx2::TILE,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => Avx512::TILE,
        }
    }
}

/// Defines a function that runs a kernel, `$any`, at a level. The kernel's
/// first argument is the level's [`Simd`].
macro_rules! on_lanes {
    (
        $(#[$doc:meta])*
        $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)? = $any:ident
    ) => {
        $(#[$doc])*
        $vis fn $name(level: $crate::kernel::level::Level, $($arg: $type),*) $(-> $out)? {
            use $crate::kernel::level::Level;
            match level {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512(simd) => {
                    #[target_feature(
                        enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"
                    )]
                    fn run(simd: $crate::kernel::avx512::Avx512, $($arg: $type),*) $(-> $out)? {
                        $any(simd, $($arg),*)
                    }
                    // SAFETY: `simd` proves that the CPU has these features.
                    unsafe { run(simd, $($arg),*) }
                }
                #[cfg(target_arch = "x86_64")]
                Level::Avx2(simd) => {
                    #[target_feature(enable = "avx2,fma,f16c")]
                    fn run(simd: $crate::kernel::avx2::Avx2, $($arg: $type),*) $(-> $out)? {
                        $any(simd, $($arg),*)
                    }
                    // SAFETY: `simd` proves that the CPU has these features.
                    unsafe { run(simd, $($arg),*) }
                }
                Level::Scalar(simd) => $any(simd, $($arg),*),
            }
        }
    };
}
pub(super) use on_lanes;
