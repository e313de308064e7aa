//! Process groups for tests: a shell leads the group, and another shell runs in it.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// The files and numbers of two shells: the leader of a process group, and `rest`, a shell that the leader starts.
///
/// The two shells run in a temporary directory and write their files there. Dropping a `Family` kills every process of
/// the group that still lives.
#[derive(Debug)]
pub struct Family {
    directory: TempDir,
    /// The process number of the leader, which is also the number of the group.
    pub leader: Pid,
}

impl Family {
    /// Starts a shell as the leader of a process group. The shell runs the script `leader`, which starts the script
    /// `rest` by `sh rest`.
    ///
    /// # Panics
    ///
    /// If the shell cannot be started.
    pub fn start(leader: &str, rest: &str) -> (Child, Self) {
        let directory = tempfile::tempdir().expect("there is room for a directory");
        let script = |name, text: &str| {
            fs::write(directory.path().join(name), text).expect("a script is written");
        };
        script("leader", leader);
        script("rest", rest);
        let child = Command::new("sh")
            .arg("leader")
            .current_dir(&directory)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("there is a shell");
        let leader = pid(&child);
        (child, Self { directory, leader })
    }

    /// Waits until a shell has written the file `name`, and returns the process numbers in that file.
    pub fn wrote(&self, name: &str) -> Vec<Pid> {
        eventually(|| !self.read(name).is_empty());
        self.read(name)
    }

    /// Returns the process numbers on the complete lines of the file `name`.
    pub fn read(&self, name: &str) -> Vec<Pid> {
        let text = fs::read_to_string(self.file(name)).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .filter_map(|line| Pid::from_raw(line.parse().ok()?))
            .collect()
    }

    /// Returns the path of the file `name` in the shells' directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns whether the process `pid` is in the group and has not ended.
    pub fn lives(&self, pid: Pid) -> bool {
        self.state(pid).is_some_and(|state| state != 'Z')
    }

    /// Waits until the leader has ended, and leaves it as a zombie.
    ///
    /// # Panics
    ///
    /// If the leader has been reaped.
    pub fn leader_ended(&self) {
        eventually(|| self.state(self.leader).expect("it is not reaped") == 'Z');
    }

    /// Returns whether the leader has ended and has been reaped.
    pub fn leader_is_reaped(&self) -> bool {
        matches!(
            waitpid(Some(self.leader), WaitOptions::NOHANG),
            Err(Errno::CHILD)
        )
    }

    /// Returns the numbers of all processes of the group that have not ended.
    ///
    /// # Panics
    ///
    /// If `/proc` cannot be read.
    pub fn living(&self) -> Vec<Pid> {
        fs::read_dir("/proc")
            .expect("Linux has /proc")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(Pid::from_raw)
            .filter(|&pid| self.lives(pid))
            .collect()
    }

    /// Sends `signal` to `pid`, a process of the group.
    ///
    /// # Panics
    ///
    /// If the process has ended.
    pub fn signal(&self, pid: Pid, signal: Signal) {
        assert!(self.lives(pid), "the process has ended");
        kill_process(pid, signal).expect("the process can be signalled");
    }

    /// Returns the letter of the process's state in `/proc`, or `None` if the process `pid` is not in the group.
    fn state(&self, pid: Pid) -> Option<char> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = text[text.rfind(')')? + 1..].split_whitespace();
        let state = fields.next()?.chars().next()?;
        let group: i32 = fields.nth(1)?.parse().ok()?;
        (group == self.leader.as_raw_pid()).then_some(state)
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        for pid in self.living() {
            // Killing fails if the process has ended meanwhile, which is fine.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn pid(child: &Child) -> Pid {
    let id = child.id().expect("it is not reaped");
    Pid::from_raw(i32::try_from(id).expect("numbers are small")).expect("numbers are not 0")
}

/// Blocks until `condition` holds, however long the real processes take.
///
/// # Panics
///
/// If `condition` does not hold within a minute.
pub fn eventually(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "the condition does not hold within a minute"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}
