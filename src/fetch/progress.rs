//! Several downloads as one progress: bytes, rate, time left.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use super::manifest::Part;
use crate::{
    mutex::Mutex,
    progress::{Phase, RuntimeProgress, Sink, Throttle},
};

/// The rate is that of the last few seconds: long enough to be calm, short enough to notice a stall.
const WINDOW: Duration = Duration::from_secs(5);

/// Where all downloads of one call report to.
pub struct Meter {
    throttle: Throttle<RuntimeProgress>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    downloads: Vec<Download>,
    /// Percent never goes back, though a total may grow when the last server has said how long its file is.
    percent: f64,
    /// When, and how many bytes had come over the network by then.
    samples: VecDeque<(Instant, u64)>,
    /// Over the network, in this call.
    received: u64,
}

struct Download {
    part: Part,
    version: String,
    total: Option<u64>,
    done: u64,
}

/// One download's share.
#[derive(Clone)]
pub struct Share {
    meter: Arc<Meter>,
    index: usize,
}

impl Meter {
    pub fn new(sink: Sink<RuntimeProgress>) -> Arc<Self> {
        Arc::new(Self { throttle: Throttle::new(sink), state: Mutex::default() })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock()
    }

    pub fn say(&self, phase: Phase, part: Option<Part>, message: impl Into<String>) {
        let mut event = RuntimeProgress::new(phase, message);
        event.component = part.map(Part::component);
        self.throttle.always(event);
    }

    /// `done` bytes of a copy on this computer are there.
    pub fn copied(&self, message: &str, done: u64, total: u64) {
        self.throttle.offer(|| RuntimeProgress {
            percent: (total > 0).then(|| done as f64 * 100.0 / total as f64),
            transferred: Some(done),
            total: Some(total),
            ..RuntimeProgress::new(Phase::Extract, message)
        });
    }

    /// A share before the first byte of any: the total then counts all of them from the start.
    pub fn share(self: &Arc<Self>, part: Part, version: &str, total: Option<u64>) -> Share {
        let mut state = self.state();
        state.downloads.push(Download { part, version: version.to_owned(), total, done: 0 });
        Share { meter: self.clone(), index: state.downloads.len() - 1 }
    }

    fn event(&self) -> RuntimeProgress {
        let now = Instant::now();
        let mut state = self.state();
        let received = state.received;
        while state.samples.len() > 1 && now.duration_since(state.samples[0].0) > WINDOW {
            state.samples.pop_front();
        }
        state.samples.push_back((now, received));
        let (first, before) = state.samples[0];
        let elapsed = now.duration_since(first).as_secs_f64();
        // Less than this says more about buffers than about the network.
        let rate = (elapsed > 0.2).then(|| (received - before) as f64 / elapsed);
        let done = state.downloads.iter().map(|d| d.done).sum::<u64>();
        let total = state.downloads.iter().map(|d| d.total).sum::<Option<u64>>().map(|t| t.max(done));
        if let Some(total) = total.filter(|t| *t > 0) {
            state.percent = state.percent.max(done as f64 * 100.0 / total as f64);
        }
        let under_way = state.downloads.iter().filter(|d| d.total.is_none_or(|t| d.done < t)).collect::<Vec<_>>();
        let shown = if under_way.is_empty() { state.downloads.iter().collect() } else { under_way };
        let names = shown.iter().map(|d| format!("{} {}", d.part.title(), d.version)).collect::<Vec<_>>().join(", ");
        let component = if let [one] = shown[..] { Some(one.part.component()) } else { None };
        let message = match total {
            Some(total) => format!("Downloading {names}: {} of {}", bytes(done), bytes(total)),
            None => format!("Downloading {names}: {}", bytes(done)),
        };
        RuntimeProgress {
            component,
            percent: total.map(|_| state.percent),
            transferred: Some(done),
            total,
            bytes_per_second: rate,
            eta_seconds: rate.zip(total).filter(|(r, _)| *r > 0.0).map(|(r, t)| (t - done) as f64 / r),
            ..RuntimeProgress::new(Phase::Download, message)
        }
    }
}

