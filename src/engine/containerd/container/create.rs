//! Making a container.

use std::collections::HashMap;

use super::super::{
    image::images,
    nerdctl::{
        labels::{
            ASKED, AUTO_REMOVE, DOMAINNAME, EMPTY, HEALTHCHECK, HOSTNAME, IMAGE, IP, IP6, MAC, MONITOR_LOG,
            MONITOR_POLICY, MONITOR_STATUS, OUR_STATUS, PID_CONTAINER, PRIVILEGED, RESTART, STOP_SIGNAL, STOP_TIMEOUT,
            UNFINISHED,
        },
        runner::printed_id,
    },
    network::networks,
    prelude::*,
};
use super::{
    find::find,
    flags, health, logger, mounts,
    ports::{check_addresses, check_ports, free_ports, with_chosen_ports},
    record,
    restart_policy::{monitored, policy_name},
};
use crate::{
    call,
    engine::{config, host},
};

pub(crate) async fn create(c: &Containerd, spec: &ContainerSpec) -> Result<String> {
    flags::check(spec, c.nerdctl.version().await)?;
    flags::check_machine(c, spec).await?;
    let spec = &*with_chosen_ports(c, spec).await?;
    let ours = our_labels(c, spec).await?;
    check_ports(spec)?;
    check_addresses(c, spec).await?;
    let args = arguments(c, spec, &ours).await?;
    if let Some(host) = &c.settings.host {
        host::check_published(host.as_ref(), spec).await?;
    }
    let create = async || c.nerdctl.write(About::Container(&spec.name), args.iter().map(String::as_str)).await;
    let created = match create().await {
        Err(e) if e.code() == ErrorCode::NameInUse && free_stale_name(c, &spec.name, e.message()).await? => {
            create().await
        }
        Err(e) if e.code() == ErrorCode::PortInUse && free_ports(c, spec).await? => create().await,
        other => other,
    };
    let id = printed_id(&created.map_err(|e| explained(e, spec))?)?;
    if let Err(e) = complete(c, spec, &ours, &id).await {
        let own = c.api.container(&id).await.is_ok_and(|made| record::takes_own_volumes(&made));
        let args = ["rm", "--force"].into_iter().chain(own.then_some("--volumes"));
        _ = c.nerdctl.write(About::Container(&id), args.chain([id.as_str()])).await;
        return Err(e);
    }
    if !spec.ports.is_empty() && spec.networks.iter().any(|n| n == "host") {
        // As Docker says it.
        let warning = "Published ports are discarded when using host network mode";
        call::warn(Error::new(ErrorCode::EngineWarning, warning).detail("container", spec.name.as_str()));
    }
    Ok(id)
}

/// Labels that a container is made with: the caller's and our notes.
async fn our_labels(c: &Containerd, spec: &ContainerSpec) -> Result<Labels> {
    let mut all = spec.labels.clone();
    all.insert(IMAGE.into(), spec.image.clone());
    if let Some(policy) = spec.restart.filter(|p| *p != RestartPolicy::No) {
        all.insert(RESTART.into(), policy_name(policy).into());
    }
    let asked = asked_of_nerdctl(c, spec).await?;
    if !asked.is_empty() {
        all.insert(ASKED.into(), serde_json::json!(asked).to_string());
    }
    if spec.auto_remove {
        all.insert(AUTO_REMOVE.into(), "true".into());
    }
    let empty: Vec<&String> = spec.labels.iter().filter(|(_, v)| v.is_empty()).map(|(k, _)| k).collect();
    if !empty.is_empty() {
        all.insert(EMPTY.into(), serde_json::json!(empty).to_string());
    }
    match all.iter().find(|(k, v)| k.len() + v.len() > 4096) {
        None => Ok(all),
        Some((key, _)) => {
            Err(Error::invalid(format!("labels.{key}"), "containerd takes 4096 bytes for a label's key and value"))
        }
    }
}

