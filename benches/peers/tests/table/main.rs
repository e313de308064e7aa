//! Tests the columns about other crates, the peers, in the README's table. For each cell a test observes a running
//! server of the peer.

mod server;

use std::path::Path;
use std::{env, fs};

use server::Server;

/// A column of the table: the expected behaviour of a peer, and the README's words for that behaviour.
struct Peer {
    name: &'static str,
    takes_part: &'static str,
    /// The signals at which the peer begins the shutdown.
    signals: &'static [&'static str],
    /// The README's words for everything that begins the shutdown.
    begins_at: &'static str,
    /// The commands to the server at which the peer begins the shutdown.
    commands: &'static [&'static str],
    /// Whether the peer begins the shutdown when a part fails.
    failure: bool,
    /// The result of the shutdown after its deadline has passed, and the README's words for that. It is `None` if the
    /// peer has no deadline.
    past_deadline: Option<(&'static str, &'static str)>,
    /// Whether the server can give the peer a future that ends the wait for the parts.
    overruled: bool,
    /// The result of the shutdown if part `A` panics, and the README's words for that.
    panic: (&'static str, &'static str),
    /// The text of the shutdown's result without the time in it, and the README's words for that result.
    comes_back: (&'static str, &'static str),
}

const ENDED: &str = "counts as ended";
const NOTHING: (&str, &str) = ("()", "nothing");

const PEERS: [Peer; 6] = [
    Peer {
        name: "tokio-util",
        takes_part: "what holds a token, or is tracked",
        signals: &[],
        begins_at: "a call",
        commands: &["call"],
        failure: false,
        past_deadline: None,
        overruled: false,
        panic: ("()", ENDED),
        comes_back: NOTHING,
    },
    Peer {
        name: "tokio-graceful-shutdown",
        takes_part: "tasks, as a tree",
        signals: &["TERM", "INT"],
        begins_at: "SIGTERM, SIGINT; a failed subsystem; a call",
        commands: &["call"],
        failure: true,
        past_deadline: Some((
            "Err(ShutdownTimeout([]))",
            "an error with the failures so far, not what is missing",
        )),
        overruled: false,
        panic: (
            r#"Err(SubsystemsFailed([Panicked("/A")]))"#,
            "contained, named",
        ),
        comes_back: ("Ok(())", "errors by subsystem"),
    },
    Peer {
        name: "tokio-graceful",
        takes_part: "what holds a guard",
        signals: &["TERM", "INT"],
        begins_at: "SIGTERM, SIGINT; a future",
        commands: &["future"],
        failure: false,
        past_deadline: Some(("Err(TimeoutError(200ms))", "an error with the time")),
        overruled: true,
        panic: ("Ok(", ENDED),
        comes_back: ("Ok(", "the time it took"),
    },
    Peer {
        name: "async-shutdown",
        takes_part: "what holds a token",
        signals: &[],
        begins_at: "a call; a token that is dropped",
        commands: &["call"],
        failure: true,
        past_deadline: None,
        overruled: false,
        panic: (r#""a call""#, ENDED),
        comes_back: (r#""a call""#, "the reason"),
    },
    Peer {
        name: "drain",
        takes_part: "what holds a watch",
        signals: &[],
        begins_at: "a call",
        commands: &["call"],
        failure: false,
        past_deadline: None,
        overruled: false,
        panic: ("()", ENDED),
        comes_back: NOTHING,
    },
    Peer {
        name: "elegant-departure",
        takes_part: "what holds a guard of one global registry",
        // The user chooses the signals for this peer. The server here chose TERM, INT and HUP.
        signals: &["TERM", "INT", "HUP"],
        begins_at: "signals of your choice; a future; a call",
        commands: &["call", "future"],
        failure: false,
        past_deadline: None,
        overruled: false,
        panic: ("()", ENDED),
        comes_back: NOTHING,
    },
];

impl Peer {
    fn start(&self, scenario: &str) -> Server {
        Server::start(self.name, scenario)
    }

    /// Starts a server, begins its shutdown, and waits until both parts have the signal to stop.
    fn begun(&self, scenario: &str) -> Server {
        let mut server = self.start(scenario);
        server.say(self.commands[0]);
        server.both_told();
        server
    }

    /// Returns the signals at which the peer begins the shutdown. The tested signals that are not returned kill the
    /// process.
    fn heard(&self) -> Vec<&'static str> {
        let heard = |name: &&str| {
            let mut server = self.start("waits");
            server.signal_until_line(name)
        };
        let names = ["TERM", "INT", "QUIT", "HUP"];
        names.into_iter().filter(heard).collect()
    }

    fn cells(&self) -> Vec<(&'static str, String)> {
        vec![
            ("what takes part", self.takes_part.to_owned()),
            ("begins at", self.begins_at()),
            ("order of cleanups", self.order()),
            ("deadline", self.deadline().to_owned()),
            ("past the deadline", self.past_deadline().to_owned()),
            ("a second signal", self.second_signal().to_owned()),
            ("a panic in what takes part", self.panic().to_owned()),
            ("a cleanup that was forgotten", "–".to_owned()),
            ("comes back with", self.comes_back().to_owned()),
        ]
    }

    fn begins_at(&self) -> String {
        assert_eq!(self.heard(), self.signals, "{}", self.name);
        for command in self.commands {
            let mut server = self.start("waits");
            server.say(command);
            server.both_told();
        }
        let mut server = self.start("waits");
        server.say("fail");
        server.until("A failed");
        if !self.failure {
            server.say(self.commands[0]);
        }
        server.until("B told");
        if !self.failure && self.commands[0] == "call" {
            assert!(server.came_before("called", "B told"), "{}", self.name);
        }
        self.begins_at.to_owned()
    }

    fn order(&self) -> String {
        let mut server = self.begun("waits");
        server.say("go");
        server.result();
        "yours: all are cancelled at once".to_owned()
    }

    fn deadline(&self) -> &'static str {
        match self.past_deadline {
            Some(_) => "of the whole",
            None => "yours",
        }
    }

    fn past_deadline(&self) -> &'static str {
        let mut server = self.begun("hangs");
        let Some((seen, said)) = self.past_deadline else {
            server.say("go");
            server.result();
            for part in ["A ended", "B ended"] {
                assert!(server.came_before(part, "result"), "{}", self.name);
            }
            return "–";
        };
        assert_eq!(server.result(), seen, "{}", self.name);
        said
    }

    fn second_signal(&self) -> &'static str {
        let Some(signal) = self.signals.first() else {
            return "yours";
        };
        let mut server = self.start("waits");
        server.signal_until_line(signal);
        server.both_told();
        server.signal(signal);
        server.say("go");
        server.result();
        for part in ["A ended", "B ended"] {
            assert!(server.came_before(part, "result"), "{}", self.name);
        }
        if !self.overruled {
            return "is ignored";
        }
        let mut server = self.begun("waits");
        server.say("overrule");
        server.result();
        assert!(!server.read.contains(&"A ended".to_owned()));
        "is ignored; a future of yours can end the wait"
    }

    fn panic(&self) -> &'static str {
        let (seen, said) = self.panic;
        let mut server = self.begun("panics");
        server.say("go");
        let result = server.result();
        assert!(result.starts_with(seen), "{}: {result}", self.name);
        said
    }

    fn comes_back(&self) -> &'static str {
        let (seen, said) = self.comes_back;
        let mut server = self.begun("waits");
        server.say("go");
        let result = server.result();
        assert!(result.starts_with(seen), "{}: {result}", self.name);
        said
    }
}

