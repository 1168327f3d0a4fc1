//! What a support person checks first, and what to do about it. Everything here only reads.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{DiagnosticCheck, LimaRuntime, State, Verdict};
use crate::{
    call::Call,
    error::{Error, ErrorCode, Result},
    fetch::{
        manifest::Part,
        platform::Platform,
        record::{Inventory, Look},
    },
    guest::{Guest, ssh::SshGuest},
    lima::{instance::Instance, limactl::Limactl, paths, template},
    manager::payload::{self, UserEngine},
    process::Command,
    task,
};

mod collect;
pub(crate) mod scrub;
mod system;

use system::{RealSystem, System};

#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding(Verdict, String, Option<String>);

fn ok(detail: impl Into<String>) -> Finding {
    Finding(Verdict::Ok, detail.into(), None)
}

fn skipped(detail: impl Into<String>) -> Finding {
    Finding(Verdict::Skipped, detail.into(), None)
}

fn warn(detail: impl Into<String>, hint: impl Into<String>) -> Finding {
    Finding(Verdict::Warn, detail.into(), Some(hint.into()))
}

fn fail(detail: impl Into<String>, hint: impl Into<String>) -> Finding {
    Finding(Verdict::Fail, detail.into(), Some(hint.into()))
}

impl From<Error> for Finding {
    fn from(e: Error) -> Self {
        Finding(Verdict::Fail, format!("{} ({})", e.message(), e.code()), e.hint_text().map(Into::into))
    }
}

impl Finding {
    fn check(self, id: &'static str, title: &'static str) -> DiagnosticCheck {
        let Finding(status, detail, hint) = self;
        DiagnosticCheck { id, title, status, detail, hint }
    }
}

const DIAGNOSE_TIMEOUT: Duration = Duration::from_secs(60);
/// For one question to the guest.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// For limactl's version; macOS checks a program at its first run.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(20);
const GIB: u64 = 1 << 30;
/// Fail below the first, warn below the second. An image, nerdctl-full and Lima are below 1 GiB; a VM with a few containers
/// grows to several.
const MIN_SPACE: (u64, u64) = (2 * GIB, 10 * GIB);
/// The registry of most images.
const REGISTRY: &str = "registry-1.docker.io";

impl LimaRuntime {
    /// Makes every check, each after those it depends on. A check that cannot be made is a finding, not an error.
    pub async fn diagnose(&self, call: &Call) -> Result<Vec<DiagnosticCheck>> {
        call.run(DIAGNOSE_TIMEOUT, self.checks(Arc::new(RealSystem))).await
    }

    async fn checks(&self, system: Arc<dyn System>) -> Result<Vec<DiagnosticCheck>> {
        let this = self.clone();
        let (host, installed, vm) =
            tokio::join!(task::blocking(move || Ok(this.host_checks(&*system))), self.installation(), self.vm_checks());
        let mut all = host?;
        all.push(installed.check("installation", "Installation"));
        all.extend(vm);
        Ok(all)
    }

    fn host_checks(&self, system: &dyn System) -> Vec<DiagnosticCheck> {
        let platform = system.platform();
        let limactl = self.paths().limactl;
        vec![
            macos(system.macos().as_deref()).check("macos", "macOS version"),
            architecture(system, &platform, self.options().rosetta != Some(false)).check("architecture", "Processor"),
            virtualization(system, &limactl).check("virtualization", "Virtualization"),
            user(system).check("user", "User"),
            self.path_length().check("path-length", "Path length"),
            space(system.available(self.dir()), self.dir()).check("disk-space", "Free disk space"),
            proxy(&system.proxies(self.options().network.http.proxy.as_deref())).check("proxy", "Proxy"),
        ]
    }

    fn path_length(&self) -> Finding {
        if let Some(home) = self.state().lima_home {
            return ok(format!("the VM lies in {}", home.display()));
        }
        let Some(user) = home::home_dir() else { return skipped("this user has no home directory") };
        match paths::lima_home(self.dir(), self.instance(), &user, self.app_name()) {
            Ok(home) => ok(format!(
                "{} of {} bytes for {}",
                home.as_os_str().len() + self.instance().len(),
                paths::MAX_LENGTH,
                home.display()
            )),
            Err(e) => e.into(),
        }
    }

