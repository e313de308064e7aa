use tokio::time::advance;

use super::*;

/// A load that limits a single resource.
fn load_of(resource: Resource) -> Load {
    let mut bounds = [Bounds::NONE; Resource::ALL.len()];
    bounds[resource as usize] = Bounds { soft: 80, hard: 90 };
    Load::new(bounds, Box::new(Each::default))
}

fn used(resource: Resource, active: u64) -> Each<Used> {
    let mut used = Each::<Used>::default();
    used[resource as usize] = Used {
        active,
        peak: active,
    };
    used
}

#[test]
fn it_is_shed_from_the_hard_limit_until_below_the_soft_one() {
    for resource in Resource::ALL {
        let load = load_of(resource);
        for (active, stage, pressed) in [
            (79, Stage::Closed, false),
            (85, Stage::Closed, true),
            (90, Stage::Open, true),
            (85, Stage::Open, true),
            (79, Stage::HalfOpen, false),
            (85, Stage::HalfOpen, true),
            (79, Stage::Closed, false),
            (95, Stage::Open, true),
            (10, Stage::HalfOpen, false),
            (95, Stage::Open, true),
        ] {
            load.observe(used(resource, active));
            assert_eq!(
                (load.stage(), load.is_pressed()),
                (stage, pressed),
                "{resource:?} {active}"
            );
        }
        assert_eq!(load.opened(), 3);
        let most = Used {
            active: 95,
            peak: 95,
        };
        assert_eq!(load.used(resource), most);
    }
}

#[test]
fn each_resource_has_its_own_limit() {
    for resource in Resource::ALL {
        let load = load_of(resource);
        for other in Resource::ALL.into_iter().filter(|it| *it != resource) {
            load.observe(used(other, 1000));
            assert_eq!(load.stage(), Stage::Closed, "{resource:?} {other:?}");
        }
    }
}

#[test]
fn half_open_admits_some_and_counts_the_others() {
    let load = load_of(Resource::Sessions);
    load.observe(used(Resource::Sessions, 90));
    assert!(!load.admits());
    load.observe(used(Resource::Sessions, 0));
    let admitted = (0..8).filter(|_| load.admits()).count();
    assert_eq!((admitted, load.shed()), (2, 7));
    load.observe(used(Resource::Sessions, 0));
    assert!((0..8).all(|_| load.admits()));
}

#[test]
fn a_peak_between_two_measurements_is_reported_by_the_part_that_counts() {
    let load = load_of(Resource::Connections);
    let mut now = used(Resource::Connections, 3);
    now[Resource::Connections as usize].peak = 70;
    load.observe(now);
    load.observe(used(Resource::Connections, 4));
    let used = Used {
        active: 4,
        peak: 70,
    };
    assert_eq!(load.used(Resource::Connections), used);
    assert_eq!(load.stage(), Stage::Closed, "it is over");
}

#[test]
fn asking_for_the_usage_measures_and_decides_nothing() {
    let mut load = load_of(Resource::Sessions);
    load.measure = Box::new(|| used(Resource::Sessions, 95));
    let now = load.usage()[Resource::Sessions as usize];
    assert_eq!((now.active, now.peak), (95, 95));
    assert_eq!(load.stage(), Stage::Closed);
    load.measure = Box::new(Each::default);
    let now = load.usage()[Resource::Sessions as usize];
    assert_eq!((now.active, now.peak), (0, 95));
}

#[tokio::test(start_paused = true)]
async fn it_measures_four_times_a_second_and_closes_after_two_good_measurements() {
    let active = Arc::new(AtomicU64::new(0));
    let now = active.clone();
    let mut load = load_of(Resource::Connections);
    load.measure = Box::new(move || used(Resource::Connections, now.load(Ordering::Relaxed)));
    let load = Arc::new(load);
    let watching = tokio::spawn(load.clone().watch());
    advance(INTERVAL).await;
    for (connections, stage) in [
        (89, Stage::Closed),
        (90, Stage::Open),
        (80, Stage::Open),
        (79, Stage::HalfOpen),
        (79, Stage::Closed),
    ] {
        active.store(connections, Ordering::Relaxed);
        let before = load.stage();
        advance(INTERVAL / 2).await;
        assert_eq!(load.stage(), before, "not yet");
        advance(INTERVAL / 2).await;
        tokio::task::yield_now().await;
        assert_eq!(load.stage(), stage, "{connections}");
    }
    watching.abort();
}

#[tokio::test]
async fn a_measurement_has_files_memory_tasks_and_the_numbers_of_other_parts() {
    let two = Used { active: 2, peak: 9 };
    let counted = Counted {
        runtimes: vec![tokio::runtime::Handle::current()],
        connections: Box::new(move || two),
        sessions: Box::new(Used::default),
    };
    let look = || measure(&counted);
    let before = look();
    assert!(before[0].active >= 3, "{before:?}");
    assert!(before[1].active > 1 << 16, "{before:?}");
    assert_eq!((before[3], before[4]), (two, Used::default()));
    let files: Vec<_> = (0..20).map(|_| std::fs::File::open("/dev/null")).collect();
    let task = tokio::spawn(std::future::pending::<()>());
    let after = look();
    assert!(after[0].active >= 23, "{after:?}");
    assert!(after[2].active > before[2].active, "{before:?} {after:?}");
    drop(files);
    task.abort();
}
