//! Tests a runner against a small model of its phases. The runner is a real process, and gets any number of signals in
//! any phase.
//!
//! Each phase of the server prints that it has begun, and ends only when the test lets it. So no test depends on speed,
//! except for the 500 ms within which the runner counts a signal as a repeat of the last one.

use std::thread;

use lifecycle_tests::Process;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use rustix::process::Signal;

/// The number of cases that each thread runs, unless `LIFECYCLE_SEQUENCE_CASES` sets another number.
const CASES: u32 = 4;

/// The number of threads that run cases. They may be many, since they spend most of their time waiting.
const THREADS: u8 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Main {
    /// Main waits for `stop`, and ends when `stop` fires.
    Listens,
    /// Main has looked at its `stop` once, and goes on after `stop` has fired.
    Lingers,
    /// Main never looks at its `stop`.
    Deaf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Start,
    Main,
    LameDuck,
    /// Main is still running after `stop` has fired.
    Stopping,
    Drain,
    Save,
    Drop,
    Finally,
    Gone,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Main | Self::Stopping => "main",
            Self::LameDuck => "lame-duck",
            Self::Drain => "drain",
            Self::Save => "save",
            Self::Drop => "drop",
            Self::Finally => "finally",
            Self::Gone => "gone",
        }
    }
}

#[derive(Clone, Debug)]
struct Case {
    start_listens: bool,
    main: Main,
    lame_duck: bool,
    /// Whether the runner is set to force the end at the second signal.
    force: bool,
    /// The number of signals that the server gets in each phase.
    signals: [u8; 9],
    /// A bit for each signal in the order of sending. A set bit means SIGINT, and a clear bit SIGTERM.
    interrupts: u8,
}

fn case() -> impl Strategy<Value = Case> {
    let main = prop_oneof![Just(Main::Listens), Just(Main::Lingers), Just(Main::Deaf)];
    let signals = prop::array::uniform9(prop_oneof![5 => Just(0), 3 => Just(1), 1 => Just(2_u8)]);
    let case = (
        any::<bool>(),
        main,
        any::<bool>(),
        any::<bool>(),
        signals,
        any::<u8>(),
    );
    case.prop_map(
        |(start_listens, main, lame_duck, force, signals, interrupts)| Case {
            start_listens,
            main,
            lame_duck,
            force,
            signals,
            interrupts,
        },
    )
}

/// The model of the runner: its state so far, the lines that the process must print, and its exit code.
struct Model<'a> {
    case: &'a Case,
    phase: Phase,
    signals: u8,
    asked: bool,
    hurried: bool,
    interrupted: bool,
    clean: bool,
    exit: Option<i32>,
    /// The lines that the server must have written.
    says: Vec<&'static str>,
    /// The lines that the server must not write.
    never: Vec<&'static str>,
}

impl<'a> Model<'a> {
    fn new(case: &'a Case) -> Self {
        Self {
            case,
            phase: Phase::Start,
            signals: 0,
            asked: false,
            hurried: false,
            interrupted: false,
            clean: true,
            exit: None,
            says: Vec::new(),
            never: Vec::new(),
        }
    }

    /// Returns whether the test can end the current phase. A lame duck ends only by a signal.
    fn can_end(&self) -> bool {
        self.phase != Phase::LameDuck
    }

    /// Models the end of the current phase, when the test lets it end.
    fn end_phase(&mut self) {
        match self.phase {
            // If `stop` fired during the start, the runner does not run main.
            Phase::Start if self.asked => self.enter_drain(),
            Phase::Start => self.phase = Phase::Main,
            Phase::Main => {
                self.says.push("main done");
                // Once main has ended by itself, there is no lame duck.
                self.enter_drain();
            }
            Phase::Stopping => {
                self.says.push("main done");
                self.enter_drain();
            }
            Phase::Drain => {
                self.says.push("drain done");
                self.phase = Phase::Save;
            }
            Phase::Save => {
                self.says.push("save done");
                self.phase = Phase::Drop;
            }
            Phase::Drop => self.phase = Phase::Finally,
            Phase::Finally => {
                self.says.push(if self.clean {
                    "report: true"
                } else {
                    "report: false"
                });
                self.phase = Phase::Gone;
            }
            Phase::Gone => self.exit = Some(i32::from(!self.clean)),
            Phase::LameDuck => unreachable!("its minimum is longer than a test"),
        }
    }

    fn enter_drain(&mut self) {
        self.phase = Phase::Drain;
        if self.hurried {
            self.cut();
        }
    }

    fn enter_stopping(&mut self) {
        match self.case.main {
            Main::Listens => {
                self.says.push("main done");
                self.enter_drain();
            }
            Main::Deaf => {
                self.clean = false;
                self.never.push("main done");
                self.enter_drain();
            }
            Main::Lingers => {
                self.phase = Phase::Stopping;
                if self.hurried {
                    self.cut();
                }
            }
        }
    }