impl Share {
    pub fn part(&self) -> Part {
        self.meter.state().downloads[self.index].part
    }

    pub fn say(&self, phase: Phase, message: impl Into<String>) {
        self.meter.say(phase, Some(self.part()), message);
    }

    /// The server, or the cache, says how long the whole is.
    pub fn total(&self, total: u64) {
        self.meter.state().downloads[self.index].total = Some(total);
    }

    /// Bytes that the other downloads still have to bring, as far as is known: they go to the same disk.
    pub fn others_lack(&self) -> u64 {
        let state = self.meter.state();
        let others = state.downloads.iter().enumerate().filter(|(i, _)| *i != self.index);
        others.map(|(_, d)| d.total.unwrap_or(0).saturating_sub(d.done)).sum()
    }

    /// `done` bytes of this download are there.
    pub fn at(&self, done: u64) {
        self.meter.state().downloads[self.index].done = done;
        self.meter.throttle.offer(|| self.meter.event());
    }

    /// `bytes` more came over the network.
    pub fn received(&self, bytes: u64) {
        {
            let mut state = self.meter.state();
            state.received += bytes;
            state.downloads[self.index].done += bytes;
        }
        self.meter.throttle.offer(|| self.meter.event());
    }

    /// The last event of a download always arrives.
    pub fn finished(&self, length: u64) {
        {
            let mut state = self.meter.state();
            let download = &mut state.downloads[self.index];
            (download.done, download.total) = (length, Some(length));
        }
        self.meter.throttle.always(self.meter.event());
    }
}

/// As a person reads it, in decimal units, as download pages and disks have them.
fn bytes(n: u64) -> String {
    if n < 1_000_000 { format!("{} kB", n.div_ceil(1000)) } else { format!("{:.1} MB", n as f64 / 1e6) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded() -> (Arc<Meter>, Arc<Mutex<Vec<RuntimeProgress>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = seen.clone();
        (Meter::new(Arc::new(move |e| into.lock().push(e))), seen)
    }

    #[test]
    fn several_downloads_make_one_figure_that_never_goes_back() {
        let (meter, seen) = recorded();
        let a = meter.share(Part::Lima, "1.2.1", Some(100));
        let b = meter.share(Part::Image, "24.04", None);
        a.received(50);
        assert_eq!(meter.event().percent, None, "one length is not known");
        assert_eq!(meter.event().total, None);
        b.total(100);
        assert_eq!(meter.event().percent, Some(25.0));
        b.received(100);
        assert_eq!(meter.event().percent, Some(75.0));
        // The server changed its file: that download starts again.
        b.at(0);
        assert_eq!(meter.event().percent, Some(75.0));
        assert_eq!(meter.event().transferred, Some(50));
        b.finished(100);
        a.finished(100);
        let last = seen.lock().last().cloned().unwrap();
        assert_eq!((last.percent, last.transferred, last.total), (Some(100.0), Some(200), Some(200)));
        assert!(last.message.contains("Lima 1.2.1"), "{}", last.message);
    }

    #[test]
    fn the_disk_is_shared_with_the_other_downloads() {
        let (meter, _) = recorded();
        let [a, b, c] = [Some(100), Some(1000), None].map(|total| meter.share(Part::Image, "1", total));
        assert_eq!((a.others_lack(), b.others_lack(), c.others_lack()), (1000, 100, 1100));
        b.received(400);
        c.total(50);
        assert_eq!(a.others_lack(), 650);
        c.at(60);
        assert_eq!(a.others_lack(), 600, "longer than it said");
    }

    #[test]
    fn what_the_cache_had_is_no_speed() {
        let (meter, _) = recorded();
        let a = meter.share(Part::Lima, "1", Some(1000));
        a.at(900);
        assert_eq!(meter.state().received, 0);
        assert_eq!(meter.event().percent, Some(90.0));
    }
}
