//! The system calls that are forbidden by name, because a library could try them, or an attacker would.

use libc::{
    SYS_add_key, SYS_bind, SYS_bpf, SYS_chdir, SYS_chroot, SYS_clone, SYS_connect, SYS_delete_module, SYS_execve,
    SYS_execveat, SYS_fallocate, SYS_fanotify_init, SYS_fchdir, SYS_fchmod, SYS_fchmodat, SYS_fchown, SYS_fchownat,
    SYS_finit_module, SYS_fremovexattr, SYS_fsetxattr, SYS_fsmount, SYS_fsopen, SYS_ftruncate, SYS_init_module,
    SYS_io_setup, SYS_io_uring_enter, SYS_io_uring_register, SYS_io_uring_setup, SYS_kcmp, SYS_kexec_load, SYS_keyctl,
    SYS_kill, SYS_linkat, SYS_listen, SYS_lremovexattr, SYS_lsetxattr, SYS_memfd_create, SYS_mkdirat, SYS_mknodat,
    SYS_mlock, SYS_mlock2, SYS_mlockall, SYS_mmap, SYS_mount, SYS_move_mount, SYS_mq_open, SYS_msgget,
    SYS_open_by_handle_at, SYS_open_tree, SYS_openat, SYS_perf_event_open, SYS_pidfd_getfd, SYS_pidfd_open,
    SYS_pidfd_send_signal, SYS_pivot_root, SYS_prlimit64, SYS_process_madvise, SYS_process_vm_readv,
    SYS_process_vm_writev, SYS_ptrace, SYS_recvmsg, SYS_removexattr, SYS_renameat2, SYS_request_key,
    SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_seccomp, SYS_semget, SYS_sendmmsg, SYS_sendmsg, SYS_setns,
    SYS_setpriority, SYS_setsid, SYS_setxattr, SYS_shmat, SYS_shmctl, SYS_shmget, SYS_socket, SYS_socketpair,
    SYS_symlinkat, SYS_tgkill, SYS_tkill, SYS_truncate, SYS_umount2, SYS_unlinkat, SYS_unshare, SYS_userfaultfd,
    SYS_utimensat,
};

use super::allowed::bits;
use super::call::Call;
use super::call::Condition::{Bits, IsNot, NotNull};

/// Calls that are forbidden with all arguments.
#[rustfmt::skip]
const ANY: &[i64] = &[
    // New sockets, and other uses of sockets than accepted connections.
    SYS_socket, SYS_socketpair, SYS_connect, SYS_bind, SYS_listen, SYS_sendmsg, SYS_sendmmsg, SYS_recvmsg,
    // Other programs and processes.
    SYS_execve, SYS_execveat, SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_process_madvise, SYS_kcmp,
    SYS_pidfd_open, SYS_pidfd_getfd, SYS_pidfd_send_signal, SYS_tkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo,
    SYS_setpriority, SYS_setsid,
    // Shared memory and queues: those of the server belong to the same user.
    SYS_shmget, SYS_shmat, SYS_shmctl, SYS_semget, SYS_msgget, SYS_mq_open, SYS_memfd_create,
    // Interfaces of the kernel that have had many faults, or change the system.
    SYS_keyctl, SYS_add_key, SYS_request_key, SYS_bpf, SYS_perf_event_open, SYS_io_uring_setup, SYS_io_uring_enter,
    SYS_io_uring_register, SYS_io_setup, SYS_userfaultfd, SYS_unshare, SYS_setns, SYS_mount, SYS_umount2,
    SYS_move_mount, SYS_open_tree, SYS_fsopen, SYS_fsmount, SYS_pivot_root, SYS_chroot, SYS_chdir, SYS_fchdir,
    SYS_open_by_handle_at, SYS_fanotify_init, SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load,
    SYS_seccomp, SYS_mlock, SYS_mlock2, SYS_mlockall,
    // Changes of files.
    SYS_truncate, SYS_ftruncate, SYS_fallocate, SYS_unlinkat, SYS_renameat2, SYS_mkdirat, SYS_mknodat, SYS_linkat,
    SYS_symlinkat, SYS_fchmod, SYS_fchmodat, SYS_fchown, SYS_fchownat, SYS_utimensat, SYS_setxattr, SYS_lsetxattr,
    SYS_fsetxattr, SYS_removexattr, SYS_lremovexattr, SYS_fremovexattr,
];

/// Older forms of calls, which other processors than x86-64 do not have.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLDER: &[i64] = &[
    libc::SYS_fork, libc::SYS_vfork, libc::SYS_setrlimit, libc::SYS_open, libc::SYS_creat, libc::SYS_unlink,
    libc::SYS_rmdir, libc::SYS_rename, libc::SYS_renameat, libc::SYS_mkdir, libc::SYS_mknod, libc::SYS_link,
    libc::SYS_symlink, libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown, libc::SYS_utime, libc::SYS_utimes,
    libc::SYS_modify_ldt, libc::SYS_ioperm, libc::SYS_iopl,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[i64] = &[];

/// Returns the forbidden calls. `own` is the number of this process.
pub(super) fn calls(own: u64) -> Vec<Call> {
    let mut calls: Vec<Call> = ANY.iter().chain(OLDER).map(|&number| (number, Vec::new())).collect();
    let has = |argument, flags| Bits(argument, bits(flags), bits(flags));
    let shared = bits(libc::MAP_ANONYMOUS | libc::MAP_TYPE);
    let anonymous = |kind| bits(libc::MAP_ANONYMOUS | kind);
    calls.extend([
        // A new process instead of a thread.
        (SYS_clone, vec![Bits(0, bits(libc::CLONE_THREAD), 0)]),
        (SYS_kill, vec![IsNot(0, own)]),
        (SYS_tgkill, vec![IsNot(0, own)]),
        // Files that are opened to be written. O_TMPFILE needs one of the first two.
        (SYS_openat, [libc::O_WRONLY, libc::O_RDWR, libc::O_CREAT, libc::O_TRUNC].map(|flag| has(2, flag)).to_vec()),
        // Memory that the limit does not count: shared without a file, and stacks that grow.
        (
            SYS_mmap,
            vec![
                Bits(3, shared, anonymous(libc::MAP_SHARED)),
                Bits(3, shared, anonymous(libc::MAP_SHARED_VALIDATE)),
                has(3, libc::MAP_GROWSDOWN),
            ],
        ),
        // New limits, and limits of other processes.
        (SYS_prlimit64, vec![NotNull(2), IsNot(0, 0)]),
    ]);
    calls
}
