//! Tests the engine against a reference model, which is slow and simple. In each random case the engine and the
//! reference model shut down the same server, and the results must be equal.
//!
//! `LIFECYCLE_MODEL_CASES` sets the number of random cases, and `LIFECYCLE_MODEL_SEED` sets the seed from which they
//! are made.

mod describe;
mod hostile;
mod real;
mod reference;

use std::collections::BTreeMap;
use std::env;
use std::sync::Once;
use std::time::Duration;

use lifecycle_runtime::testing::Interrupt;
use lifecycle_runtime::{GracefulShutdown, Outcome, Report, Step};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tokio::runtime::Builder;
use tokio::time::{Instant, advance, sleep_until};

use self::describe::{Case, Edit, Interruption, Node, Shape};
use self::real::{Chained, Diamond, Log, Mixed, Real, Times, UNIT};
use self::reference::{Reference, Verdict};

fn setting(name: &str, otherwise: u64) -> u64 {
    env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// Keeps panics from being printed, since the cases cause many panics on purpose.
fn silence() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if env::var_os("LIFECYCLE_MODEL_PANICS").is_none() {
            std::panic::set_hook(Box::new(|_| {}));
        }
    });
}

#[test]
fn the_engine_does_what_the_reference_says() {
    silence();
    let cases = setting("LIFECYCLE_MODEL_CASES", 300);
    let seed = setting("LIFECYCLE_MODEL_SEED", 1);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = describe::case();
    let mut unclear = 0;
    for number in 0..cases {
        let mut tree = strategy.new_tree(&mut runner).expect("a case");
        match try_case(&tree.current()) {
            Ok(true) => continue,
            Ok(false) => {
                unclear += 1;
                continue;
            }
            Err(_) => {}
        }
        // Reduces the case to a simpler one as long as the case still fails.
        for _ in 0..4_000 {
            let smaller = try_case(&tree.current()).is_err();
            if !(if smaller {
                tree.simplify()
            } else {
                tree.complicate()
            }) {
                break;
            }
        }
        while try_case(&tree.current()).is_ok() && tree.complicate() {}
        let wrong = try_case(&tree.current()).err().unwrap_or_default();
        let _ = std::panic::take_hook();
        panic!(
            "case {number} of seed {seed}:\n{:#?}\n{wrong}",
            tree.current()
        );
    }
    println!("seed {seed}: {cases} cases, of which {unclear} were too close to call");
    assert!(unclear * 3 < cases.max(30), "too many cases were no use");
}

/// Runs a case on the engine and on the reference model. Returns whether the results could be compared, or an error
/// that tells how the engine differs.
pub(crate) fn try_case(case: &Case) -> Result<bool, String> {
    let (mut reference, times) = Reference::new(case);
    let _log = case
        .hostile_log
        .then(|| tracing::subscriber::set_default(hostile::Hostile));
    let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match case.shape {
        Shape::Chain => drive(case, times, &mut reference, |fields| {
            Chained::new(fields, times)
        }),
        Shape::Diamond => drive(case, times, &mut reference, |fields| {
            Diamond::new(fields, times)
        }),
        Shape::Mixed => drive(case, times, &mut reference, |fields| {
            Mixed::new(fields, times)
        }),
    }));
    if reference.world.unclear {
        return Ok(false);
    }
    tried.unwrap_or_else(|_| Err("a panic left the library".into()))?;
    Ok(true)
}

/// The operations of a server that the test needs, for servers of every shape.
trait Server: GracefulShutdown {
    fn field(&mut self, i: usize) -> &mut Real;
    fn interrupt(&self) -> Option<Interrupt>;
}

macro_rules! server {
    ($($shape:ident)*) => {$(
        impl Server for $shape {
            fn field(&mut self, i: usize) -> &mut Real {
                $shape::field(self, i)
            }
            fn interrupt(&self) -> Option<Interrupt> {
                Interrupt::of(&self.state)
            }
        }
    )*};
}

server!(Chained Diamond Mixed);

