//! Limits: memory, files, core dumps.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;

use clip::Error;
use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};

use crate::acts::call_with;
use crate::embedding;
use crate::place::{MEMORY, Place, fails};

pub fn description(place: &Place) {
    let text = place.isolate();
    let mut parts = text.split(", ");
    // The machine of the tests has Landlock. Without it, the cases of files would prove nothing.
    let version: u32 = parts.next().unwrap().strip_prefix("landlock ").unwrap().parse().unwrap();
    assert!((1..=7).contains(&version), "{text}");
    assert_eq!(parts.collect::<Vec<_>>(), ["seccomp", "memory 1024 MB"]);
}

pub fn limits(place: &Place) {
    place.isolate();
    let limit = |resource| {
        let limit = getrlimit(resource);
        assert_eq!(limit.current, limit.maximum, "{resource:?}");
        limit.maximum.unwrap()
    };
    assert_eq!(limit(Resource::Core), 0);
    assert_eq!(limit(Resource::Fsize), 0);
    assert_eq!(limit(Resource::Memlock), 0);
    assert_eq!(limit(Resource::Data), MEMORY);
    assert!(limit(Resource::Nofile) <= 65_536);
    assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
    // Neither limit can be raised, also by root.
    let new: [u64; 2] = [u64::MAX, u64::MAX];
    let data = libc::RLIMIT_DATA as usize;
    let raise = |process: usize| call_with(libc::SYS_prlimit64, [process, data, new.as_ptr() as usize, 0, 0, 0]);
    fails("a new limit", raise(0), libc::EPERM);
    fails("a new limit", raise(std::process::id() as usize), libc::EPERM);
    fails("a limit of the parent", raise(std::os::unix::process::parent_id() as usize), libc::EPERM);
}

pub fn memory(place: &Place) {
    let images = embedding::images();
    place.isolate();
    let before = embedding::line(place, None, &images);
    // Too much memory is an error of this allocation, for the core and for the allocator.
    let too_much = usize::try_from(MEMORY).unwrap();
    assert_eq!(clip::reserve::<u8>(too_much).unwrap_err(), Error::OutOfMemory { bytes: Some(MEMORY) });
    let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    fails("mmap", map(too_much, libc::PROT_READ | libc::PROT_WRITE, anonymous), libc::ENOMEM);
    // Memory is full, and the work after it was freed is the same.
    let mut blocks = Vec::new();
    while let Ok(block) = clip::reserve::<u8>(1 << 20) {
        blocks.push(block);
    }
    assert!((500..1024).contains(&blocks.len()), "{}", blocks.len());
    assert!(matches!(clip::headroom(32 << 20), Err(Error::OutOfMemory { .. })));
    drop(blocks);
    assert_eq!(embedding::line(place, None, &images), before);
}

pub fn memory_without_a_limit(place: &Place) {
    let text = place.isolate_with(None).unwrap();
    assert!(text.ends_with("seccomp"), "{text}");
    clip::headroom(2 * MEMORY).unwrap();
}

pub fn memory_that_is_not_counted(place: &Place) {
    place.isolate();
    let write = libc::PROT_READ | libc::PROT_WRITE;
    let anonymous = |kind| kind | libc::MAP_ANONYMOUS;
    fails("shared memory", map(4096, write, anonymous(libc::MAP_SHARED)), libc::EPERM);
    fails("shared memory", map(4096, write, anonymous(libc::MAP_SHARED_VALIDATE)), libc::EPERM);
    let stack = anonymous(libc::MAP_PRIVATE) | libc::MAP_GROWSDOWN;
    fails("a stack that grows", map(4096, write, stack), libc::EPERM);
    // Ranges that are only read count as address space.
    fails("a large range", map(1 << 40, libc::PROT_READ, anonymous(libc::MAP_PRIVATE)), libc::ENOMEM);
    map(1 << 34, libc::PROT_NONE, anonymous(libc::MAP_PRIVATE)).unwrap();
}

fn map(length: usize, protection: i32, flags: i32) -> io::Result<i64> {
    call_with(libc::SYS_mmap, [0, length, protection as usize, flags as usize, usize::MAX, 0])
}

pub fn growing_files(place: &Place) {
    let mut file = File::create(place.readable("file")).unwrap();
    place.isolate();
    file.write_all(b"more").unwrap();
}

pub fn ends_by_the_file_size(place: &Place, name: &str) {
    let output = place.output(name);
    assert_eq!(output.status.signal(), Some(libc::SIGXFSZ), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_to_string(place.readable("file")).unwrap(), "");
}

/// A log file that is the standard error grows.
pub fn growing_logs(place: &Place) {
    place.isolate();
    eprint!("a line");
}

pub fn log_grows(place: &Place, name: &str) {
    let log = OpenOptions::new().create(true).append(true).open(place.other("log")).unwrap();
    assert!(place.start(name, log.into()).wait().unwrap().success());
    assert_eq!(fs::read_to_string(place.other("log")).unwrap(), "a line");
}
