//! The allowed system calls: threads, memory, time, reading of files, and connections that the socket accepts.

use libc::{
    SYS_accept, SYS_accept4, SYS_brk, SYS_clock_getres, SYS_clock_gettime, SYS_clock_nanosleep, SYS_clone, SYS_close,
    SYS_close_range, SYS_dup, SYS_dup3, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_epoll_pwait2,
    SYS_eventfd2, SYS_exit, SYS_exit_group, SYS_faccessat, SYS_faccessat2, SYS_fadvise64, SYS_fcntl, SYS_fstat,
    SYS_fstatfs, SYS_futex, SYS_futex_waitv, SYS_get_robust_list, SYS_getcpu, SYS_getcwd, SYS_getdents64, SYS_getegid,
    SYS_geteuid, SYS_getgid, SYS_getgroups, SYS_getpeername, SYS_getpid, SYS_getppid, SYS_getpriority, SYS_getrandom,
    SYS_getresgid, SYS_getresuid, SYS_getrusage, SYS_getsockname, SYS_getsockopt, SYS_gettid, SYS_gettimeofday,
    SYS_getuid, SYS_ioctl, SYS_kill, SYS_lseek, SYS_madvise, SYS_membarrier, SYS_mincore, SYS_mmap, SYS_mprotect,
    SYS_mremap, SYS_munmap, SYS_nanosleep, SYS_newfstatat, SYS_openat, SYS_pipe2, SYS_ppoll, SYS_prctl, SYS_pread64,
    SYS_preadv, SYS_prlimit64, SYS_pselect6, SYS_read, SYS_readlinkat, SYS_readv, SYS_recvfrom, SYS_restart_syscall,
    SYS_rseq, SYS_rt_sigaction, SYS_rt_sigpending, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_rt_sigsuspend,
    SYS_rt_sigtimedwait, SYS_sched_get_priority_max, SYS_sched_get_priority_min, SYS_sched_getaffinity,
    SYS_sched_getparam, SYS_sched_getscheduler, SYS_sched_yield, SYS_seccomp, SYS_sendto, SYS_set_robust_list,
    SYS_set_tid_address, SYS_setsockopt, SYS_shutdown, SYS_sigaltstack, SYS_signalfd4, SYS_statfs, SYS_statx,
    SYS_sysinfo, SYS_tgkill, SYS_timerfd_create, SYS_timerfd_gettime, SYS_timerfd_settime, SYS_times, SYS_uname,
    SYS_write, SYS_writev,
};

use super::call::Call;
use super::call::Condition::{Bits, Is};

/// Calls that are allowed with all arguments, as far as `forbidden` has no condition for them.
#[rustfmt::skip]
const ANY: &[i64] = &[
    // Threads and time.
    SYS_exit, SYS_exit_group, SYS_futex, SYS_futex_waitv, SYS_get_robust_list, SYS_set_robust_list, SYS_rseq,
    SYS_set_tid_address, SYS_membarrier, SYS_sched_yield, SYS_sched_getaffinity, SYS_sched_getparam,
    SYS_sched_getscheduler, SYS_sched_get_priority_max, SYS_sched_get_priority_min, SYS_getpriority, SYS_getcpu,
    SYS_clock_gettime, SYS_clock_getres, SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday, SYS_restart_syscall,
    SYS_timerfd_create, SYS_timerfd_settime, SYS_timerfd_gettime,
    // Signals: their handlers, not their sending.
    SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_rt_sigpending, SYS_rt_sigsuspend, SYS_rt_sigtimedwait,
    SYS_sigaltstack, SYS_signalfd4,
    // Memory. Libraries are mapped to be executed, and compute libraries generate code.
    SYS_brk, SYS_mmap, SYS_munmap, SYS_mprotect, SYS_mremap, SYS_madvise, SYS_mincore,
    // Descriptors and files.
    SYS_read, SYS_readv, SYS_pread64, SYS_preadv, SYS_write, SYS_writev, SYS_lseek, SYS_close, SYS_close_range, SYS_dup,
    SYS_dup3, SYS_pipe2, SYS_eventfd2, SYS_ppoll, SYS_pselect6, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait,
    SYS_epoll_pwait2, SYS_openat, SYS_newfstatat, SYS_fstat, SYS_statx, SYS_statfs, SYS_fstatfs, SYS_faccessat,
    SYS_faccessat2, SYS_readlinkat, SYS_getdents64, SYS_getcwd, SYS_fadvise64,
    // Connections that the socket accepts. `sendmsg` and `recvmsg` are not allowed, because they pass descriptors.
    SYS_accept, SYS_accept4, SYS_recvfrom, SYS_sendto, SYS_shutdown, SYS_getsockname, SYS_getpeername, SYS_getsockopt,
    SYS_setsockopt,
    // Facts about the process and the system.
    SYS_getpid, SYS_getppid, SYS_gettid, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid, SYS_getgroups,
    SYS_getresuid, SYS_getresgid, SYS_getrusage, SYS_prlimit64, SYS_times, SYS_uname, SYS_sysinfo, SYS_getrandom,
    // Only for the second filter, which forbids it.
    SYS_seccomp,
];

