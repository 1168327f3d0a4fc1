//! Every parser of untrusted input (from an engine, a guest, a registry, a mirror or a file), as a function of bytes. It
//! must end without a panic and keep its own invariants. `fuzz/` runs the same functions under libFuzzer.

use std::borrow::Cow;

use crate::{
    engine::fuzzing as engine,
    fetch::{
        bundle,
        manifest::{Manifest, Mirror},
        retry, unpack,
    },
    guest::{ssh, wsl},
};
#[cfg(unix)]
use crate::{
    lima::{instance, limactl, progress::StartProgress, template},
    manager::lima::{diagnose::scrub::Scrubber, ports},
};

type Target = fn(&[u8]);

/// By name.
pub const TARGETS: &[(&str, Target)] = &[
    ("docker-json", engine::docker::json),
    ("docker-lines", engine::docker::lines),
    ("docker-frames", engine::docker::frames),
    ("docker-http", engine::docker::http),
    ("docker-refusal", engine::docker::refusal),
    ("docker-endpoint", endpoint),
    ("nerdctl", engine::containerd::nerdctl),
    ("containerd", engine::containerd::containerd),
    ("nerdctl-log", engine::containerd::log_file),
    ("references", engine::references),
    ("build", engine::build),
    ("times", engine::times),
    ("config-json", engine::config_json),
    ("manifest", manifest),
    ("download", download),
    ("unpack", unpack::fuzz),
    ("bundle", bundle::fuzz),
    ("wsl", wsl),
    ("ssh", ssh::fuzz),
    #[cfg(unix)]
    ("limactl", limactl),
    #[cfg(unix)]
    ("scrub", scrub),
];

fn text(data: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(data)
}

fn endpoint(data: &[u8]) {
    engine::docker::endpoint(&text(data));
    engine::docker::context(data);
}

fn manifest(data: &[u8]) {
    let text = text(data);
    let _ = Manifest::parse(&text, "fuzz");
    let _ = Mirror::parse(&text);
}

/// The head of an HTTP answer: the status, then header values, one a line.
fn download(data: &[u8]) {
    let text = text(data);
    let mut lines = text.lines();
    let mut number = || lines.next().and_then(|l| l.parse::<u64>().ok());
    let (status, from, content_length) = (number().unwrap_or(206), number().unwrap_or(1), number());
    let content_range = lines.next();
    let retry_after = lines.next().and_then(|l| retry::retry_after(l, std::time::UNIX_EPOCH));
    let status = u16::try_from(status).unwrap_or(206);
    let head = retry::Head { status, content_length, content_range, retry_after };
    if let retry::Answer::Continue { total: Some(total) } = retry::answer(head, from) {
        assert!(total > from);
    }
}

fn wsl(data: &[u8]) {
    wsl::fuzz(data);
    let said = wsl::text::decode(data);
    wsl::text::names(&said);
    wsl::text::fault(&said);
}

#[cfg(unix)]
fn limactl(data: &[u8]) {
    let text = text(data);
    let mut progress = StartProgress::default();
    for line in text.lines() {
        let line = limactl::Line::parse(line);
        limactl::Failure::of(line.text());
        if let Some(percent) = progress.of(&line).and_then(|p| p.percent) {
            assert!((0.0..=100.0).contains(&percent), "{percent}");
        }
    }
    instance::fuzz(&text);
    template::fuzz(&text);
    ports::fuzz(&text);
}

#[cfg(unix)]
fn scrub(data: &[u8]) {
    const SECRET: &str = "Tr0ub4dor3Xyz";
    let text = text(data);
    // libFuzzer copies compared strings into its input, where nothing marks the secret as one.
    if !text.contains(SECRET) {
        let clean = Scrubber::default().scrub(&format!("{text}\npassword: {SECRET}\n"));
        assert!(!clean.contains(SECRET));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        path::Path,
    };

    use super::*;

    /// Values that often break parsers.
    const WORDS: [&str; 16] = [
        "18446744073709551615",
        "9223372036854775807",
        "-9223372036854775808",
        "4294967296",
        "-1",
        "0",
        "1e308",
        "null",
        "\"\"",
        "[]",
        "{}",
        "\n",
        "\0",
        "\u{fffd}",
        "9999-12-31T23:59:59.999999999+99:99",
        "\\ud800",
    ];

    /// xorshift*: the same inputs for the same seed, everywhere.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, n: usize) -> usize {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % n.max(1)
        }

        fn mutate(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
            let mut data = seeds[self.below(seeds.len())].clone();
            for _ in 0..=self.below(4) {
                let at = self.below(data.len() + 1);
                let end = (at + 1 + self.below(16)).min(data.len());
                match self.below(6) {
                    0 if at < data.len() => data[at] ^= 1 << self.below(8),
                    1 if at < end => drop(data.drain(at..end)),
                    2 => drop(data.splice(at..at, WORDS[self.below(WORDS.len())].bytes())),
                    3 => {
                        // Replaces a number or word by another.
                        let word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
                        let from = at + data[at..].iter().position(word).unwrap_or(0);
                        let to = from + data[from..].iter().position(|b| !word(b)).unwrap_or(data.len() - from);
                        drop(data.splice(from..to, WORDS[self.below(WORDS.len())].bytes()));
                    }
                    4 => {
                        let other = &seeds[self.below(seeds.len())];
                        let from = self.below(other.len() + 1);
                        drop(data.splice(at..at, other[from..].iter().take(64).copied()));
                    }
                    _ => drop(data.splice(at..at, data[at..end].to_vec())),
                }
            }
            data.truncate(1 << 14);
            data
        }
    }

    fn seeds(name: &str) -> Vec<Vec<u8>> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
        let mut files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|f| f.unwrap().path()).collect();
        files.sort();
        files.iter().map(|file| std::fs::read(file).unwrap()).collect()
    }

    /// A short run without libFuzzer; `npm run fuzz` runs longer, guided by coverage.
    #[test]
    fn no_input_ends_a_parser_or_breaks_its_word() {
        let given = |name: &str| std::env::var(name).ok().and_then(|v| v.parse().ok());
        let rounds = if given("LIMA_RUNTIME_TEST_STRESS") == Some(1) { 100_000 } else { 1_000 };
        let seed = given("LIMA_RUNTIME_TEST_SEED").unwrap_or(0x5eed);
        let mut failed = Vec::new();
        for (name, target) in TARGETS {
            let seeds = seeds(name);
            assert!(!seeds.is_empty(), "{name}");
            let mut dice = Dice(seed.max(1));
            let mutated = std::iter::repeat_with(|| dice.mutate(&seeds)).take(rounds);
            for data in seeds.clone().into_iter().chain([Vec::new()]).chain(mutated) {
                if catch_unwind(AssertUnwindSafe(|| target(&data))).is_err() {
                    failed.push(format!("{name}: {:?}", String::from_utf8_lossy(&data)));
                    break;
                }
            }
        }
        assert!(failed.is_empty(), "seed {seed}:\n{}", failed.join("\n"));
    }
}
