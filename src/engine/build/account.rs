//! A builder's account of its work. BuildKit tells it in one form, as protobuf to Docker's clients and as JSON by buildctl.
//! Whoever tells it is not believed: texts and numbers are bounded, and no secret of the call is passed on.

use std::collections::{HashMap, HashSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use super::Secrets;
use crate::progress::{BuildProgress, OutputStream, Sink, StepState, Throttle};

/// `moby.buildkit.v1.StatusResponse`, and `SolveStatus` of BuildKit's client.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(in crate::engine) struct Status {
    #[prost(message, repeated, tag = "1")]
    #[serde(deserialize_with = "or_none")]
    pub(super) vertexes: Vec<Vertex>,
    #[prost(message, repeated, tag = "2")]
    #[serde(deserialize_with = "or_none")]
    pub(super) statuses: Vec<Transfer>,
    #[prost(message, repeated, tag = "3")]
    #[serde(deserialize_with = "or_none")]
    pub(super) logs: Vec<Log>,
}

/// A step.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(super) struct Vertex {
    #[prost(string, tag = "1")]
    digest: String,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(bool, tag = "4")]
    cached: bool,
    /// Only whether there is a time counts.
    #[prost(bytes = "vec", optional, tag = "5")]
    #[serde(deserialize_with = "presence")]
    started: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "6")]
    #[serde(deserialize_with = "presence")]
    completed: Option<Vec<u8>>,
    #[prost(string, tag = "7")]
    error: String,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(super) struct Transfer {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    vertex: String,
    #[prost(int64, tag = "4")]
    current: i64,
    #[prost(int64, tag = "5")]
    total: i64,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
pub(super) struct Log {
    #[prost(string, tag = "1")]
    vertex: String,
    #[prost(int64, tag = "3")]
    stream: i64,
    #[prost(bytes = "vec", tag = "4")]
    #[serde(rename = "data", deserialize_with = "base64")]
    msg: Vec<u8>,
}

/// Go writes an empty list as `null`.
fn or_none<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

fn presence<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
    Ok(Option::<IgnoredAny>::deserialize(from)?.map(|_| Vec::new()))
}

fn base64<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = Option::<String>::deserialize(from)?.unwrap_or_default();
    STANDARD.decode(text).map_err(serde::de::Error::custom)
}

/// More than any build has.
const MOST_STEPS: usize = 4096;
const LONGEST_ID: usize = 256;
const LONGEST_NAME: usize = 1000;
/// Of the programs' output, for a whole build. BuildKit itself passes on 2 MiB of a step's.
const MOST_LOG: usize = 16 << 20;
/// What an event costs beside its text.
const EVENT: usize = 200;
/// The end of the output, for the error of a step that failed.
const LAST: usize = 4000;

pub(in crate::engine) struct Account {
    sink: Sink<BuildProgress>,
    throttle: Throttle<BuildProgress>,
    secrets: Secrets,
    steps: HashMap<String, Step>,
    /// Of transfers that are done.
    done: HashSet<(u32, String)>,
    left: usize,
    failed: Option<u32>,
}

struct Step {
    number: u32,
    name: String,
    state: Option<StepState>,
    /// What may be the beginning of a secret, by stream.
    held: [Vec<u8>; 2],
    last: String,
}

impl Account {
    pub(in crate::engine) fn new(sink: Sink<BuildProgress>, secrets: &Secrets) -> Self {
        Self {
            throttle: Throttle::new(sink.clone()),
            sink,
            secrets: secrets.clone(),
            steps: HashMap::new(),
            done: HashSet::new(),
            left: MOST_LOG,
            failed: None,
        }
    }

    pub(in crate::engine) fn take(&mut self, status: Status) {
        for vertex in &status.vertexes {
            self.vertex(vertex);
        }
        for transfer in status.statuses {
            self.transfer(&transfer);
        }
        for log in status.logs {
            let stream = if log.stream == 2 { OutputStream::Stderr } else { OutputStream::Stdout };
            self.log(&log.vertex, stream, &log.msg);
        }
    }