/// The labels that nerdctl writes only where a setting asks for it.
async fn asked_of_nerdctl(c: &Containerd, spec: &ContainerSpec) -> Result<Labels> {
    let mut asked = Labels::new();
    let mut note = |key: &str, value: Option<&String>| asked.extend(value.map(|v| (key.to_owned(), v.clone())));
    for options in spec.network_options.values() {
        note(IP, options.ipv4.as_ref());
        note(IP6, options.ipv6.as_ref());
        note(MAC, options.mac.as_ref());
    }
    note(DOMAINNAME, spec.domainname.as_ref());
    note(PRIVILEGED, spec.privileged.then(|| "true".to_owned()).as_ref());
    if let Some(other) = spec.pid_mode.as_deref().and_then(config::container_of) {
        note(PID_CONTAINER, Some(&find(c, other).await?.id));
    }
    Ok(asked)
}

/// The names by which others of its network find a container: nerdctl's hook writes what this label says into their
/// `/etc/hosts` (docs/reference/nerdctl.md#hosts-files), and has no flag for more than one.
fn names_in_networks(spec: &ContainerSpec, made: &Container) -> Option<String> {
    let aliases: Vec<&str> = spec.network_options.values().flat_map(|o| &o.aliases).map(String::as_str).collect();
    if aliases.is_empty() {
        return None;
    }
    let own = made.labels.get(HOSTNAME).map(String::as_str).unwrap_or_default();
    let aliases = aliases.join(" ");
    // The hook puts the domain behind the last word.
    Some(if spec.domainname.is_some() { format!("{aliases} {own}") } else { format!("{own} {aliases}") })
}

/// Writes into the record what nerdctl has no flag for, or takes only as an argument that others can read, and removes the labels
/// that it took from the image. Nothing starts the container before: the monitor ignores a record without a status.
async fn complete(c: &Containerd, spec: &ContainerSpec, ours: &Labels, id: &str) -> Result<()> {
    let made = c.api.container(id).await?;
    let dir = c.files.container_dir(id).await?;
    let of_image = record::of_image(&made, ours, c.namespace(), &dir);
    let mut changes: HashMap<String, String> = of_image.iter().map(|key| (key.clone(), String::new())).collect();
    changes.insert(UNFINISHED.to_owned(), String::new());
    // nerdctl reads its flags' values as CSV, whose \r\n is \n (docs/reference/nerdctl.md#flag-values).
    let altered = ours.iter().filter(|(key, value)| made.labels.get(*key).is_some_and(|v| v != *value));
    changes.extend(altered.map(|(key, value)| (key.clone(), value.clone())));
    if let Some(check) = spec.healthcheck.as_ref().filter(|h| h.test.first().is_some_and(|t| t != "NONE")) {
        changes.insert(HEALTHCHECK.to_owned(), health::healthcheck(check));
    }
    if spec.logging.as_ref().is_none_or(|l| l.driver == flags::JSON_FILE) {
        changes.extend(logger::install(c, &made, &dir).await?);
    }
    // nerdctl takes the image's signal before its flag's, and a timeout of 0 for none.
    changes.extend(spec.stop_signal.iter().map(|name| (STOP_SIGNAL.to_owned(), name.to_ascii_uppercase())));
    changes.extend(spec.stop_timeout.map(|t| (STOP_TIMEOUT.to_owned(), config::whole(t).to_string())));
    if let Some(policy) = spec.restart.filter(|p| *p != RestartPolicy::No) {
        if let Some(policy) = monitored(c, policy).await? {
            let log = changes.get(labels::LOG_URI).or_else(|| made.labels.get(labels::LOG_URI)).cloned();
            changes.insert(MONITOR_POLICY.to_owned(), policy.to_owned());
            // Else the monitor starts what was only created.
            changes.insert(MONITOR_STATUS.to_owned(), "stopped".to_owned());
            changes.insert(MONITOR_LOG.to_owned(), log.unwrap_or_default());
        } else {
            changes.insert(OUR_STATUS.to_owned(), "stopped".to_owned());
        }
    }
    record::rewrite(c, &made, changes, &spec.env, names_in_networks(spec, &made)).await?;
    record::warn(spec, &of_image);
    Ok(())
}

