//! Counters of requests. Each thread counts for itself, because threads that write to the same cache line slow each
//! other down.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::StatusCode;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use thread_local::ThreadLocal;

/// The upper bounds of the buckets of request durations. A last bucket has no bound.
const BOUNDS: [Duration; 10] = [
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(10),
    Duration::from_secs(60),
];

/// The number of buckets of request durations.
const BUCKETS: usize = BOUNDS.len() + 1;

/// The counters of all threads.
#[derive(Debug, Default)]
pub(super) struct Traffic(ThreadLocal<Counters>);

/// The counters of one thread. Aligned, so that no two threads write to the same cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counters {
    began: Counter,
    ended: Counter,
    aborted: Counter,
    /// The numbers of responses, by the first digit of their status.
    responses: [Counter; 5],
    response_bytes: Counter,
    /// The numbers of durations, by their bucket.
    buckets: [Counter; BUCKETS],
    nanoseconds: Counter,
}

/// A counter that only one thread changes.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    fn add(&self, count: u64) {
        let sum = self.0.load(Ordering::Relaxed).wrapping_add(count);
        // Release, so that a thread that reads this sees what was counted before it: the beginning of a request whose
        // end is counted here.
        self.0.store(sum, Ordering::Release);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// The sums of all threads' counters.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) began: u64,
    pub(super) unfinished: u64,
    pub(super) aborted: u64,
    pub(super) responses: [u64; 5],
    pub(super) response_bytes: u64,
    pub(super) durations: Durations,
}

/// The durations of requests, as a histogram in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Durations {
    buckets: [u64; BUCKETS],
    sum: Duration,
}

impl Traffic {
    /// Counts a request when its head has arrived.
    pub(super) fn began(&self) {
        self.0.get_or_default().began.add(1);
    }

    /// Counts a request when its response was sent completely or was given up.
    pub(super) fn ended(
        &self,
        status: Option<StatusCode>,
        bytes: u64,
        complete: bool,
        duration: Duration,
    ) {
        let counters = self.0.get_or_default();
        counters.response_bytes.add(bytes);
        if !complete {
            counters.aborted.add(1);
        }
        let class = status.map(|status| usize::from(status.as_u16() / 100));
        if let Some(count) = class.and_then(|class| counters.responses.get(class - 1)) {
            count.add(1);
        }
        let bucket = BOUNDS.iter().position(|bound| duration <= *bound);
        counters.buckets[bucket.unwrap_or(BOUNDS.len())].add(1);
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        counters.nanoseconds.add(nanoseconds);
        counters.ended.add(1);
    }

    /// Returns the sums. They are read one after the other, so a part can be larger than its total, if it was counted in
    /// between.
    pub(super) fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        // The ends are read before the beginnings, so that no request is seen to have ended but not to have begun.
        let ended: u64 = self.0.iter().map(|counters| counters.ended.get()).sum();
        for counters in &self.0 {
            sums.began += counters.began.get();
            sums.aborted += counters.aborted.get();
            add(&mut sums.responses, &counters.responses);
            sums.response_bytes += counters.response_bytes.get();
            add(&mut sums.durations.buckets, &counters.buckets);
            sums.durations.sum += Duration::from_nanos(counters.nanoseconds.get());
        }
        sums.unfinished = sums.began.saturating_sub(ended);
        sums
    }
}

fn add<const N: usize>(sums: &mut [u64; N], counters: &[Counter; N]) {
    for (sum, counter) in sums.iter_mut().zip(counters) {
        *sum += counter.get();
    }
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> std::fmt::Result {
        let bounds = BOUNDS.iter().map(Duration::as_secs_f64).chain([f64::MAX]);
        let buckets: Vec<_> = bounds.zip(self.buckets).collect();
        let count = self.buckets.iter().sum();
        encoder.encode_histogram::<NoLabelSet>(self.sum.as_secs_f64(), count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::AtomicBool;
    use std::thread::scope;

    use super::*;

    #[test]
    fn a_request_may_begin_on_one_thread_and_end_on_another() {
        let traffic = &Traffic::default();
        scope(|threads| {
            threads.spawn(|| (0..3).for_each(|_| traffic.began()));
        });
        assert_eq!((traffic.sums().began, traffic.sums().unfinished), (3, 3));
        scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| traffic.ended(Some(StatusCode::OK), 5, true, Duration::ZERO));
            }
        });
        let sums = traffic.sums();
        assert_eq!((sums.began, sums.unfinished), (3, 1));
        assert_eq!((sums.responses[1], sums.response_bytes), (2, 10));
    }

    #[test]
    fn requests_in_flight_are_not_missed_while_others_come_and_go() {
        let (traffic, ready, stop) = (
            &Traffic::default(),
            &Barrier::new(3),
            &AtomicBool::new(false),
        );
        let end = || traffic.ended(None, 0, false, Duration::ZERO);
        scope(|threads| {
            for _ in 0..2 {
                threads.spawn(move || {
                    traffic.began();
                    ready.wait();
                    while !stop.load(Ordering::Relaxed) {
                        traffic.began();
                        end();
                    }
                    end();
                });
            }
            ready.wait();
            let least = (0..20_000).map(|_| traffic.sums().unfinished).min();
            stop.store(true, Ordering::Relaxed);
            assert!(least >= Some(2), "{least:?}");
        });
        let sums = traffic.sums();
        assert_eq!((sums.unfinished, sums.aborted), (0, sums.began));
    }

    #[test]
    fn a_duration_belongs_to_the_first_bucket_that_is_not_below_it() {
        let traffic = Traffic::default();
        let nanosecond = Duration::from_nanos(1);
        for bound in BOUNDS {
            traffic.ended(None, 0, true, bound);
            traffic.ended(None, 0, true, bound + nanosecond);
        }
        let durations = traffic.sums().durations;
        assert_eq!(durations.buckets, [1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1]);
        assert_eq!(
            durations.sum,
            2 * BOUNDS.iter().sum::<Duration>() + 10 * nanosecond
        );
    }
}