/// Returns the version of the peer `name` in the text of the lock file, `lock`.
fn version(lock: &str, name: &str) -> String {
    let start = format!("name = \"{name}\"\nversion = \"");
    let (_, rest) = lock.split_once(&start).expect("it is built here");
    rest.split('"').next().expect("a version").to_owned()
}

// The variable `LIFECYCLE_WRITE_TABLE=1` makes this test write the peers' columns anew instead of comparing them.
#[test]
fn the_readme_says_what_the_peers_do() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lock = fs::read_to_string(root.join("Cargo.lock")).expect("the lock file");
    let file = root.join("../../README.md");
    let known = fs::read_to_string(&file).expect("the README");
    let columns: Vec<_> = PEERS.iter().map(Peer::cells).collect();
    let mut made = String::new();
    let mut rows = 0;
    for line in known.lines() {
        let cells: Vec<_> = line.split(" | ").collect();
        if line.starts_with("| | Lifecycle | tokio-util") {
            made.push_str("| | Lifecycle |");
            for peer in &PEERS {
                made.push_str(&format!(" {} {} |", peer.name, version(&lock, peer.name)));
            }
        } else if let Some(row) = columns[0]
            .iter()
            .position(|(row, _)| cells[0].trim_start_matches("| ") == *row)
        {
            rows += 1;
            // The first two cells are kept: the name of the row, and the column about this project, which its own tests
            // prove.
            made.push_str(&format!("{} | {} |", cells[0], cells[1]));
            for column in &columns {
                made.push_str(&format!(" {} |", column[row].1));
            }
        } else {
            made.push_str(line);
        }
        made.push('\n');
    }
    assert_eq!(rows, columns[0].len(), "a row is missing in the README");
    if env::var_os("LIFECYCLE_WRITE_TABLE").is_some() {
        fs::write(&file, &made).expect("the README");
    }
    let now = fs::read_to_string(&file).expect("the README");
    assert!(now == made, "run this test with LIFECYCLE_WRITE_TABLE=1");
}
