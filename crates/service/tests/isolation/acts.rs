//! System calls, processes, threads and signals.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;

use crate::place::{Place, fails};

/// Calls a system call with arguments of zero, which the kernel would reject or which would do no harm.
fn call(number: i64) -> io::Result<i64> {
    call_with(number, [0; 6])
}

pub fn call_with(number: i64, [a, b, c, d, e, f]: [usize; 6]) -> io::Result<i64> {
    // SAFETY: The callers pass no pointers to memory that the call could change.
    match unsafe { libc::syscall(number, a, b, c, d, e, f) } {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

pub fn several_threads(place: &Place) {
    let result = thread::scope(|scope| scope.spawn(|| place.isolate_with(None)).join().unwrap());
    assert_eq!(result.unwrap_err().to_string(), "the process has 2 threads already");
    // Nothing was restricted.
    std::fs::read("/etc/passwd").unwrap();
}

#[rustfmt::skip]
pub fn system_calls(place: &Place) {
    place.isolate();
    let denied = [
        ("ptrace", libc::SYS_ptrace), ("process_vm_readv", libc::SYS_process_vm_readv),
        ("process_vm_writev", libc::SYS_process_vm_writev), ("mount", libc::SYS_mount), ("umount2", libc::SYS_umount2),
        ("move_mount", libc::SYS_move_mount), ("fsopen", libc::SYS_fsopen), ("pivot_root", libc::SYS_pivot_root),
        ("chroot", libc::SYS_chroot), ("keyctl", libc::SYS_keyctl), ("add_key", libc::SYS_add_key),
        ("request_key", libc::SYS_request_key), ("bpf", libc::SYS_bpf), ("perf_event_open", libc::SYS_perf_event_open),
        ("io_uring_setup", libc::SYS_io_uring_setup), ("io_uring_enter", libc::SYS_io_uring_enter),
        ("io_uring_register", libc::SYS_io_uring_register), ("io_setup", libc::SYS_io_setup),
        ("userfaultfd", libc::SYS_userfaultfd), ("unshare", libc::SYS_unshare), ("setns", libc::SYS_setns),
        ("memfd_create", libc::SYS_memfd_create), ("shmget", libc::SYS_shmget), ("shmat", libc::SYS_shmat),
        ("mq_open", libc::SYS_mq_open), ("pidfd_open", libc::SYS_pidfd_open), ("pidfd_getfd", libc::SYS_pidfd_getfd),
        ("pidfd_send_signal", libc::SYS_pidfd_send_signal), ("kcmp", libc::SYS_kcmp), ("seccomp", libc::SYS_seccomp),
        ("execve", libc::SYS_execve), ("execveat", libc::SYS_execveat), ("setpriority", libc::SYS_setpriority),
        ("sendmsg", libc::SYS_sendmsg), ("recvmsg", libc::SYS_recvmsg), ("mlock", libc::SYS_mlock),
        ("init_module", libc::SYS_init_module), ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ("socket", libc::SYS_socket), ("connect", libc::SYS_connect), ("bind", libc::SYS_bind),
        ("listen", libc::SYS_listen),
    ];
    for (name, number) in denied {
        fails(name, call(number), libc::EPERM);
    }
    // Calls that are in neither list look absent, those of future kernels, too.
    let absent = [
        ("clone3", libc::SYS_clone3), ("openat2", libc::SYS_openat2), ("reboot", libc::SYS_reboot),
        ("sched_setaffinity", libc::SYS_sched_setaffinity), ("personality", libc::SYS_personality),
        ("landlock_restrict_self", libc::SYS_landlock_restrict_self), ("setuid", libc::SYS_setuid), ("future", 4000),
    ];
    for (name, number) in absent {
        fails(name, call(number), libc::ENOSYS);
    }
    // Allowed calls with forbidden arguments.
    let with = |number, arguments: &[usize]| {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        call_with(number, all)
    };
    fails("a signal of input and output", with(libc::SYS_fcntl, &[0, libc::F_SETOWN as usize, 1]), libc::ENOSYS);
    fails("typing into a terminal", with(libc::SYS_ioctl, &[0, libc::TIOCSTI as usize, 0]), libc::ENOSYS);
    fails("core dumps", with(libc::SYS_prctl, &[libc::PR_SET_DUMPABLE as usize, 1]), libc::ENOSYS);
    let survive = with(libc::SYS_prctl, &[libc::PR_SET_PDEATHSIG as usize, 0]);
    fails("surviving the parent", survive, libc::ENOSYS);
    // Bits above those that the kernel reads do not deceive the filter.
    let high = 1 << 32;
    fails("core dumps", with(libc::SYS_prctl, &[high | libc::PR_SET_DUMPABLE as usize, 1]), libc::ENOSYS);
    fails("a process", with(libc::SYS_clone, &[high | libc::SIGCHLD as usize]), libc::EPERM);
    let space = (libc::CLONE_THREAD | libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_NEWNET) as usize;
    fails("a thread in a new network", with(libc::SYS_clone, &[space]), libc::ENOSYS);
}

pub fn processes(place: &Place) {
    place.isolate();
    fails("a program", Command::new("/bin/true").status(), libc::EPERM);
    fails("another program in this process", Err::<(), _>(Command::new("/bin/true").exec()), libc::EPERM);
    let fork = [libc::SIGCHLD as usize, 0, 0, 0, 0, 0];
    fails("fork", call_with(libc::SYS_clone, fork), libc::EPERM);
    #[cfg(target_arch = "x86_64")]
    {
        fails("fork", call(libc::SYS_fork), libc::EPERM);
        fails("vfork", call(libc::SYS_vfork), libc::EPERM);
        // The numbers of the x32 interface have this bit.
        fails("fork of x32", call(0x4000_0000 | libc::SYS_fork), libc::ENOSYS);
        fails("socket of x32", call(0x4000_0000 | libc::SYS_socket), libc::ENOSYS);
    }
}

pub fn threads(place: &Place) {
    place.isolate();
    let sums: Vec<u64> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8_u64).map(|number| scope.spawn(move || (0..number).sum())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(sums, [0, 0, 1, 3, 6, 10, 15, 21]);
    // A thread has the restrictions of the one that started it.
    thread::spawn(|| {
        fails("a socket", call(libc::SYS_socket), libc::EPERM);
        fails("a file", std::fs::read("/etc/passwd"), libc::EACCES);
    })
    .join()
    .unwrap();
}

pub fn signals(place: &Place) {
    place.isolate();
    let own = std::process::id() as usize;
    let parent = std::os::unix::process::parent_id() as usize;
    let send = |call, process| call_with(call, [process, 0, 0, 0, 0, 0]);
    fails("a signal to the parent", send(libc::SYS_kill, parent), libc::EPERM);
    fails("a signal to all", send(libc::SYS_kill, usize::MAX), libc::EPERM);
    fails("a signal to the group", send(libc::SYS_kill, 0), libc::EPERM);
    fails("a signal to a thread", send(libc::SYS_tkill, own), libc::EPERM);
    fails("a signal to a thread of the parent", call_with(libc::SYS_tgkill, [parent, parent, 0, 0, 0, 0]), libc::EPERM);
    // `abort` sends a signal to its own thread.
    call_with(libc::SYS_tgkill, [own, own, 0, 0, 0, 0]).unwrap();
    send(libc::SYS_kill, own).unwrap();
}
