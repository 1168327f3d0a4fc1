//! Decides a VM's state and the next step to running from facts alone, so that every fault can be tested without a VM.

pub use super::state::State;
use crate::lima::instance::{AgentState, Facts, Holder};

/// The next step to a running VM. After each step the facts are read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Create,
    /// A creation was interrupted before there was a disk: remove it and start again.
    Discard,
    /// The disk exists but `lima.yaml` is missing: write it again and keep the disk.
    RestoreYaml,
    /// Our host agent does not answer: it is starting (its pid file comes before its socket), or it hangs.
    AwaitAgent,
    /// A start is under way, by us or another process.
    Join,
    /// A stop is under way.
    AwaitEnd,
    /// Only part of the VM runs: end our processes, then boot.
    EndOurs,
    /// None of our processes runs; remaining pid files and sockets are left-overs.
    Boot,
    /// Lima says that it runs: ask the VM itself.
    Verify,
}

pub fn next_step(facts: &Facts) -> Step {
    if !facts.directory {
        return Step::Create;
    }
    if facts.answers {
        return match facts.event {
            AgentState::Exiting => Step::AwaitEnd,
            AgentState::None | AgentState::Booting => Step::Join,
            // The agent did not notice its driver's end, or does not end itself.
            AgentState::Running | AgentState::Degraded if matches!(facts.driver, Holder::Gone | Holder::Foreign) => {
                Step::EndOurs
            }
            AgentState::Running | AgentState::Degraded => Step::Verify,
        };
    }
    if facts.agent.is_ours() {
        return if facts.event == AgentState::Exiting { Step::AwaitEnd } else { Step::AwaitAgent };
    }
    if facts.driver.is_ours() {
        return Step::EndOurs;
    }
    match (facts.yaml, facts.disk) {
        (_, false) => Step::Discard,
        (false, true) => Step::RestoreYaml,
        (true, true) => Step::Boot,
    }
}

/// The state, with a reason when it is not the expected one.
pub fn state(facts: &Facts) -> (State, Option<&'static str>) {
    match next_step(facts) {
        Step::Create => (State::NotCreated, None),
        Step::Discard => (State::NotCreated, Some("Its creation was interrupted")),
        Step::RestoreYaml => (State::Broken, Some("Its lima.yaml is missing")),
        // A start looks like this for its first second; Lima itself would say Broken.
        Step::AwaitAgent => (State::Starting, Some("The host agent does not answer yet")),
        Step::Join => (State::Starting, None),
        Step::AwaitEnd => (State::Stopping, None),
        Step::EndOurs if facts.answers => (State::Broken, Some("The VM ended under its host agent")),
        Step::EndOurs => (State::Broken, Some("The VM runs without its host agent")),
        Step::Boot => (State::Stopped, None),
        Step::Verify if facts.event == AgentState::Degraded => (State::Running, Some("Part of its setup failed")),
        Step::Verify => (State::Running, None),
    }
}

#[cfg(test)]
mod tests {
    use crate::process::identity::Identity;

    use super::*;

    const STOPPED: Facts = Facts {
        directory: true,
        yaml: true,
        disk: true,
        agent: Holder::Absent,
        driver: Holder::Absent,
        answers: false,
        event: AgentState::Exiting,
    };

    fn ours() -> Holder {
        Holder::Ours(Identity::of(std::process::id()).unwrap())
    }