/// Older forms of calls, which other processors than x86-64 do not have.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLDER: &[i64] = &[
    libc::SYS_access, libc::SYS_dup2, libc::SYS_epoll_create, libc::SYS_epoll_wait, libc::SYS_eventfd,
    libc::SYS_getrlimit, libc::SYS_lstat, libc::SYS_pipe, libc::SYS_poll, libc::SYS_readlink, libc::SYS_select,
    libc::SYS_stat, libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[i64] = &[];

/// Requests of `ioctl`: whether a descriptor is a terminal, its waiting bytes, its flags.
const IOCTL: [u64; 5] = [libc::TCGETS, libc::FIONREAD, libc::FIONBIO, libc::FIOCLEX, libc::FIONCLEX];

/// Commands of `fcntl`: duplicates and flags. Without F_SETOWN, which would let the kernel send signals to others.
const FCNTL: [i32; 6] =
    [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL];

/// Options of `prctl`: names of threads and of memory. The crate of seccomp sets PR_SET_NO_NEW_PRIVS before each filter.
const PRCTL: [i32; 5] =
    [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA, libc::PR_GET_DUMPABLE, libc::PR_SET_NO_NEW_PRIVS];

/// ARCH_GET_XCOMP_SUPP, ARCH_GET_XCOMP_PERM and ARCH_REQ_XCOMP_PERM of `arch_prctl`: the permission to use AMX, which
/// compute libraries request.
#[cfg(target_arch = "x86_64")]
const XCOMP: [u64; 3] = [0x1021, 0x1022, 0x1023];

/// The flags of `clone` that new namespaces have. The last one is CLONE_NEWTIME.
const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | 0x80;

/// Returns the allowed calls. `own` is the number of this process.
pub(super) fn calls(own: u64) -> Vec<Call> {
    let any = ANY.iter().chain(OLDER).map(|&number| (number, Vec::new()));
    let thread = bits(libc::CLONE_THREAD);
    let mut calls: Vec<Call> = any.collect();
    calls.extend([
        (SYS_clone, vec![Bits(0, thread | bits(NAMESPACES), thread)]),
        (SYS_kill, vec![Is(0, own)]),
        (SYS_tgkill, vec![Is(0, own)]),
        (SYS_ioctl, IOCTL.map(|request| Is(1, request)).to_vec()),
        (SYS_fcntl, FCNTL.map(|command| Is(1, bits(command))).to_vec()),
        (SYS_prctl, PRCTL.map(|option| Is(0, bits(option))).to_vec()),
    ]);
    #[cfg(target_arch = "x86_64")]
    calls.push((libc::SYS_arch_prctl, XCOMP.map(|code| Is(0, code)).to_vec()));
    calls
}

/// Returns flags as the kernel sees them in the lower half of an argument.
pub(super) fn bits(flags: i32) -> u64 {
    u64::from(flags.cast_unsigned())
}