    /// Models the cut of the current phase, by a hurry or by a signal during a start or a lame duck.
    fn cut(&mut self) {
        match self.phase {
            // The start has built no server, so the runner has no plan to run.
            Phase::Start => {
                self.clean = false;
                self.never.push("phase drain");
                self.phase = Phase::Finally;
            }
            Phase::LameDuck => self.enter_stopping(),
            Phase::Stopping => {
                self.clean = false;
                self.never.push("main done");
                self.enter_drain();
            }
            Phase::Drain => {
                self.says.push("drain aborted");
                self.never.push("drain done");
                self.phase = Phase::Save;
            }
            Phase::Main | Phase::Save | Phase::Drop | Phase::Finally | Phase::Gone => {}
        }
    }

    /// Models the receipt of a signal by the runner.
    fn receive(&mut self, signal: Signal) {
        self.signals += 1;
        if self.phase == Phase::Gone {
            return self.force(signal);
        }
        match self.signals {
            1 => {
                self.interrupted = signal == Signal::INT;
                self.asked = true;
                match self.phase {
                    Phase::Start if self.case.start_listens => self.enter_drain(),
                    Phase::Main if self.case.lame_duck && !self.interrupted => {
                        self.phase = Phase::LameDuck;
                    }
                    Phase::Main => self.enter_stopping(),
                    _ => {}
                }
            }
            _ if self.case.force => match self.phase {
                Phase::Start | Phase::LameDuck => self.cut(),
                _ => self.force(signal),
            },
            2 => {
                self.hurried = true;
                self.cut();
            }
            _ => self.force(signal),
        }
    }

    fn force(&mut self, signal: Signal) {
        match self.phase {
            Phase::Drain => self.says.push("drain aborted"),
            Phase::Save => {
                self.says.push("save aborted");
                self.never.push("save done");
            }
            _ => {}
        }
        self.exit = Some(128 + signal.as_raw());
    }
}

/// Runs a case on a real process and on the model, and asserts that the process behaves like the model.
fn check(case: &Case) {
    let mut arguments = Vec::new();
    let mut may = |has: bool, what| {
        if has {
            arguments.push(what);
        }
    };
    may(case.start_listens, "start-listens");
    may(case.main == Main::Listens, "main-listens");
    may(case.main == Main::Lingers, "main-lingers");
    may(case.lame_duck, "lame-duck");
    may(case.force, "force");
    let mut server = Process::start(env!("CARGO_BIN_EXE_held_phases"), &arguments);
    let mut model = Model::new(case);
    let mut entered = Vec::new();
    while model.exit.is_none() {
        let phase = model.phase;
        // The server prints the beginning of the phase `main` once, also if main goes on after `stop`.
        if !entered.contains(&phase.name()) {
            server.wait_for(&format!("phase {}", phase.name()));
            entered.push(phase.name());
        }
        let mut signals = case.signals[phase as usize];
        if !model.can_end() {
            signals = signals.max(1);
        }
        for _ in 0..signals {
            let signal = match case.interrupts >> (model.signals % 8) & 1 {
                1 => Signal::INT,
                _ => Signal::TERM,
            };
            server.signal(signal);
            model.receive(signal);
            if model.exit.is_none() {
                server.no_longer_a_repeat();
            }
            if model.exit.is_some() || model.phase != phase {
                break;
            }
        }
        if model.exit.is_none() && model.phase == phase && model.can_end() {
            server.tell(phase.name());
            model.end_phase();
        }
    }
    let ended = server.end();
    assert_eq!(ended.code, model.exit, "{case:?}: {ended:#?}");
    for line in &model.says {
        let times = ended.lines.iter().filter(|said| said == line).count();
        assert_eq!(times, 1, "`{line}`, {case:?}: {ended:#?}");
    }
    for line in &model.never {
        assert!(!ended.says(&[line]), "`{line}`, {case:?}: {ended:#?}");
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_process_behaves_like_the_model() {
    let seed = setting("LIFECYCLE_SEQUENCE_SEED").unwrap_or(1);
    let cases = setting("LIFECYCLE_SEQUENCE_CASES").and_then(|all| u32::try_from(all).ok());
    let cases = cases.map_or(CASES, |all| all.div_ceil(u32::from(THREADS)));
    println!("LIFECYCLE_SEQUENCE_SEED={seed}, {cases} cases on each of {THREADS} threads");
    thread::scope(|scope| {
        for number in 0..THREADS {
            scope.spawn(move || {
                let mut bytes = [number; 32];
                bytes[..8].copy_from_slice(&seed.to_le_bytes());
                let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
                let config = Config {
                    cases,
                    max_shrink_iters: 0,
                    failure_persistence: None,
                    ..Config::default()
                };
                let mut runner = TestRunner::new_with_rng(config, rng);
                let failed = runner.run(&case(), |case| {
                    let checked = std::panic::catch_unwind(|| check(&case));
                    checked.map_err(|_| TestCaseError::fail("see above"))
                });
                if let Err(TestError::Fail(_, case)) = failed {
                    panic!("seed {seed}: {case:#?}");
                }
            });
        }
    });
}
