//! Turns the messages of limactl and its host agent during a start into progress
//! (docs/reference/lima.md#messages-of-a-start).

use super::limactl::Line;
use crate::progress::{Component, Phase, RuntimeProgress};

/// Maps the lines of one start. Repeats no event; neither phase nor percent goes back.
#[derive(Debug, Default)]
pub struct StartProgress {
    last: Option<(u8, f64, String)>,
}

impl StartProgress {
    pub fn of(&mut self, line: &Line) -> Option<RuntimeProgress> {
        let step = step(line)?;
        let order = u8::from(step.phase == Phase::Boot) + 2 * u8::from(step.phase == Phase::Provision);
        let percent = match &self.last {
            Some((phase, ..)) if *phase > order => return None,
            Some((phase, percent, message)) if *phase == order => {
                if *message == step.message && *percent >= step.percent {
                    return None;
                }
                percent.max(step.percent)
            }
            _ => step.percent,
        };
        self.last = Some((order, percent, step.message.clone()));
        let mut event = RuntimeProgress::new(step.phase, step.message);
        event.component = step.component;
        event.percent = Some(percent);
        Some(event)
    }
}

struct Step {
    phase: Phase,
    component: Option<Component>,
    message: String,
    percent: f64,
}

fn step(line: &Line) -> Option<Step> {
    use Phase::{Boot, Create, Provision};
    let text = line.text();
    let says = |words: &str| text.starts_with(words);
    let at =
        |phase, percent, message: &str| Some(Step { phase, component: None, message: message.to_owned(), percent });
    let part =
        |component, percent, message: &str| Some(Step { component: Some(component), ..at(Create, percent, message)? });
    if let Some(requirement) = Requirement::parse(text) {
        return requirement.step();
    }
    // We have fetched the files already: what Lima calls a download is a copy.
    if says("Attempting to download the image") {
        part(Component::Image, 5.0, "Copying the guest image")
    } else if says("Converting ") || says("Expanding to ") || says("Resize instance ") {
        part(Component::Image, 40.0, "Preparing the disk")
    } else if says("Attempting to download the nerdctl archive") {
        part(Component::Nerdctl, 70.0, "Copying containerd")
    } else if says("hostagent socket created at") {
        at(Boot, 2.0, "Starting the VM")
    } else if says("Starting VZ") || says("Starting QEMU") {
        at(Boot, 5.0, "Starting the VM")
    } else if says("[VZ] - vm state change: running") || says("SSH Local Port: ") {
        at(Boot, 10.0, "Booting the VM")
    } else if says("Waiting for the guest agent to be running") {
        at(Provision, 75.0, "Waiting for the guest agent")
    } else if says("Guest agent is running") {
        // May come at any time after the boot; shows that something happens without moving the percentage.
        at(Provision, 0.0, "The guest agent runs")
    } else {
        None
    }
}

/// `Waiting for the essential requirement 1 of 2: "ssh"`, `The essential requirement 1 of 2 is satisfied`.
struct Requirement<'a> {
    kind: &'a str,
    number: u32,
    of: u32,
    /// The quoted text; `None` once the requirement is satisfied.
    waiting_for: Option<&'a str>,
}

impl<'a> Requirement<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (waiting, rest) = match text.strip_prefix("Waiting for the ") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("The ")?),
        };
        let (kind, rest) = rest.split_once(" requirement ")?;
        let (number, rest) = rest.split_once(" of ")?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (of, rest) = rest.split_at(digits);
        let waiting_for = waiting.then(|| rest.trim_start_matches(": ").trim_matches(['"', '`']));
        Some(Self { kind, number: number.parse().ok()?, of: of.parse().ok().filter(|&n| n > 0)?, waiting_for })
    }

    fn step(&self) -> Option<Step> {
        let (phase, from, to) = match self.kind {
            "essential" => (Phase::Boot, 10.0, 100.0),
            "optional" => (Phase::Provision, 0.0, 75.0),
            "final" => (Phase::Provision, 75.0, 100.0),
            _ => return None,
        };
        let done = self.number.saturating_sub(u32::from(self.waiting_for.is_some()));
        let percent = from + (to - from) * (f64::from(done) / f64::from(self.of)).min(1.0);
        let message = match self.waiting_for {
            Some("ssh") => "Waiting for the VM to boot".to_owned(),
            Some("user session is ready for ssh") => "Waiting for the VM's user session".to_owned(),
            Some("systemd must be available") => "Waiting for the VM's services".to_owned(),
            Some("containerd binaries to be installed") => "Installing containerd in the VM".to_owned(),
            Some("boot scripts must have finished") => "Waiting for the VM's boot scripts".to_owned(),
            // Go has quoted it.
            Some(other) => format!("Waiting: {}", other.replace("\\\"", "\"")),
            None => format!("Requirement {} of {} of the {} ones is met", self.number, self.of, self.kind),
        };
        let component = message.contains("containerd").then_some(Component::Containerd);
        Some(Step { phase, component, message, percent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lima::limactl::tests::{VERSIONS, recorded};

    fn events(lines: &[Line]) -> Vec<RuntimeProgress> {
        let mut progress = StartProgress::default();
        lines.iter().filter_map(|l| progress.of(l)).collect()
    }

    #[test]
    fn the_recorded_first_starts_go_only_forward() {
        for version in VERSIONS {
            only_forward(version);
        }
    }

    fn only_forward(version: &str) {
        let events = events(&recorded(version, "start-first.json").1);
        let mut phases: Vec<Phase> = events.iter().map(|e| e.phase).collect();
        phases.dedup();
        assert_eq!(phases, [Phase::Create, Phase::Boot, Phase::Provision]);
        for pair in events.windows(2) {
            assert!(pair[0].phase != pair[1].phase || pair[0].percent <= pair[1].percent, "{pair:?}");
            assert_ne!(pair[0], pair[1]);
        }
        assert_eq!(events.last().unwrap().percent, Some(100.0));
        let said = |m: &str| events.iter().any(|e| e.message == m);
        assert!(said("Waiting for the VM to boot") && said("Installing containerd in the VM"), "{events:#?}");
    }

    #[test]
    fn both_quoting_styles_and_more_requirements_are_understood() {
        let lines = [
            r"Waiting for the essential requirement 3 of 3: `Explicitly start ssh ControlMaster`",
            r#"Waiting for the essential requirement 4 of 4: "fuse to \"allow_other\" as user""#,
            "Waiting for the optional requirement 3 of 4: \"containerd must answer\"",
            "Waiting for the odd requirement 1 of 0: \"x\"",
            "The requirement",
        ];
        let lines: Vec<Line> = lines.iter().map(|l| Line::parse(l)).collect();
        let events = events(&lines);
        assert_eq!(events.len(), 3);
        assert_eq!(events[0].message, "Waiting: Explicitly start ssh ControlMaster");
        assert_eq!(events[1].message, r#"Waiting: fuse to "allow_other" as user"#);
        assert_eq!(events[2].component, Some(Component::Containerd));
    }
}
