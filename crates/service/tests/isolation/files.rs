//! Files.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::place::{Place, fails, models};

pub fn reading(place: &Place) {
    let open = File::open(place.other("file")).unwrap();
    place.isolate();
    assert_eq!(fs::read_to_string(place.readable("file")).unwrap(), "content");
    assert!(fs::read_dir(models()).unwrap().count() > 0);
    fs::read(models().join("emoji/pg_clip.json")).unwrap();
    fs::read(place.options().runtime).unwrap();
    for file in ["/etc/passwd", "/etc/shadow", "/etc/hostname", "/dev/null", "/dev/zero"] {
        fails(file, File::open(file), libc::EACCES);
    }
    for directory in ["/", "/etc", "/tmp", "/home", "/dev/shm", "/var"] {
        fails(directory, fs::read_dir(directory), libc::EACCES);
    }
    fails("a file next to the directory", fs::read(place.other("file")), libc::EACCES);
    fails("a path with dots", fs::read(place.readable("../other/file")), libc::EACCES);
    // A descriptor from before stays usable. So the service opens nothing that it does not need.
    assert_eq!(std::io::read_to_string(open).unwrap(), "content");
}

pub fn writing(place: &Place) {
    symlink(place.other("file"), place.readable("link")).unwrap();
    let open = File::open(place.readable("file")).unwrap();
    place.isolate();
    let (file, new) = (place.readable("file"), place.readable("new"));
    fails("a link that leads out", fs::read(place.readable("link")), libc::EACCES);
    for path in [&file, &new, &place.other("file"), &"/dev/null".into(), &"/proc/self/mem".into()] {
        let act = path.display().to_string();
        fails(&act, File::create(path), libc::EPERM);
        fails(&act, OpenOptions::new().write(true).open(path), libc::EPERM);
        fails(&act, OpenOptions::new().read(true).write(true).open(path), libc::EPERM);
        fails(&act, OpenOptions::new().append(true).open(path), libc::EPERM);
    }
    fails("truncate", open.set_len(0), libc::EPERM);
    fails("remove_file", fs::remove_file(&file), libc::EPERM);
    fails("rename", fs::rename(&file, &new), libc::EPERM);
    fails("hard_link", fs::hard_link(&file, &new), libc::EPERM);
    fails("symlink", symlink(&file, &new), libc::EPERM);
    fails("create_dir", fs::create_dir(&new), libc::EPERM);
    fails("remove_dir", fs::remove_dir(&new), libc::EPERM);
    fails("set_permissions", fs::set_permissions(&file, Permissions::from_mode(0o777)), libc::EPERM);
    fails("chown", std::os::unix::fs::chown(&file, Some(0), Some(0)), libc::EPERM);
    fails("set_modified", open.set_modified(std::time::SystemTime::UNIX_EPOCH), libc::EPERM);
    fails("current directory", std::env::set_current_dir(place.readable("")), libc::EPERM);
}

pub fn proc(place: &Place) {
    let parent = format!("/proc/{}", std::os::unix::process::parent_id());
    place.isolate();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let has = |line: &str| status.lines().any(|other| other == line);
    assert!(has("NoNewPrivs:\t1") && has("Seccomp:\t2"), "{status}");
    fs::read_to_string("/proc/cpuinfo").unwrap();
    assert!(fs::read_dir("/sys/devices/system/cpu").unwrap().count() > 0);
    for file in ["status", "maps", "environ", "cmdline", "mem", "root/etc/passwd"] {
        fails(file, File::open(format!("{parent}/{file}")), libc::EACCES);
    }
    fails("processes", fs::read_dir("/proc"), libc::EACCES);
    fails("a way around", File::open("/proc/self/root/etc/passwd"), libc::EACCES);
    fails("a way around", File::open("/proc/self/cwd/Cargo.toml"), libc::EACCES);
}