    /// The step of that id, and whether it is new; nothing beyond what a build can have.
    fn step(&mut self, id: &str) -> Option<&mut Step> {
        if id.len() > LONGEST_ID || self.steps.len() >= MOST_STEPS && !self.steps.contains_key(id) {
            return None;
        }
        let number = u32::try_from(self.steps.len()).unwrap_or(u32::MAX) + 1;
        Some(self.steps.entry(id.to_owned()).or_insert_with(|| Step {
            number,
            name: String::new(),
            state: None,
            held: Default::default(),
            last: String::new(),
        }))
    }

    fn vertex(&mut self, vertex: &Vertex) {
        let secrets = self.secrets.clone();
        let Some(step) = self.step(&vertex.digest) else { return };
        if step.name.is_empty() {
            step.name = line(&secrets.hide(&vertex.name));
        }
        let state = match vertex {
            Vertex { error, .. } if !error.is_empty() => StepState::Failed,
            Vertex { cached: true, .. } => StepState::Cached,
            Vertex { completed: Some(_), .. } => StepState::Done,
            Vertex { started: Some(_), .. } => StepState::Running,
            _ => return,
        };
        // It is told again and again, and what a step waited for fails with it.
        if step.state >= Some(state) {
            return;
        }
        step.state = Some(state);
        let (number, name) = (step.number, step.name.clone());
        if state != StepState::Running {
            self.flush(&vertex.digest);
        }
        // The others are ended when one has failed.
        if state == StepState::Failed && !vertex.error.contains("context canceled") {
            self.failed.get_or_insert(number);
        }
        self.throttle.always(BuildProgress::Step { step: number, name, state });
    }

    fn transfer(&mut self, told: &Transfer) {
        let secrets = self.secrets.clone();
        let Some(step) = self.step(&told.vertex) else { return };
        let step = step.number;
        let whole = |n: i64| u64::try_from(n).unwrap_or_default();
        let (current, total) = (whole(told.current), Some(whole(told.total)).filter(|total| *total > 0));
        // Actions like "resolve" have no bytes.
        if current == 0 && total.is_none() || told.id.len() > LONGEST_NAME {
            return;
        }
        let event = || BuildProgress::Bytes {
            step,
            name: line(&secrets.hide(&told.id)),
            current: total.map_or(current, |total| current.min(total)),
            total,
        };
        let is_whole = total.is_some_and(|total| current >= total);
        if !is_whole {
            self.throttle.offer(event);
        } else if self.done.len() < MOST_STEPS && self.done.insert((step, told.id.clone())) {
            self.throttle.always(event());
        }
    }

    /// What a step's programs print. A piece may end within a secret.
    pub(super) fn log(&mut self, id: &str, stream: OutputStream, data: &[u8]) {
        let secrets = self.secrets.clone();
        let Some(step) = self.step(id) else { return };
        let held = &mut step.held[stream as usize];
        held.extend_from_slice(data);
        let (text, taken) = secrets.without(held, false);
        held.drain(..taken);
        let number = step.number;
        self.say(number, id, stream, &text);
    }

    fn flush(&mut self, id: &str) {
        let secrets = self.secrets.clone();
        for stream in [OutputStream::Stdout, OutputStream::Stderr] {
            let Some(step) = self.steps.get_mut(id) else { return };
            let (number, held) = (step.number, std::mem::take(&mut step.held[stream as usize]));
            self.say(number, id, stream, &secrets.without(&held, true).0);
        }
    }

    fn say(&mut self, number: u32, id: &str, stream: OutputStream, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(text).into_owned();
        if let Some(step) = self.steps.get_mut(id) {
            step.last.push_str(&text);
            if step.last.len() > 4 * LAST {
                step.last = end(&step.last).to_owned();
            }
        }
        let Some(left) = self.left.checked_sub(text.len() + EVENT) else {
            if std::mem::take(&mut self.left) > 0 {
                let text = format!("\n[more than {MOST_LOG} bytes of output: the rest is left out]\n");
                (self.sink)(BuildProgress::Log { step: number, stream, text });
            }
            return;
        };
        self.left = left;
        (self.sink)(BuildProgress::Log { step: number, stream, text });
    }

