//! Healthchecks that run where nerdctl runs none: a systemd timer of the guest, else a task of this process. Both call
//! `nerdctl container healthcheck`, which carries one check out and keeps its state
//! (docs/reference/nerdctl.md#healthcheck-command).

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;

use super::super::{
    nerdctl::labels::{HEALTH_STATE, HEALTHCHECK},
    prelude::*,
};

/// Docker's own defaults, for what an image leaves out.
const INTERVAL: Duration = Duration::from_secs(30);
/// An image may ask for less, and each check is a process.
const SHORTEST: Duration = Duration::from_millis(100);

/// In nanoseconds, as Docker's.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Check {
    test: Vec<String>,
    interval: u64,
    start_period: u64,
    start_interval: u64,
}

fn check(container: &Container) -> Option<Check> {
    let check: Check = serde_json::from_str(container.labels.get(HEALTHCHECK)?).ok()?;
    check.test.first().is_some_and(|t| t != "NONE").then_some(check)
}

impl Check {
    fn interval(&self) -> Duration {
        if self.interval == 0 { INTERVAL } else { Duration::from_nanos(self.interval).max(SHORTEST) }
    }

    /// How often, and how long after its start, a container is looked at more often.
    fn at_start(&self) -> Option<(Duration, Duration)> {
        let interval = Duration::from_nanos(self.start_interval).max(SHORTEST);
        let period = Duration::from_nanos(self.start_period);
        (self.start_interval > 0 && interval < self.interval() && !period.is_zero()).then_some((interval, period))
    }
}

/// A timer outlives this process; it takes systemd, and root.
pub(crate) async fn driver(c: &Containerd) -> HealthcheckDriver {
    let find = || async {
        const LOOK: &str = "[ -d /run/systemd/system ] && [ \"$(id -u)\" = 0 ] && command -v systemd-run >/dev/null";
        let found = c.guest().run(c.command(["sh", "-c", LOOK])).await;
        if found.is_ok_and(|o| o.success()) { HealthcheckDriver::Timer } else { HealthcheckDriver::Process }
    };
    *c.health.driver.get_or_init(find).await
}

fn unit(id: &str) -> String {
    format!("lima-runtime-health-{}", id.get(..12).unwrap_or(id))
}

/// Called once a container's task runs: begins its healthchecks, where it has any.
pub(crate) async fn started(c: &Containerd, container: &Container) -> Result<()> {
    if let Some(check) = check(container) {
        begin(c, &container.id, &check, check.at_start()).await?;
    }
    Ok(())
}

/// Begins those of containers that run already: another process of ours may have run them, or none.
pub(crate) async fn adopt(c: &Containerd) -> Result<()> {
    for (container, task) in c.everything().await? {
        if task.is_some_and(|t| t.state == ContainerState::Running)
            && let Some(check) = check(&container)
        {
            // Its start is over, as far as anybody knows.
            begin(c, &container.id, &check, None).await?;
        }
    }
    Ok(())
}

/// `at_start`: another interval, for so long.
async fn begin(c: &Containerd, id: &str, check: &Check, at_start: Option<(Duration, Duration)>) -> Result<()> {
    let interval = check.interval();
    if driver(c).await == HealthcheckDriver::Timer {
        stopped(c, id).await;
        let healthcheck = c.nerdctl.command(["container", "healthcheck", id]).argv;
        timer(c, &unit(id), interval, healthcheck.clone()).await?;
        if let Some((often, period)) = at_start {
            let name = unit_at_start(id);
            timer(c, &name, often, healthcheck).await?;
            let mut argv: Vec<Vec<u8>> =
                ["systemd-run", "--quiet", "--collect", "--unit", &format!("{name}-end")].map(Into::into).into();
            argv.push(format!("--on-active={}ms", period.as_millis().max(1)).into());
            argv.extend(["--", "systemctl", "stop", "--quiet", &format!("{name}.timer")].map(Into::into));
            c.guest().run(c.command(argv)).await?.checked("systemd-run")?;
        }
        return Ok(());
    }
    let (this, name) = (c.clone(), id.to_owned());
    let task = task::spawn(async move {
        let began = tokio::time::Instant::now();
        loop {
            let often = at_start.filter(|(_, period)| began.elapsed() < *period).map(|(often, _)| often);
            tokio::time::sleep(often.unwrap_or(interval)).await;
            if !matches!(this.api.task(&name).await, Ok(Some(t)) if t.exit_code.is_none()) {
                return;
            }
            // An unhealthy container is a failed command; its state says the rest.
            let _ = this.nerdctl.read(About::Container(&name), ["container", "healthcheck", &name]).await;
        }
    });
    let mut tasks = c.health.tasks.lock();
    tasks.retain(|_, task| !task.is_finished());
    tasks.insert(id.to_owned(), AbortOnDropHandle::new(task));
    Ok(())
}