    async fn installation(&self) -> Finding {
        let call = Call::default();
        let home = self.home().clone();
        let read = move || {
            let recorded = Inventory::read(&home.inventory_path()).and_then(|mut i| i.components.remove(&Part::Lima));
            Ok((recorded, home.whole(Part::Lima, Look::Stat)))
        };
        let (recorded, whole) = match task::blocking(read).await {
            Ok(found) => found,
            Err(e) => return e.into(),
        };
        let limactl = Limactl::new(self.paths().limactl, self.lima_home(), None, &[]);
        let repair = "Mend it with install({ repair: true }).";
        match (recorded, whole, self.is_installed(&call).await) {
            (_, Some(record), Ok(true)) => match tokio::time::timeout(PROGRAM_TIMEOUT, limactl.version()).await {
                _ if rustix::process::geteuid().is_root() => ok(format!("Lima {}", record.version)),
                Ok(Ok(version)) if version == record.version => {
                    ok(format!("Lima {version}, {}", self.paths().limactl.display()))
                }
                Ok(Ok(version)) => warn(format!("limactl says {version}, recorded is {}", record.version), repair),
                Ok(Err(e)) => fail(format!("limactl does not run: {}", e.message()), repair),
                Err(_) => fail("limactl does not answer", "Restart the computer; then mend the installation."),
            },
            (Some(record), ..) => fail(format!("Lima {} is damaged", record.version), repair),
            _ if self.has_pre_bundled(&call).await.unwrap_or_default() => ok("not yet; it comes with the application"),
            _ => warn("Lima is not installed", "Install it with install(), or let start() do so."),
        }
    }

    async fn vm_checks(&self) -> Vec<DiagnosticCheck> {
        let status = self.status(&Call::default()).await;
        let (instance, running) = match &status {
            Ok(status) => (state(status.state, status.reason.as_deref()), status.state == State::Running),
            Err(e) => (fail(e.message(), "Look at the application's log."), false),
        };
        let yaml = Instance::new(&self.lima_home(), self.instance()).path("lima.yaml");
        let port = tokio::fs::read_to_string(yaml).await.ok().as_deref().and_then(template::ssh_port);
        let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        let mut all =
            vec![ports(port, running, free).check("ports", "Ports"), instance.check("instance", "Virtual machine")];
        let mut reached = None;
        let ssh = if running {
            match self.ssh().await {
                Ok(guest) => match answer(&guest, Command::new(["true"])).await {
                    Ok(_) => {
                        reached = Some(guest);
                        ok("answers")
                    }
                    Err(e) => e.into(),
                },
                Err(e) => e.into(),
            }
        } else {
            skipped("the VM is not running")
        };
        all.push(ssh.check("ssh", "SSH"));
        let (engine, clock, dns) = if let Some(guest) = &reached {
            tokio::join!(self.engine_check(guest), guest_clock(guest), self.guest_dns(guest))
        } else {
            let none = || skipped("the VM cannot be asked");
            (none(), none(), none())
        };
        let name = self.engine().as_str();
        all.push(engine.check(name, if name == "docker" { "Docker Engine" } else { name }));
        all.push(clock.check("clock", "Clock"));
        all.push(dns.check("dns", "DNS"));
        all
    }

    async fn engine_check(&self, guest: &SshGuest) -> Finding {
        let found = match self.engine() {
            UserEngine::Containerd => containerd(guest).await,
            UserEngine::Docker => self.docker(guest).await,
        };
        if found.0 == Verdict::Fail
            && let Ok(Some(disk)) = tokio::time::timeout(ANSWER_TIMEOUT, payload::full_disk(guest)).await
        {
            return payload::disk_full(&found.1, disk).into();
        }
        found
    }

    async fn docker(&self, guest: &SshGuest) -> Finding {
        let probe = self.payload().probe(guest, self.engine_socket());
        let silent = match tokio::time::timeout(ANSWER_TIMEOUT, probe).await {
            Ok(Ok(())) => return ok("answers"),
            Ok(Err(e)) if self.payload().is_silent(&e) => e.message().to_owned(),
            Ok(Err(e)) => return e.into(),
            Err(_) => "the Docker engine does not answer in time".to_owned(),
        };
        // What systemd knows of it, such as `masked`.
        let unit = self.payload().daemon.last().copied().unwrap_or_default();
        let show = ["systemctl", "show", "--value", "-p", "LoadState,UnitFileState,ActiveState,SubState", unit];
        let known = answer(guest, Command::new(show).root()).await.unwrap_or_default();
        let words: Vec<&str> = known.split_whitespace().collect();
        let state = if words.is_empty() { String::new() } else { format!(" ({unit}: {})", words.join(", ")) };
        fail(format!("{silent}{state}"), RESTART_DOCKER)
    }

