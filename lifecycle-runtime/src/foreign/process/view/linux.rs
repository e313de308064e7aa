//! Functions that read the state of process groups from `waitid` and `/proc`, as [proc_pid_stat(5)] describes it.
//!
//! `kill(-group, 0)` is not used: it counts the unreaped leader, and so does not show whether other processes of the
//! group live.
//!
//! [proc_pid_stat(5)]: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html

use std::fs::{self, File};
use std::io::{self, Read};

use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::View;

/// Reads the state of the group of `leader`, a child that is not reaped. If any process in `known` lives, the function
/// checks only the processes in `known`.
pub(in super::super) fn view(leader: Pid, known: &[Pid]) -> io::Result<View> {
    if !has_ended(leader)? {
        return Ok(View::LeaderRuns);
    }
    let lives = |pid: &Pid| stat(*pid).is_ok_and(|stat| stat.is_some_and(|s| s.lives_in(leader)));
    let mut rest: Vec<Pid> = known.iter().copied().filter(lives).collect();
    if rest.is_empty() {
        match members(leader) {
            Ok(members) => rest = members,
            Err(_) => return Ok(View::Hidden),
        }
    }
    Ok(View::LeaderEnded { rest })
}

/// Checks that `pid` is a child of this process that is not reaped.
///
/// # Errors
///
/// If `pid` is not a child of this process, or is reaped.
pub(in super::super) fn check_unreaped(pid: Pid) -> io::Result<()> {
    has_ended(pid).map(drop)
}

/// Returns whether the child `pid` has ended, and leaves it unreaped.
fn has_ended(pid: Pid) -> io::Result<bool> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::Pid(pid), options) {
        Ok(status) => Ok(status.is_some()),
        Err(errno) => {
            let error = io::Error::from(errno);
            let text = format!("process {pid} cannot be waited for, so it was left alone: {error}");
            Err(io::Error::new(error.kind(), text))
        }
    }
}

/// Returns the living processes of the group of `leader`, including the leader.
///
/// # Errors
///
/// If `/proc` cannot be read, or does not show the leader, because it belongs to another PID namespace.
pub(in super::super) fn members(leader: Pid) -> io::Result<Vec<Pid>> {
    let first = scan(leader)?;
    if first.living.is_empty() && first.some_ended {
        // The list is read again: a process that ended during the first scan may have had a child that is younger than
        // the list.
        return Ok(scan(leader)?.living);
    }
    Ok(first.living)
}

struct Scan {
    living: Vec<Pid>,
    /// Whether a process that may have been in the group ended during the scan.
    some_ended: bool,
}

fn scan(leader: Pid) -> io::Result<Scan> {
    let mut scan = Scan {
        living: Vec::new(),
        some_ended: false,
    };
    let mut saw_leader = false;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        let Some(pid) = number.and_then(Pid::from_raw) else {
            continue;
        };
        let Some(stat) = stat(pid)? else {
            scan.some_ended = true;
            continue;
        };
        if stat.group != leader.as_raw_pid() {
            continue;
        }
        saw_leader |= pid == leader;
        if stat.lives {
            scan.living.push(pid);
        } else if pid != leader {
            scan.some_ended = true;
        }
    }
    if saw_leader {
        Ok(scan)
    } else {
        Err(io::Error::other("/proc does not show the leader"))
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    lives: bool,
    group: i32,
}

impl Stat {
    fn lives_in(&self, group: Pid) -> bool {
        self.lives && self.group == group.as_raw_pid()
    }
}

/// Returns the state of process `pid`. `None` if the process is gone, or belongs to a user whose processes are
/// hidden.
fn stat(pid: Pid) -> io::Result<Option<Stat>> {
    // A single read is enough, since the needed fields are at the beginning of the file.
    let mut text = [0; 512];
    let read = File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read(&mut text));
    match read {
        Ok(length) => match parse(&text[..length]) {
            Some(stat) => Ok(Some(stat)),
            None => Err(io::Error::other("/proc/[pid]/stat is not as expected")),
        },
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::SRCH | Errno::ACCESS | Errno::PERM) => Ok(None),
            _ => Err(error),
        },
    }
}

/// Parses `pid (name) state parent group …`. The name may contain any characters, even parentheses.
fn parse(text: &[u8]) -> Option<Stat> {
    let name_end = text.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(&text[name_end + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let group = fields.nth(1)?.parse().ok()?;
    let threads: u32 = fields.nth(14)?.parse().ok()?;
    Some(Stat {
        // The number of threads counts too: a process whose main thread has ended is shown as a zombie while its other
        // threads run.
        lives: !matches!(state, "Z" | "X" | "x") || threads > 1,
        group,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command, Stdio};

    use super::*;

    const REST: &str = "0 0 -1 4194560 96 0 0 0 0 0 0 0 20 0";

    fn stat_of(start: &str, threads: u32) -> Option<Stat> {
        parse(format!("{start} {REST} {threads} 0 1055 2703360 215\n").as_bytes())
    }

    #[test]
    fn a_process_name_may_contain_text_that_looks_like_fields() {
        let stat = stat_of("17 (a) Z 1 99 (b)) S 1 12", 1);
        assert_eq!(
            stat,
            Some(Stat {
                lives: true,
                group: 12
            })
        );
        assert!(parse(b"17 (\xff) Z 1 12 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1 0").is_some());
    }

    #[test]
    fn a_process_whose_main_thread_has_ended_lives_while_it_has_other_threads() {
        assert!(!stat_of("17 (a) Z 1 12", 1).unwrap().lives);
        assert!(stat_of("17 (a) Z 1 12", 2).unwrap().lives);
    }

    #[test]
    fn a_malformed_stat_is_rejected() {
        for text in ["", "17 (a", "17 (a) S 1", "17 (a) S 1 x", "17 (a) S 1 12 0"] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_process_lives_only_in_its_own_group() {
        let group = |number| Pid::from_raw(number).unwrap();
        let stat = stat_of("17 (a) S 1 12", 1).unwrap();
        assert!(stat.lives_in(group(12)) && !stat.lives_in(group(13)));
        let ended = stat_of("17 (a) Z 1 12", 1).unwrap();
        assert!(!ended.lives_in(group(12)));
    }

    /// A process that is killed when this value is dropped.
    struct Sleep(Child);

    impl Sleep {
        fn in_group(group: i32) -> (Self, Pid) {
            let mut command = Command::new("sleep");
            let command = command.arg("1000").process_group(group);
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let child = child.expect("there is sleep");
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            (Self(child), pid.expect("numbers are small"))
        }
    }

    impl Drop for Sleep {
        fn drop(&mut self) {
            // The results are ignored: both calls fail only if the process has ended.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_scan_finds_the_living_members_of_a_group_and_whether_some_ended() {
        let (_leader, group) = Sleep::in_group(0);
        assert_eq!(members(group).unwrap(), [group]);
        let (mut other, pid) = Sleep::in_group(group.as_raw_pid());
        assert_eq!(members(group).unwrap().len(), 2);
        other.0.kill().unwrap();
        // This call waits until the process has ended, and leaves it unreaped.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(pid), options).unwrap();
        let seen = scan(group).unwrap();
        assert_eq!(seen.living, [group]);
        assert!(seen.some_ended);
    }
}
