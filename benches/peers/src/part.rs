//! The behaviour of a server's parts, which is the same for all peers.

use std::io::{self, BufRead as _};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::watch;

#[derive(Clone, Copy, PartialEq)]
pub enum Scenario {
    /// After the signal to stop, a part waits for `go`.
    Waits,
    /// After the signal to stop, `A` waits for `go` and panics.
    Panics,
    /// After the signal to stop, a part waits for `go`, which may not come before the deadline.
    Hangs,
}

#[derive(Clone)]
pub struct Play {
    scenario: Scenario,
    /// The commands that were read so far.
    commands: Arc<watch::Sender<Vec<String>>>,
}

impl Play {
    pub fn new(scenario: Scenario) -> Self {
        let commands = Arc::new(watch::Sender::new(Vec::new()));
        let read = Arc::clone(&commands);
        thread::spawn(move || {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                read.send_modify(|commands| commands.push(line));
            }
        });
        Self { scenario, commands }
    }

    /// Waits for a command.
    pub async fn command(&self, name: &str) {
        let mut commands = self.commands.subscribe();
        let given = |commands: &Vec<String>| commands.iter().any(|command| command == name);
        // The sender is in `self`.
        let _ = commands.wait_for(given).await;
    }

    /// Returns the deadline for the peers that have one.
    pub fn deadline(&self) -> Duration {
        match self.scenario {
            Scenario::Hangs => Duration::from_millis(200),
            Scenario::Waits | Scenario::Panics => Duration::from_secs(600),
        }
    }

    /// Waits for the command to call the peer, and prints that.
    pub async fn call(&self) {
        self.command("call").await;
        println!("called");
    }

    /// Prints that the server serves, after every spawned task has been polled.
    pub async fn serving(&self) {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        println!("serving");
    }

    /// Runs a part.
    ///
    /// # Errors
    /// The part is `A`, and the command `fail` came before the signal to stop.
    pub async fn part(self, name: &'static str, told: impl Future) -> Result<(), &'static str> {
        tokio::select! {
            _ = told => {}
            () = self.command("fail"), if name == "A" => {
                println!("A failed");
                return Err("the disk is full");
            }
        }
        println!("{name} told");
        self.command("go").await;
        if name == "A" && self.scenario == Scenario::Panics {
            panic!("A broke");
        }
        println!("{name} ended");
        Ok(())
    }
}