    async fn guest_dns(&self, guest: &impl Guest) -> Finding {
        let looked_up = answer(guest, Command::new(["getent", "hosts", REGISTRY])).await;
        let ours = tokio::time::timeout(ANSWER_TIMEOUT, tokio::net::lookup_host((REGISTRY, 443))).await;
        let proxied = !RealSystem.proxies(self.options().network.http.proxy.as_deref()).is_empty();
        dns(looked_up.is_ok(), matches!(ours, Ok(Ok(_))), proxied)
    }
}

const RESTART_DOCKER: &str = "Call start(), which mends it, or restart the VM.";

/// Standard output of a command that succeeded.
async fn answer(guest: &impl Guest, command: Command) -> Result<String> {
    let program = command.argv.first().map(|p| String::from_utf8_lossy(p).into_owned()).unwrap_or_default();
    let out = tokio::time::timeout(ANSWER_TIMEOUT, guest.run(command)).await;
    let out = out.unwrap_or_else(|_| Err(crate::call::timed_out(ANSWER_TIMEOUT)))?.checked(&program)?;
    Ok(String::from_utf8_lossy(&out).trim().to_owned())
}

async fn containerd(guest: &impl Guest) -> Finding {
    let socket = guest.containerd_socket().to_owned();
    let opened = tokio::time::timeout(ANSWER_TIMEOUT, guest.connect(&socket)).await;
    if !matches!(opened, Ok(Ok(_))) {
        return fail(
            format!("{socket} cannot be opened in the VM"),
            "Restart the VM: restart() starts containerd anew.",
        );
    }
    match answer(guest, Command::new(["ctr", "--address", &socket, "version"]).root()).await {
        Ok(text) => ok(version_in(&text).map_or_else(|| "answers".to_owned(), |v| format!("answers, version {v}"))),
        Err(e) if e.code() == ErrorCode::EngineError => {
            fail(e.message(), "Restart the VM: restart() starts containerd anew.")
        }
        Err(e) => e.into(),
    }
}

/// The server's version, which `ctr version` prints second.
fn version_in(text: &str) -> Option<&str> {
    text.lines().filter_map(|l| l.trim().strip_prefix("Version:")).next_back().map(str::trim)
}

async fn guest_clock(guest: &impl Guest) -> Finding {
    let before = SystemTime::now();
    let said = answer(guest, Command::new(["date", "+%s.%N"])).await;
    let took = before.elapsed().unwrap_or_default();
    let ours = before.duration_since(UNIX_EPOCH).unwrap_or_default() + took / 2;
    match said.map(|text| text.parse::<f64>()) {
        Ok(Ok(theirs)) => clock(theirs - ours.as_secs_f64()),
        Ok(Err(_)) => warn("the VM does not tell its time", "Restart the VM."),
        Err(e) => e.into(),
    }
}

fn macos(version: Option<&str>) -> Finding {
    let Some(version) = version else { return skipped(format!("this is {}", std::env::consts::OS)) };
    // macOS 13 is the first that Lima's vz driver supports (docs/reference/lima.md#macs).
    match version.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
        Some(major) if major >= 13 => ok(format!("macOS {version}")),
        Some(_) => fail(format!("macOS {version}"), "Lima needs macOS 13 or later: update macOS."),
        None => warn(format!("macOS says {version:?}"), "Lima needs macOS 13 or later."),
    }
}