fn drive<S: Server>(
    case: &Case,
    _: Times,
    reference: &mut Reference,
    build: impl FnOnce([Real; 4]) -> S,
) -> Result<(), String> {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .max_blocking_threads(1)
        .build()
        .expect("a runtime");
    let log = Log::default();
    let mut server = build(case.fields.each_ref().map(|node| Real::build(node, &log)));
    let report = runtime.block_on(async {
        let began = Instant::now();
        for (number, cut) in case.cuts.iter().enumerate() {
            let until = reference.world.now + UNIT * u32::try_from(cut.run).unwrap() + UNIT / 2;
            let ended = reference.run(Some(until));
            let report = tokio::select! {
                biased;
                report = server.shutdown() => Some(report),
                () = sleep_until(began + until) => None,
            };
            if reference.world.unclear {
                return None;
            }
            if ended || report.is_some() {
                if ended != report.is_some() {
                    return Some(Err(format!("it has ended: {ended}, says the reference")));
                }
                return report.map(Ok);
            }
            let gap = UNIT * u32::try_from(cut.gap).unwrap();
            advance(gap).await;
            reference.world.now += gap;
            let last = number + 1 == case.cuts.len() && !case.awaited;
            if let (Some((i, edit)), false) = (&cut.edit, last) {
                apply(edit, *i, &mut server, reference, &log);
            }
            match (cut.interrupt, server.interrupt()) {
                (Some(Interruption::Hurry), Some(interrupt)) => {
                    interrupt.hurry();
                    reference.world.hurried = true;
                }
                (Some(Interruption::Force), Some(interrupt)) => {
                    interrupt.force();
                    reference.world.forced = true;
                }
                (_, None) => return Some(Err("it has not begun".into())),
                (None, Some(_)) => {}
            }
        }
        if !case.awaited {
            return None;
        }
        reference.run(None);
        Some(Ok(server.shutdown().await))
    });
    if reference.world.unclear {
        return Ok(());
    }
    let report = report.transpose()?;
    match &report {
        Some(report) => {
            compare(report, reference)?;
            drop(server);
            reference.drop_rest();
        }
        None => {
            drop(server);
            reference.drop_unfinished();
        }
    }
    // Dropping the runtime waits until the calls on the blocking pool have returned.
    drop(runtime);
    let (library, model) = (log.all(), &reference.world.counts);
    if library != *model {
        let shown = report.map(|report| report.to_string()).unwrap_or_default();
        return Err(format!(
            "begins, ends, cuts, aborts, releases of each leaf\n  are       {library:?}\n  should be {model:?}\n{shown}"
        ));
    }
    Ok(())
}

fn apply<S: Server>(edit: &Edit, i: usize, server: &mut S, reference: &mut Reference, log: &Log) {
    if reference.has_ended(i) {
        return;
    }
    match (server.field(i), edit) {
        (Real::List(list), Edit::Remove(at)) if !list.is_empty() => {
            let at = at % list.len();
            drop(list.remove(at));
            reference.edit(i, |elements| elements.remove(at));
        }
        (Real::List(list), Edit::Reverse) => {
            list.reverse();
            reference.edit(i, |elements| elements.reverse());
        }
        (Real::List(list), Edit::Push(script)) => {
            list.push(Real::build(&Node::Leaf(*script), log));
            reference.edit(i, |elements| elements.push(*script));
        }
        (Real::Map(map), Edit::Remove(at)) if !map.is_empty() => {
            let at = at % map.len();
            let key = *map.keys().nth(at).expect("it is there");
            drop(map.remove(&key));
            reference.edit(i, |elements| elements.remove(at));
        }
        _ => {}
    }
}

fn compare(report: &Report, reference: &Reference) -> Result<(), String> {
    let mut seen: BTreeMap<String, Vec<&Step>> = BTreeMap::new();
    collect(report.steps(), "", &mut seen);
    for (path, expected) in reference.outcomes() {
        let steps = seen.get(&path).map(Vec::as_slice).unwrap_or_default();
        // The report may have several rows with this path, since it keeps rows of earlier runs. One of the rows must
        // have the expected outcome.
        if !steps
            .iter()
            .any(|step| outcome_is(step.outcome(), expected))
        {
            return Err(format!("{path} should be {expected:?}\n{report}"));
        }
    }
    if report.is_clean() != reference.is_clean() {
        let clean = reference.is_clean();
        return Err(format!("clean should be {clean}\n{report}"));
    }
    let (took, should) = (report.elapsed(), reference.world.now);
    if took.abs_diff(should) > Duration::from_millis(40) {
        return Err(format!("it took {took:?} instead of {should:?}\n{report}"));
    }
    // The other forms of the report must not panic either, whatever is in it.
    let _ = (report.to_mermaid(), serde_json::to_string(report));
    Ok(())
}

fn collect<'a>(steps: &'a [Step], above: &str, seen: &mut BTreeMap<String, Vec<&'a Step>>) {
    for step in steps {
        let path = match (above, step.name().starts_with('[')) {
            ("", _) => step.name().to_owned(),
            (above, true) => format!("{above}{}", step.name()),
            (above, false) => format!("{above}.{}", step.name()),
        };
        collect(step.steps(), &path, seen);
        seen.entry(path).or_default().push(step);
    }
}

fn outcome_is(outcome: &Outcome, expected: Verdict) -> bool {
    matches!(
        (outcome, expected),
        (Outcome::Done, Verdict::Done)
            | (Outcome::Failed(_), Verdict::Failed)
            | (Outcome::Panicked(_), Verdict::Panicked)
            | (Outcome::TimedOut { .. }, Verdict::TimedOut)
            | (Outcome::Aborted, Verdict::Aborted)
            | (Outcome::Skipped, Verdict::Skipped)
    )
}
