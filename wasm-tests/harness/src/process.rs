//! One child process that does not outlive us, however we end.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal};

/// How long a process may take to end by itself before it is killed.
const PATIENCE: Duration = Duration::from_secs(3);

/// A running process, the leader of a group of its own. Dropped, it is asked to end, then made to.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts `command`.
    ///
    /// # Errors
    /// The program is missing or can't be run.
    pub fn spawn(mut command: Command) -> io::Result<Self> {
        // Of its own group, so that Ctrl-C in a terminal reaches us alone and we end things in order.
        command.process_group(0);
        // SAFETY: between fork and exec only prctl(2) is called, which is async-signal-safe.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        on_the_keeper(move || command.spawn()).map(Self)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// What it prints, if that is piped and nobody took it yet.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.0.stdout.take()
    }

    /// What it complains of, in the same way.
    pub fn stderr(&mut self) -> Option<ChildStderr> {
        self.0.stderr.take()
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().ok().flatten()
    }

    /// Resident memory, in kilobytes.
    ///
    /// # Errors
    /// The process is gone.
    pub fn rss_kb(&self) -> io::Result<u64> {
        self.status_kb("VmRSS:")
    }

    /// The most resident memory it ever had, in kilobytes.
    ///
    /// # Errors
    /// The process is gone.
    pub fn peak_rss_kb(&self) -> io::Result<u64> {
        self.status_kb("VmHWM:")
    }

    fn status_kb(&self, field: &str) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let value = line.and_then(|line| line.trim_end_matches("kB").trim().parse().ok());
        // One that has ended and was not waited for has no memory.
        Ok(value.unwrap_or(0))
    }

    /// CPU time used so far by all threads it has, in user and kernel mode.
    ///
    /// # Errors
    /// The process is gone, or the kernel keeps no scheduler statistics.
    pub fn cpu_time(&self) -> io::Result<Duration> {
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            // The first number is the time on a CPU in nanoseconds; /proc/PID/stat counts in steps of 10 ms.
            // A thread may end between the listing and the read.
            let Ok(line) = fs::read_to_string(task?.path().join("schedstat")) else {
                continue;
            };
            nanos += line
                .split(' ')
                .next()
                .and_then(|first| first.parse().ok())
                .unwrap_or(0);
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Kills it, and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.0.wait();
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It fails where the group is gone already, which is what we want.
            let _ = kill_process_group(pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_some() {
            return;
        }
        self.signal(Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while self.ended().is_none() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        self.signal(Signal::KILL);
        let _ = self.0.wait();
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// Runs `job` on a thread that lives as long as this process.
///
/// The kernel sends a child its parent's death signal when the *thread* that forked it ends, and a test's own
/// thread ends before a gateway that several tests share.
fn on_the_keeper<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> T {
    static KEEPER: std::sync::LazyLock<mpsc::Sender<Job>> = std::sync::LazyLock::new(|| {
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::Builder::new()
            .name("keeper".into())
            .spawn(move || queue.iter().for_each(|job| job()))
            .expect("a thread for child processes");
        jobs
    });
    let (send, result) = mpsc::channel();
    KEEPER
        .send(Box::new(move || drop(send.send(job()))))
        .expect("the keeper runs as long as we do");
    result.recv().expect("the keeper runs as long as we do")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(pid: u32) -> bool {
        // A zombie has no memory map.
        fs::read_to_string(format!("/proc/{pid}/statm")).is_ok_and(|statm| !statm.starts_with("0 "))
    }

    #[test]
    fn dropped_it_is_ended() {
        let mut command = Command::new("sleep");
        command.arg("1000");
        let process = Process::spawn(command).unwrap();
        let pid = process.pid();
        assert!(alive(pid) && process.rss_kb().unwrap() > 0 && process.cpu_time().is_ok());
        drop(process);
        assert!(!alive(pid));
    }

    #[test]
    fn it_outlives_the_thread_that_asked_for_it() {
        let spawn = || {
            let mut command = Command::new("sleep");
            command.arg("1000");
            Process::spawn(command).unwrap()
        };
        let mut process = thread::spawn(spawn).join().unwrap();
        assert!(process.ended().is_none() && alive(process.pid()));
    }

    #[test]
    fn one_that_ignores_being_asked_is_killed() {
        let ready = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg("trap '' TERM; echo > \"$0\"; while :; do sleep 0.1; done")
            .arg(ready.path());
        let process = Process::spawn(command).unwrap();
        let pid = process.pid();
        while fs::metadata(ready.path()).unwrap().len() == 0 {
            thread::yield_now();
        }
        drop(process);
        assert!(!alive(pid));
    }
}