/// Runs a command again and again, by a timer of systemd's.
async fn timer(c: &Containerd, unit: &str, every: Duration, command: Vec<Vec<u8>>) -> Result<()> {
    let every = format!("{}ms", every.as_millis().max(1));
    let mut argv: Vec<Vec<u8>> = ["systemd-run", "--quiet", "--collect", "--unit", unit].map(Into::into).into();
    argv.push(format!("--on-active={every}").into());
    argv.push(format!("--on-unit-inactive={every}").into());
    argv.push("--timer-property=AccuracySec=100ms".into());
    argv.push("--".into());
    argv.extend(command);
    c.guest().run(c.command(argv)).await?.checked("systemd-run").map(drop)
}

fn unit_at_start(id: &str) -> String {
    format!("{}-start", unit(id))
}

/// Called when a container was stopped or removed.
pub(crate) async fn stopped(c: &Containerd, id: &str) {
    c.health.tasks.lock().remove(id);
    if c.health.driver.get() == Some(&HealthcheckDriver::Timer) {
        let units = [unit(id), unit_at_start(id), format!("{}-end", unit_at_start(id))];
        let units = units.iter().flat_map(|unit| [format!("{unit}.timer"), format!("{unit}.service")]);
        let argv = ["systemctl", "stop", "--quiet"].map(str::to_owned).into_iter().chain(units);
        // There may be none.
        let _ = c.guest().run(c.command(argv)).await;
    }
}

/// As a label: its flags know no other form than CMD-SHELL.
pub(crate) fn healthcheck(check: &Healthcheck) -> String {
    let nanos = |ms: f64| (ms * 1e6).round();
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and below 2^53")]
    let number = |n: f64| Value::from(n as i64);
    let mut json = serde_json::json!({
        "Test": check.test,
        "Interval": number(nanos(check.interval)),
        "Timeout": number(nanos(check.timeout)),
        "Retries": number(check.retries),
    });
    if let Some(start) = check.start_period {
        json["StartPeriod"] = number(nanos(start));
    }
    if let Some(interval) = check.start_interval {
        json["StartInterval"] = number(nanos(interval));
    }
    json.to_string()
}

pub(crate) fn health_of(container: &Container) -> Health {
    if check(container).is_none() {
        return Health::None;
    }
    let state = container.labels.get(HEALTH_STATE).and_then(|l| serde_json::from_str::<Value>(l).ok());
    match state.as_ref().and_then(|s| s["Status"].as_str()) {
        Some("healthy") => Health::Healthy,
        Some("unhealthy") => Health::Unhealthy,
        _ => Health::Starting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_read_from_nerdctls_label() {
        let with = |label: &str| {
            let labels = [(HEALTHCHECK.to_owned(), label.to_owned())].into();
            check(&Container { labels, ..Container::default() })
        };
        let found = with(r#"{"Test":["CMD-SHELL","true"],"Interval":200000000,"Timeout":1,"Retries":2}"#).unwrap();
        assert_eq!(found.interval(), Duration::from_millis(200));
        assert_eq!(with(r#"{"Test":["CMD","x"]}"#).unwrap().interval(), INTERVAL);
        let start = r#"{"Test":["CMD","x"],"Interval":9000000000,"StartPeriod":5000000000,"StartInterval":500000000}"#;
        let at_start = with(start).unwrap().at_start();
        assert_eq!(at_start, Some((Duration::from_millis(500), Duration::from_secs(5))));
        assert_eq!(found.at_start(), None);
        assert!(with(r#"{"Test":["NONE"]}"#).is_none() && with("{").is_none() && with(r#"{"Test":[]}"#).is_none());
    }
}
