//! The behaviour of a server's parts, which is the same for all peers.

use std::io::{self, BufRead as _};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::watch;

#[derive(Clone, Copy, PartialEq)]
pub enum Scenario {
    /// After the signal to stop, each part waits for the command `go`, and then ends.
    Waits,
    /// After the signal to stop, part `A` waits for the command `go`, and then panics.
    Panics,
    /// After the signal to stop, a part waits for `go`, which may not come before the peer's short deadline.
    Hangs,
}

#[derive(Clone)]
pub struct Play {
    scenario: Scenario,
    /// The commands that have been read from standard input so far.
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

    /// Waits until the command `name` has been read from standard input.
    pub async fn command(&self, name: &str) {
        let mut commands = self.commands.subscribe();
        let given = |commands: &Vec<String>| commands.iter().any(|command| command == name);
        // Waiting cannot fail, since `self` holds the sender of the commands.
        let _ = commands.wait_for(given).await;
    }

    /// Returns the time after which a peer with a deadline gives up waiting for the parts.
    pub fn deadline(&self) -> Duration {
        match self.scenario {
            Scenario::Hangs => Duration::from_millis(200),
            Scenario::Waits | Scenario::Panics => Duration::from_secs(600),
        }
    }

    /// Waits for the command `call`, and prints that the caller now calls the peer.
    pub async fn call(&self) {
        self.command("call").await;
        println!("called");
    }

    /// Prints that the server serves. Before that it yields several times, so that every spawned task has been polled.
    pub async fn serving(&self) {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        println!("serving");
    }

    /// Runs a part until it ends as the scenario says. `told` completes when the peer tells the part to stop.
    ///
    /// # Errors
    /// An error if the part is `A` and the command `fail` came before the signal to stop.
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