fn explained(e: Error, spec: &ContainerSpec) -> Error {
    let again = |code, message: String, hint: &str| {
        Error::new(code, message).hint(hint).source(Error::new(e.code(), e.message()))
    };
    match e.code() {
        ErrorCode::NameInUse => again(
            e.code(),
            format!("The name {} is taken", spec.name),
            "Remove the container of that name, or choose another.",
        ),
        ErrorCode::PortInUse => {
            let port =
                spec.ports.values().map(|p| p.rsplit(':').next().unwrap_or(p)).find(|p| e.message().contains(*p));
            let port = port.map_or_else(|| e.message().to_owned(), |p| format!("Host port {p} is taken"));
            again(e.code(), port, "Stop what listens on it, or choose another host port.")
        }
        ErrorCode::ImageNotFound => {
            Error::new(e.code(), format!("No such image: {}", spec.image)).detail("image", spec.image.as_str())
        }
        ErrorCode::NetworkNotFound => {
            let network = spec.networks.iter().find(|n| e.message().contains(n.as_str())).or(spec.networks.first());
            Error::new(e.code(), format!("No such network: {}", network.map_or("", String::as_str)))
        }
        _ => e,
    }
}

/// `nerdctl create …`.
async fn arguments(c: &Containerd, spec: &ContainerSpec, ours: &Labels) -> Result<Vec<String>> {
    let mut args: Vec<String> = vec!["create".into(), format!("--name={}", spec.name), "--pull=never".into()];
    for (container, host) in &spec.ports {
        let host = if host.contains(':') || !c.settings.private { host.clone() } else { format!("127.0.0.1:{host}") };
        args.push(format!("--publish={host}:{container}"));
    }
    for (i, v) in spec.volumes.iter().enumerate() {
        args.push(mounts::volume(c, i, v).await?);
    }
    args.extend(flags::of(c, spec).await?);
    args.extend(networks::names_of(c, &spec.networks).await?.iter().map(|n| format!("--network={n}")));
    if let Some(platform) = &spec.platform {
        args.push(format!("--platform={platform}"));
    }
    if spec.healthcheck.as_ref().is_some_and(|check| check.test.first().is_some_and(|t| t == "NONE")) {
        args.push("--no-healthcheck".into());
    }
    // An empty value goes before the image's own label, and containerd does not keep it.
    args.push(format!("--label={MONITOR_STATUS}="));
    args.push(format!("--label={UNFINISHED}=true"));
    args.extend(ours.iter().map(|(k, v)| format!("--label={k}={v}")));
    args.push(name_of_image(c, &spec.image).await?);
    let command = flags::command(spec);
    if !command.is_empty() {
        // nerdctl removes the first `--`, and no other.
        args.push("--".into());
        args.extend(command.iter().cloned());
    }
    Ok(args)
}

/// nerdctl 2.1 does not find an image by Docker's id of it.
async fn name_of_image(c: &Containerd, image: &str) -> Result<String> {
    if !reference::is_id(image) {
        return Ok(image.to_owned());
    }
    Ok(images::resolve(c, image).await?.into_iter().next().unwrap_or_else(|| image.to_owned()))
}

/// A name whose container is gone, left behind by a nerdctl that was killed
/// (docs/reference/nerdctl.md#names-left-behind).
async fn free_stale_name(c: &Containerd, name: &str, message: &str) -> Result<bool> {
    let Some(id) = message.split("is already used by ID \"").nth(1).and_then(|rest| rest.split('"').next()) else {
        return Ok(false);
    };
    if id.len() != 64 || c.api.container(id).await.err().is_none_or(|e| e.code() != ErrorCode::ContainerNotFound) {
        return Ok(false);
    }
    let (store, ns) = (c.files.store().await?, c.namespace());
    // Of 2.1 and of 2.2.
    let files = [format!("{store}/{ns}/{name}"), format!("{store}/names/{ns}/{name}")];
    let argv = ["rm", "-f", "--"].into_iter().chain(files.iter().map(String::as_str));
    c.guest().run(c.command(argv)).await?.checked("rm")?;
    Ok(true)
}