fn architecture(system: &dyn System, platform: &Result<Platform>, wants_rosetta: bool) -> Finding {
    let platform = match platform {
        Ok(platform) => *platform,
        Err(e) => return fail(e.message(), "Use a computer with a 64-bit Intel, AMD or ARM processor."),
    };
    if system.is_translated() {
        return warn(
            format!("{platform}, but the application was built for Intel and runs under Rosetta"),
            "Install the application's version for Apple silicon: it is faster.",
        );
    }
    match platform {
        Platform::DarwinArm64 if !wants_rosetta => ok(format!("{platform}; Rosetta is turned off")),
        Platform::DarwinArm64 if system.has_rosetta() => ok(format!("{platform}; amd64 images run through Rosetta")),
        Platform::DarwinArm64 => warn(
            format!("{platform}, without Rosetta: amd64 images are slow or do not run"),
            "Install it with: softwareupdate --install-rosetta",
        ),
        other => ok(other.as_str()),
    }
}

const ENTITLEMENT: &str = "com.apple.security.virtualization";

fn virtualization(system: &dyn System, limactl: &Path) -> Finding {
    if system.macos().is_none() {
        return if system.has_kvm() {
            ok("/dev/kvm can be used")
        } else {
            warn(
                "/dev/kvm cannot be used: the VM is emulated, which is many times slower",
                "Turn on virtualization in the firmware, and add the user to the group kvm.",
            )
        };
    }
    if !limactl.exists() {
        return skipped("limactl is not installed yet");
    }
    if system.is_quarantined(limactl) {
        return fail(
            "limactl is quarantined: macOS will not run it",
            format!("Take the mark off: xattr -dr com.apple.quarantine '{}'", limactl.display()),
        );
    }
    match system.entitlements(limactl) {
        Some(list) if list.contains(ENTITLEMENT) => ok("limactl may make virtual machines"),
        Some(_) => fail(
            format!("limactl lacks the entitlement {ENTITLEMENT}"),
            "Mend it with install({ repair: true }). An application that signs limactl anew must give it the entitlement.",
        ),
        None => warn("limactl's entitlements cannot be read", "Look with: codesign -d --entitlements - limactl"),
    }
}

fn user(system: &dyn System) -> Finding {
    if system.is_root() {
        return fail("root", "Lima refuses to run as root: start the application as an ordinary user.");
    }
    ok("an ordinary user")
}

fn space(available: Option<u64>, dir: &Path) -> Finding {
    let Some(free) = available else { return skipped(format!("{} cannot be measured", dir.display())) };
    let detail = format!("{:.1} GiB free at {}", free as f64 / GIB as f64, dir.display());
    let hint = format!("Free some space: {} GiB let a VM and a few containers grow.", MIN_SPACE.1 / GIB);
    match free {
        _ if free < MIN_SPACE.0 => fail(detail, hint),
        _ if free < MIN_SPACE.1 => warn(detail, hint),
        _ => ok(detail),
    }
}

/// Names and values of the proxy settings.
fn proxy(settings: &[(String, String)]) -> Finding {
    if settings.is_empty() {
        return ok("none");
    }
    let mut shown = Vec::new();
    for (name, value) in settings {
        let text = if value.contains("://") { value.clone() } else { format!("http://{value}") };
        match url::Url::parse(&text) {
            _ if name == "no_proxy" => shown.push(format!("{name}={value}")),
            // Without user and password.
            Ok(url) if url.host_str().is_some_and(|h| !h.is_empty()) => {
                let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
                shown.push(format!("{name}={}://{}{port}", url.scheme(), url.host_str().unwrap_or_default()));
            }
            _ => return warn(format!("{name} is no address of a proxy"), "Write it as http://host:port."),
        }
    }
    ok(shown.join(", "))
}

fn ports(ssh: Option<u16>, running: bool, free: impl Fn(u16) -> bool) -> Finding {
    match ssh {
        Some(port) if running => ok(format!("127.0.0.1:{port} leads to the VM's SSH")),
        Some(port) if free(port) => ok(format!("127.0.0.1:{port} is free for the VM's SSH")),
        Some(port) => warn(
            format!("127.0.0.1:{port}, the port of the VM's SSH, is taken by another program"),
            "start() chooses another one.",
        ),
        None if free(0) => ok("a free one will be chosen for the VM's SSH"),
        None => fail("no port can be opened on 127.0.0.1", "Look whether a security program forbids it."),
    }
}

fn state(state: State, reason: Option<&str>) -> Finding {
    let name = serde_json::to_value(state).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
    let detail = reason.map_or_else(|| name.clone(), |reason| format!("{name}: {reason}"));
    match state {
        State::Broken => fail(detail, "start() repairs it."),
        State::Running if reason.is_some() => warn(detail, "Restart it; if that does not help, send the diagnostics."),
        State::NotInstalled | State::NotCreated => {
            Finding(Verdict::Skipped, detail, Some("start() creates it.".into()))
        }
        _ => ok(detail),
    }
}