    /// A piece of the classic builder's output, which says `Step 1/2 : FROM x` before what the step prints; podman's is in capitals.
    pub(in crate::engine) fn classic(&mut self, text: &str) {
        let name = text.strip_prefix("Step ").or_else(|| text.strip_prefix("STEP "));
        let name = name.filter(|name| name.starts_with(|c: char| c.is_ascii_digit()) && name.contains(": "));
        let current = self.steps.len().to_string();
        let Some(name) = name else { return self.log(&current, OutputStream::Stdout, text.as_bytes()) };
        let times = Some(Vec::new());
        if self.steps.contains_key(&current) {
            self.vertex(&Vertex { digest: current, completed: times.clone(), ..Vertex::default() });
        }
        let digest = (self.steps.len() + 1).to_string();
        self.vertex(&Vertex { digest, name: name.to_owned(), started: times, ..Vertex::default() });
    }

    /// The name of the step that failed, and the end of what it printed.
    pub(super) fn failed(&self) -> Option<(&str, &str)> {
        let step = self.steps.values().find(|step| Some(step.number) == self.failed)?;
        Some((&step.name, end(&step.last).trim_end()))
    }
}

/// The last lines.
fn end(text: &str) -> &str {
    let Some((cut, _)) = text.char_indices().rev().nth(LAST) else { return text };
    let text = &text[cut..];
    text.find('\n').map_or(text, |end| &text[end + 1..])
}

