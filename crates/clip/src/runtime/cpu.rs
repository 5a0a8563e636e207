//! The processor's features that decide which kernels ONNX Runtime runs and how it packs weights for them.

use std::fs::File;
use std::io::Read;

/// Prefixes of the features that select matrix kernels: AVX, FMA, half precision and AMX of x86-64; on arm64 SIMD, its
/// dot products, half and brain floats, matrix multiplication and SVE.
const KERNEL_FEATURES: [&str; 10] = ["avx", "fma", "f16c", "amx", "asimd", "fphp", "bf16", "i8mm", "f32mm", "sve"];

/// Features of arm64 that are compared as whole names, because the names of other features begin with them.
const WHOLE_FEATURES: [&str; 2] = ["sme", "sme2"];

/// Features for products of bf16 numbers: two of x86-64, and that of arm64.
const BF16_UNITS: [&str; 3] = ["avx512_bf16", "amx_bf16", "bf16"];

/// Bytes that are read. They contain the first processor's lines; reading all processors of a large machine would take
/// milliseconds.
const FIRST_PROCESSOR: u64 = 8192;

/// Returns the architecture and the features that decide which kernels run, such as `x86_64 fma avx2`.
pub fn cpu_features() -> String {
    let mut text = Vec::new();
    // On a system without this file, only the architecture is known.
    if let Ok(file) = File::open("/proc/cpuinfo") {
        file.take(FIRST_PROCESSOR).read_to_end(&mut text).ok();
    }
    [std::env::consts::ARCH]
        .into_iter()
        .chain(kernel_features(&String::from_utf8_lossy(&text)))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Returns true if the processor has units for products of bf16 numbers.
pub fn has_bf16() -> bool {
    let features = cpu_features();
    features.split(' ').any(|feature| BF16_UNITS.contains(&feature))
}

fn kernel_features(cpuinfo: &str) -> impl Iterator<Item = &str> {
    let flags = cpuinfo.lines().find_map(|line| {
        let (title, flags) = line.split_once(':')?;
        matches!(title.trim(), "flags" | "Features").then_some(flags)
    });
    let decides =
        |flag: &&str| KERNEL_FEATURES.iter().any(|feature| flag.starts_with(feature)) || WHOLE_FEATURES.contains(flag);
    flags.unwrap_or_default().split_whitespace().filter(decides)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_decides_kernels_is_told() {
        let features = |cpuinfo| kernel_features(cpuinfo).collect::<Vec<_>>().join(" ");
        let x86 = "processor\t: 0\nflags\t\t: fpu sse2 fma avx2 smep md_clear avx512_vnni\nbugs\t\t: spectre_v1\n";
        assert_eq!(features(x86), "fma avx2 avx512_vnni");
        assert_eq!(features("Features\t: fp asimd crc32 asimddp i8mm sme\n"), "asimd asimddp i8mm sme");
        assert_eq!(features(""), "");
    }
}
