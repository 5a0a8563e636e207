//! Checks of a shared library before it is loaded: a truncated one crashes the process that maps it.
//! External crate: `object`.

use std::fs::File;
use std::path::Path;

use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, ReadCache, ReadRef};

/// The kind of processor whose libraries this process can load.
const MACHINE: Option<elf::Machine> = match () {
    () if cfg!(target_arch = "x86_64") => Some(elf::EM_X86_64),
    () if cfg!(target_arch = "aarch64") => Some(elf::EM_AARCH64),
    () => None,
};

/// Returns why a library cannot be loaded, if its headers show that.
pub(crate) fn defect(path: &Path) -> Result<Option<&'static str>, std::io::Error> {
    let file = ReadCache::new(File::open(path)?);
    Ok(defect_of(&file))
}

fn defect_of<'data>(file: impl ReadRef<'data>) -> Option<&'static str> {
    let Ok(header) = FileHeader64::<Endianness>::parse(file) else { return Some("it is no 64-bit ELF file") };
    let Ok(endian) = header.endian() else { return Some("it is no ELF file of this byte order") };
    if MACHINE.is_some_and(|machine| machine != header.e_machine(endian)) {
        return Some("it is for another kind of processor");
    }
    let Ok(segments) = header.program_headers(endian, file) else { return Some("the file is truncated") };
    let size = file.len().unwrap_or(0);
    let ends = |segment: &elf::ProgramHeader64<Endianness>| {
        segment.p_offset(endian).checked_add(segment.p_filesz(endian)).is_some_and(|end| end <= size)
    };
    (!segments.iter().all(ends)).then_some("the file is truncated")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_crash_is_told_from_what_can_be_loaded() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(defect_of(own.as_slice()), None);
        for part in [64, 100, own.len() / 4, own.len() / 2] {
            assert_eq!(defect_of(&own[..part]), Some("the file is truncated"), "{part} bytes");
        }
        for nothing in [&b""[..], b"\x7fELF", &[0; 4096]] {
            assert_eq!(defect_of(nothing), Some("it is no 64-bit ELF file"));
        }
        let mut other = own;
        other[18] ^= 0xff;
        assert_eq!(defect_of(other.as_slice()), Some("it is for another kind of processor"));
    }
}
