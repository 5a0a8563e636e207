//! The process of the service: a child of the supervisor, started with exec. It shares no memory, no descriptor and no signal
//! handler with the server, and it ends when the supervisor ends.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::pg::installation;
use crate::pg::settings;

use super::settings as service;

/// Variables that the service inherits. The server's environment may contain secrets.
const INHERITED: [&str; 4] = ["LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "TZ", "TMPDIR"];

/// Time for an orderly end before the process is killed.
const GRACE: Duration = Duration::from_secs(2);

/// Raises the process above the server's processes in the kernel's choice of a process to kill when memory runs out.
const OOM_SCORE: &[u8] = b"500\n";

/// Descriptors to close one by one if the kernel has no `close_range`.
const MAX_DESCRIPTORS: libc::rlim_t = 65_536;

/// `CLOSE_RANGE_CLOEXEC` of linux/close_range.h.
const CLOSE_ON_EXEC: libc::c_uint = 4;

/// The command line of the service, from the current settings. The service is started again if it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    program: OsString,
    arguments: Vec<OsString>,
}

impl CommandLine {
    pub fn from_settings() -> Self {
        let mut arguments: Vec<OsString> = vec!["serve".into()];
        let mut add = |name: &str, value: OsString| arguments.extend([name.into(), value]);
        add("--socket", service::socket().into());
        for directory in settings::model_paths() {
            add("--model-path", directory.into());
        }
        add("--onnxruntime", settings::onnxruntime_path().into());
        if let Some(directory) = settings::prepared_path() {
            add("--prepared-path", directory.into());
        }
        add("--provider", service::provider().into());
        add("--threads", service::threads().to_string().into());
        add("--memory", service::memory().to_string().into());
        Self { program: installation::command().into(), arguments }
    }

    pub fn program(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }
}

/// A running service.
pub struct Process(Child);

impl Process {
    /// Starts the service.
    pub fn start(line: &CommandLine) -> io::Result<Self> {
        let mut command = Command::new(&line.program);
        command.args(&line.arguments).env_clear();
        let inherited = INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        command.envs(inherited).envs(clip::TELEMETRY_OFF.map(|name| (name, "1"))).env("RUST_LIB_BACKTRACE", "0");
        // Messages of the service go into the server's log. A group of its own: the server sends signals to whole groups.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).process_group(0);
        let parent = std::process::id();
        // SAFETY: between fork and exec, the function only calls functions that are safe there and does not allocate.
        unsafe { command.pre_exec(move || prepare_child(parent)) };
        command.spawn().map(Self)
    }

    pub fn id(&self) -> i32 {
        self.0.id() as i32
    }

    /// Returns how the process ended, or None if it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        // An error means that another part of this process has waited for the child.
        self.0.try_wait().unwrap_or_else(|_| Some(ExitStatus::default()))
    }

    /// Returns true if a signal such as SIGSTOP has stopped the process.
    pub fn is_stopped(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
        // The state follows the name of the program, which is in parentheses.
        status.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    /// Kills the process.
    pub fn kill(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }

    /// Ends the process in order, or kills it after some time. Runs also while this process exits.
    pub fn stop(&mut self) {
        // SAFETY: sends a signal to a child that was not waited for, so that its number belongs to no other process.
        unsafe { libc::kill(self.id(), libc::SIGTERM) };
        let begun = Instant::now();
        while self.ended().is_none() {
            if begun.elapsed() > GRACE {
                return self.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Prepares a child for exec: default signals, no inherited descriptor, and the end of this process with its parent.
fn prepare_child(parent: u32) -> io::Result<()> {
    // SAFETY: system calls with valid arguments, which are safe between fork and exec.
    unsafe {
        // SIGKILL and SIGSTOP cannot be set, which is no error here.
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == -1 {
            return Err(io::Error::last_os_error());
        }
        // The parent may have ended before.
        if libc::getppid() != parent as i32 {
            libc::_exit(1);
        }
        let score = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if score >= 0 {
            libc::write(score, OOM_SCORE.as_ptr().cast(), OOM_SCORE.len());
        }
        // The pipe that reports a failed exec must stay open until then.
        if libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, CLOSE_ON_EXEC) == 0 {
            return Ok(());
        }
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        for descriptor in 3..limit.rlim_cur.min(MAX_DESCRIPTORS) as i32 {
            libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
    Ok(())
}
