//! What the parts of all servers do.

use std::io::{self, BufRead as _};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::watch;

#[derive(Clone, Copy, PartialEq)]
pub enum Scenario {
    /// Told to stop, a part waits for `go`.
    Waits,
    /// Told to stop, `A` waits for `go` and panics.
    Panics,
    /// Told to stop, a part waits for `go`, which may not come before the deadline.
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

    /// Waits until it is asked to call the peer, and says so.
    pub async fn call(&self) {
        self.command("call").await;
        println!("called");
    }

    /// Says that the server serves, once all that was spawned has been polled.
    pub async fn serving(&self) {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        println!("serving");
    }

    /// Runs a part.
    ///
    /// # Errors
    /// It is `A`, and was let fail before it was told.
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