/// How many seconds the guest is ahead.
fn clock(ahead: f64) -> Finding {
    let hint = "Tell us of the computer's sleep with notifySuspend() and notifyResume(), or restart the VM.";
    let way = if ahead < 0.0 { "behind" } else { "ahead of" };
    let detail = format!("{:.1} s {way} this computer's", ahead.abs());
    match ahead.abs() {
        off if off < 2.0 => ok("in step with this computer's"),
        // From here on certificates may look not yet or no longer valid.
        off if off < 60.0 => warn(detail, hint),
        _ => fail(detail, hint),
    }
}

fn dns(guest: bool, host: bool, proxied: bool) -> Finding {
    let name = REGISTRY;
    match (guest, host) {
        (true, _) => ok(format!("{name} is found from the VM")),
        (false, _) if proxied => ok(format!("{name} is not found from the VM; a proxy looks it up")),
        (false, true) => fail(
            format!("{name} is found from this computer, but not from the VM"),
            "Restart the VM; after a change of VPN or network its DNS may be out of date.",
        ),
        (false, false) => warn(
            format!("{name} is found neither from this computer nor from the VM"),
            "Look at the network connection.",
        ),
    }
}

#[cfg(test)]
mod tests {
    /// The key is in `lima.yaml`, which is collected.
    #[test]
    fn the_guests_host_key_is_not_shown() {
        let (document, _) = template::with_host_key(template::BUILT_IN).unwrap();
        let (_, rest) = document.split_once("-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
        let (key, _) = rest.split_once("-----END").unwrap();
        let shown = scrub::Scrubber::of_this_machine(None).scrub(&document);
        assert!(key.lines().filter(|line| line.trim().len() > 16).count() > 2);
        for line in key.lines().map(str::trim).filter(|line| line.len() > 16) {
            assert!(!shown.contains(line), "{line}\n{shown}");
        }
        assert!(shown.contains("lima-runtime_host_key") && shown.contains("containerd"), "{shown}");
    }

    use super::*;

    /// A Mac in good order.
    struct Mac {
        version: &'static str,
        platform: Platform,
        translated: bool,
        rosetta: bool,
        quarantined: bool,
        entitlements: Option<&'static str>,
    }

    const GOOD: Mac = Mac {
        version: "14.5",
        platform: Platform::DarwinArm64,
        translated: false,
        rosetta: true,
        quarantined: false,
        entitlements: Some("[Key] com.apple.security.virtualization [Value] [Bool] true"),
    };

    impl System for Mac {
        fn macos(&self) -> Option<String> {
            Some(self.version.into())
        }
        fn platform(&self) -> Result<Platform> {
            Ok(self.platform)
        }
        fn is_translated(&self) -> bool {
            self.translated
        }
        fn has_rosetta(&self) -> bool {
            self.rosetta
        }
        fn entitlements(&self, _: &Path) -> Option<String> {
            self.entitlements.map(Into::into)
        }
        fn is_quarantined(&self, _: &Path) -> bool {
            self.quarantined
        }
        fn has_kvm(&self) -> bool {
            false
        }
        fn is_root(&self) -> bool {
            false
        }
        fn available(&self, _: &Path) -> Option<u64> {
            Some(100 * GIB)
        }
        fn proxies(&self, _: Option<&str>) -> Vec<(String, String)> {
            Vec::new()
        }
    }

    #[test]
    fn a_mac_is_judged() {
        use Verdict::*;
        let verdict = |mac: &Mac, check: fn(&Mac) -> Finding| check(mac).0;
        let version = |m: &Mac| macos(m.macos().as_deref());
        for (text, expected) in [("15", Ok), ("13.0", Ok), ("12.7.6", Fail), ("10.15", Fail), ("?", Warn)] {
            assert_eq!(verdict(&Mac { version: text, ..GOOD }, version), expected, "{text}");
        }
        let processor = |m: &Mac| architecture(m, &m.platform(), true);
        assert_eq!(verdict(&GOOD, processor), Ok);
        assert_eq!(verdict(&Mac { rosetta: false, ..GOOD }, processor), Warn);
        assert_eq!(verdict(&Mac { rosetta: false, ..GOOD }, |m| architecture(m, &m.platform(), false)), Ok);
        assert_eq!(verdict(&Mac { translated: true, ..GOOD }, processor), Warn);
        let intel = Mac { platform: Platform::DarwinX64, rosetta: false, ..GOOD };
        assert_eq!(verdict(&intel, processor), Ok);
        let unknown = architecture(&GOOD, &Err(Error::new(ErrorCode::UnsupportedPlatform, "no")), true);
        assert_eq!(unknown.0, Fail);

        let vm = |m: &Mac| virtualization(m, Path::new("/"));
        assert_eq!(verdict(&GOOD, vm), Ok);
        assert_eq!(verdict(&Mac { quarantined: true, ..GOOD }, vm), Fail);
        assert_eq!(verdict(&Mac { entitlements: Some("com.apple.security.network.client"), ..GOOD }, vm), Fail);
        assert_eq!(verdict(&Mac { entitlements: None, ..GOOD }, vm), Warn);
        assert_eq!(virtualization(&GOOD, Path::new("/none/limactl")).0, Skipped);
    }

    #[test]
    fn the_rest_is_judged() {
        use Verdict::*;
        let dir = Path::new("/d");
        for (gib, expected) in [(100, Ok), (10, Ok), (9, Warn), (2, Warn), (1, Fail), (0, Fail)] {
            assert_eq!(space(Some(gib * GIB), dir).0, expected, "{gib}");
        }
        assert_eq!(space(None, dir).0, Skipped);
        for (ahead, expected) in [(0.3, Ok), (-1.9, Ok), (2.5, Warn), (-59.0, Warn), (61.0, Fail), (-86400.0, Fail)] {
            assert_eq!(clock(ahead).0, expected, "{ahead}");
        }
        assert!(clock(-5.0).1.contains("5.0 s behind"));
        for (guest, host, proxied, expected) in
            [(true, true, false, Ok), (false, true, false, Fail), (false, false, false, Warn), (false, true, true, Ok)]
        {
            assert_eq!(dns(guest, host, proxied).0, expected);
        }
        for (port, running, free, expected) in [
            (Some(1), true, false, Ok),
            (Some(1), false, true, Ok),
            (Some(1), false, false, Warn),
            (None, false, true, Ok),
            (None, false, false, Fail),
        ] {
            assert_eq!(ports(port, running, |_| free).0, expected);
        }
        for (one, reason, expected) in [
            (State::Running, None, Ok),
            (State::Running, Some("Part of its setup failed"), Warn),
            (State::Stopped, None, Ok),
            (State::Broken, Some("x"), Fail),
            (State::NotCreated, None, Skipped),
        ] {
            assert_eq!(state(one, reason).0, expected);
        }
        assert_eq!(version_in("Client:\n  Version:  1.6.20\n\nServer:\n  Version:  v2.1.4\n"), Some("v2.1.4"));
    }

    #[test]
    fn a_proxy_is_shown_without_its_password() {
        let of = |value: &str| proxy(&[("https_proxy".into(), value.into())]);
        assert_eq!(of("http://me:secret@proxy:3128"), ok("https_proxy=http://proxy:3128"));
        assert_eq!(of("proxy:3128"), ok("https_proxy=http://proxy:3128"));
        assert_eq!(of("me:secret@"), warn("https_proxy is no address of a proxy", "Write it as http://host:port."));
        assert_eq!(proxy(&[]), ok("none"));
        assert_eq!(proxy(&[("no_proxy".into(), "localhost,10.0.0.0/8".into())]).0, Verdict::Ok);
    }

    #[test]
    fn every_failure_says_what_to_do() {
        let all = [
            macos(Some("12")),
            virtualization(&Mac { quarantined: true, ..GOOD }, Path::new("/")),
            space(Some(0), Path::new("/")),
            ports(None, false, |_| false),
            state(State::Broken, None),
            clock(100.0),
            dns(false, true, false),
        ];
        for Finding(verdict, detail, hint) in all {
            assert!(verdict == Verdict::Fail && !detail.is_empty() && hint.is_some_and(|h| h.ends_with(['.', '\''])));
        }
    }
}