    #[test]
    fn each_fault_has_its_repair() {
        use AgentState::*;
        use Holder::{Absent, Foreign, Gone};
        let none = Facts { directory: false, yaml: false, disk: false, event: None, ..STOPPED };
        let running = Facts { agent: ours(), driver: ours(), answers: true, event: Running, ..STOPPED };
        let table = [
            ("nothing there", none, Step::Create, State::NotCreated),
            ("stopped", STOPPED, Step::Boot, State::Stopped),
            ("never started", Facts { event: None, ..STOPPED }, Step::Boot, State::Stopped),
            ("running", running, Step::Verify, State::Running),
            ("degraded", Facts { event: Degraded, ..running }, Step::Verify, State::Running),
            (
                "starting, driver not yet up",
                Facts { event: Booting, driver: Absent, ..running },
                Step::Join,
                State::Starting,
            ),
            ("starting", Facts { event: None, ..running }, Step::Join, State::Starting),
            ("stopping", Facts { event: Exiting, ..running }, Step::AwaitEnd, State::Stopping),
            // The log holds the last run's events until limactl truncates it.
            (
                "pid before socket",
                Facts { answers: false, event: Booting, ..running },
                Step::AwaitAgent,
                State::Starting,
            ),
            ("agent hangs", Facts { answers: false, ..running }, Step::AwaitAgent, State::Starting),
            ("agent ends", Facts { answers: false, event: Exiting, ..running }, Step::AwaitEnd, State::Stopping),
            // Stale files after a reboot: their numbers are unused or belong to other processes.
            ("reboot", Facts { agent: Gone, driver: Gone, event: Running, ..STOPPED }, Step::Boot, State::Stopped),
            (
                "reboot, recycled",
                Facts { agent: Foreign, driver: Foreign, event: Running, ..STOPPED },
                Step::Boot,
                State::Stopped,
            ),
            ("reboot, one recycled", Facts { agent: Foreign, driver: Gone, ..STOPPED }, Step::Boot, State::Stopped),
            // One of the two was killed.
            ("agent killed", Facts { agent: Gone, answers: false, ..running }, Step::EndOurs, State::Broken),
            (
                "agent killed, recycled",
                Facts { agent: Foreign, answers: false, ..running },
                Step::EndOurs,
                State::Broken,
            ),
            ("driver killed", Facts { driver: Gone, ..running }, Step::EndOurs, State::Broken),
            ("driver killed, recycled", Facts { driver: Foreign, ..running }, Step::EndOurs, State::Broken),
            // A pid file is missing, but the agent answers.
            ("no pid files", Facts { agent: Absent, driver: Absent, ..running }, Step::Verify, State::Running),
            // A creation interrupted at each point.
            (
                "only a directory",
                Facts { yaml: false, disk: false, event: None, ..STOPPED },
                Step::Discard,
                State::NotCreated,
            ),
            ("no disk yet", Facts { disk: false, event: None, ..STOPPED }, Step::Discard, State::NotCreated),
            ("lima.yaml lost", Facts { yaml: false, ..STOPPED }, Step::RestoreYaml, State::Broken),
        ];
        for (name, facts, step, expected) in table {
            assert_eq!((next_step(&facts), state(&facts).0), (step, expected), "{name}");
        }
    }

    /// For every combination of facts.
    #[test]
    fn no_process_of_ours_is_booted_over_and_no_disk_is_discarded() {
        let flags = [false, true];
        let holders = [Holder::Absent, Holder::Gone, Holder::Foreign, ours()];
        let events =
            [AgentState::None, AgentState::Booting, AgentState::Running, AgentState::Degraded, AgentState::Exiting];
        for (yaml, disk, answers) in
            flags.iter().flat_map(|y| flags.map(|d| (*y, d))).flat_map(|(y, d)| flags.map(|a| (y, d, a)))
        {
            for (agent, driver) in holders.iter().flat_map(|a| holders.map(|d| (*a, d))) {
                for event in events {
                    let facts = Facts { directory: true, yaml, disk, agent, driver, answers, event };
                    let step = next_step(&facts);
                    let alive = answers || agent.is_ours() || driver.is_ours();
                    if matches!(step, Step::Boot | Step::Create | Step::Discard | Step::RestoreYaml) {
                        assert!(!alive, "{facts:?}: {step:?}");
                    }
                    assert!(step != Step::Discard || !disk, "{facts:?}");
                    assert!(step != Step::EndOurs || alive, "{facts:?}: nothing of ours to end");
                    assert!(step != Step::Create, "{facts:?}");
                }
            }
        }
    }
}