/// One line to show.
fn line(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_NAME).collect();
    if line.len() < text.len() {
        line.push('…');
    }
    line
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    use prost::Message;
    let secrets = Secrets::from_iter([("a".to_owned(), b"a secret".to_vec())]);
    let mut account = Account::new(
        std::sync::Arc::new(|event| {
            if let BuildProgress::Log { text, .. } | BuildProgress::Step { name: text, .. } = event {
                assert!(!text.contains("a secret"), "{text}");
            }
        }),
        &secrets,
    );
    account.take(Status::decode(data).unwrap_or_default());
    account.take(serde_json::from_slice(data).unwrap_or_default());
    for piece in data.chunks(7) {
        account.log("x", OutputStream::Stdout, piece);
    }
    account.flush("x");
    assert!(account.failed().is_none_or(|(name, _)| name.len() < 5000));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prost::Message;

    use super::*;
    use crate::mutex::Mutex;

    fn account(secrets: &[&str]) -> (Account, Arc<Mutex<Vec<BuildProgress>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let events = seen.clone();
        let secrets = secrets.iter().enumerate().map(|(i, s)| (i.to_string(), s.as_bytes().to_vec())).collect();
        (Account::new(Arc::new(move |event| events.lock().push(event)), &secrets), seen)
    }

    fn printed(seen: &Mutex<Vec<BuildProgress>>) -> String {
        let text = |event: &BuildProgress| match event {
            BuildProgress::Log { text, .. } => text.clone(),
            _ => String::new(),
        };
        seen.lock().iter().map(text).collect()
    }

    /// As buildctl 0.31 writes it, and as protobuf.
    #[test]
    fn both_forms_say_the_same() {
        let json = r#"{"vertexes":[{"digest":"sha256:a","name":"[1/2] RUN x","started":"2026-01-01T00:00:00Z"}],"statuses":null,
            "logs":[{"vertex":"sha256:a","stream":2,"data":"aGkK","timestamp":"2026-01-01T00:00:00Z"}]}"#;
        let read: Status = serde_json::from_str(json).unwrap();
        assert_eq!(Status::decode(read.encode_to_vec().as_slice()).unwrap(), read);
        let (mut account, seen) = account(&[]);
        account.take(read);
        account.take(
            serde_json::from_str(
                r#"{"vertexes":[{"digest":"sha256:a","name":"x","started":"t","completed":"t","error":"exit code: 1"}],
                "statuses":[{"id":"sha256:b","vertex":"sha256:c","current":7,"total":5}]}"#,
            )
            .unwrap(),
        );
        let step = |state| BuildProgress::Step { step: 1, name: "[1/2] RUN x".into(), state };
        assert_eq!(
            *seen.lock(),
            [
                step(StepState::Running),
                BuildProgress::Log { step: 1, stream: OutputStream::Stderr, text: "hi\n".into() },
                step(StepState::Failed),
                BuildProgress::Bytes { step: 2, name: "sha256:b".into(), current: 5, total: Some(5) },
            ]
        );
        assert_eq!(account.failed(), Some(("[1/2] RUN x", "hi")));
    }

    #[test]
    fn a_secret_is_not_passed_on_in_however_many_pieces_it_comes() {
        let secret = "hunter2-hunter3";
        for size in 1..20 {
            let (mut account, seen) = account(&[secret, "other"]);
            let text = format!("hunter before {secret}{secret} and hunter2-hunt");
            for piece in text.as_bytes().chunks(size) {
                account.log("x", OutputStream::Stdout, piece);
            }
            account.flush("x");
            assert_eq!(printed(&seen), "hunter before ****** and hunter2-hunt");
        }
        // One that ends as it begins, one that begins with another, and one that is longer than a part.
        let long = format!("{}-end", "long-".repeat(2000));
        for (secrets, text, expected) in [
            (vec!["a1b2c3d4a"], "=a1b2c3d4a".to_owned(), "=***".to_owned()),
            (vec!["hunt", "hunter2-prod-key"], "hunter2-prod-key hunter".to_owned(), "*** ***er".to_owned()),
            (vec![&long], format!("{long}."), "*********.".to_owned()),
        ] {
            for size in [1, 3, 7, 5000, 20_000] {
                let (mut account, seen) = account(&secrets);
                for piece in text.as_bytes().chunks(size) {
                    account.log("x", OutputStream::Stdout, piece);
                }
                account.flush("x");
                assert_eq!(printed(&seen), expected);
            }
        }
        let (mut account, seen) = account(&[secret]);
        let vertex = Vertex {
            digest: "x".into(),
            name: format!("RUN echo {secret}\u{1b}[2J\n"),
            started: Some(Vec::new()),
            ..Vertex::default()
        };
        account.vertex(&vertex);
        assert_eq!(
            *seen.lock(),
            [BuildProgress::Step { step: 1, name: "RUN echo *** [2J ".into(), state: StepState::Running }]
        );
    }

    #[test]
    fn whoever_tells_without_end_is_heeded_so_far() {
        let (mut account, seen) = account(&[]);
        for n in 0..3 * MOST_STEPS {
            let vertex = Vertex { digest: n.to_string(), started: Some(Vec::new()), ..Vertex::default() };
            account.vertex(&vertex);
            account.vertex(&vertex);
            account.transfer(&Transfer { id: n.to_string(), vertex: "0".into(), current: 1, total: 1 });
        }
        assert_eq!(seen.lock().len(), 2 * MOST_STEPS);
        seen.lock().clear();
        for _ in 0..300_000 {
            account.log("0", OutputStream::Stdout, b"x");
        }
        account.log("0", OutputStream::Stdout, &vec![b'x'; 2 * MOST_LOG]);
        assert!(seen.lock().len() <= MOST_LOG / EVENT + 1);
        assert!(printed(&seen).ends_with("left out]\n"));
        let long =
            Vertex { digest: "1".into(), name: "n".repeat(1 << 20), started: Some(Vec::new()), ..Vertex::default() };
        let (mut account, seen) = self::account(&[]);
        account.vertex(&long);
        let [BuildProgress::Step { name, .. }] = &seen.lock()[..] else { panic!() };
        assert!(name.len() < 2 * LONGEST_NAME);
    }

    #[test]
    fn the_classic_builders_steps() {
        let (mut account, seen) = account(&[]);
        for text in ["Step 1/2 : FROM x\n", " ---> 0123\n", "STEP 2/2: RUN y\n", "Stepping\n"] {
            account.classic(text);
        }
        let step = |step, name: &str, state| BuildProgress::Step { step, name: name.into(), state };
        let log = |step, text: &str| BuildProgress::Log { step, stream: OutputStream::Stdout, text: text.into() };
        assert_eq!(
            *seen.lock(),
            [
                step(1, "1/2 : FROM x ", StepState::Running),
                log(1, " ---> 0123\n"),
                step(1, "1/2 : FROM x ", StepState::Done),
                step(2, "2/2: RUN y ", StepState::Running),
                log(2, "Stepping\n"),
            ]
        );
    }

    #[test]
    fn strange_words() {
        for data in
            [&b"{}"[..], b"null", b"[]", br#"{"logs":[{"data":"%"}]}"#, &[0x0a, 0xff], &[0x1a, 3, 0x22, 1, 0xff]]
        {
            fuzz(data);
        }
    }
}
