//! What a project builds, where its compose finds no BuildKit beside it: our own build does it, by the engine's BuildKit and with the
//! user's credentials.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use serde_norway::Value;

use super::{
    super::{
        backend::Engine,
        build::{Build, BuildContext},
        host::Host,
        types::*,
    },
    Action, Composition,
};
use crate::{
    call,
    error::{Error, ErrorCode, Result},
    fetch::held::Links,
    progress::{BuildProgress, ComposeProgress, ComposeState, Sink},
    task,
};

#[derive(Deserialize)]
struct Project {
    services: BTreeMap<String, Service>,
}

#[derive(Deserialize)]
struct Service {
    image: Option<String>,
    build: Option<Recipe>,
    platform: Option<String>,
    pull_policy: Option<String>,
}

/// As `config` writes it, with every `$` twice.
#[derive(Deserialize)]
struct Recipe {
    context: String,
    dockerfile: Option<String>,
    #[serde(default)]
    args: BTreeMap<String, Option<String>>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    target: Option<String>,
    #[serde(default)]
    cache_from: Vec<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    no_cache: bool,
    #[serde(default)]
    pull: bool,
    /// What our build does not know.
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// One image, ready to be built.
#[derive(Debug, PartialEq)]
struct Order {
    image: String,
    platform: Option<String>,
    /// Also where it is there.
    always: bool,
    /// In the guest.
    context: String,
    dockerfile: String,
    args: BTreeMap<String, String>,
    labels: Labels,
    target: Option<String>,
    cache_from: Vec<String>,
    tags: Vec<String>,
    no_cache: bool,
    pull: bool,
}

/// What is built of the project that `config` shows; nothing where something of it is compose's to build.
fn orders(config: &[u8], project: &str, all: bool) -> Option<Vec<Order>> {
    let Project { services } = serde_norway::from_slice(config).ok()?;
    let built = services.into_iter().filter(|(_, service)| service.build.is_some());
    built.map(|(name, service)| order(project, &name, service, all)).collect()
}

fn order(project: &str, name: &str, service: Service, all: bool) -> Option<Order> {
    let Service { image, build, platform, pull_policy } = service;
    let Recipe { context, dockerfile, args, labels, target, cache_from, tags, no_cache, pull, others } = build?;
    // Paths are absolute; anything else is a repository, or another service's.
    let context = plain(&context);
    if !others.is_empty() || !context.starts_with('/') {
        return None;
    }
    let dockerfile = dockerfile.map_or_else(|| "Dockerfile".to_owned(), |path| plain(&path));
    let dockerfile = match dockerfile.strip_prefix('/') {
        None => dockerfile,
        Some(_) => dockerfile.strip_prefix(&format!("{}/", context.trim_end_matches('/')))?.to_owned(),
    };
    Some(Order {
        image: image.unwrap_or_else(|| format!("{project}-{name}")),
        platform,
        always: all || pull_policy.as_deref() == Some("build"),
        context,
        dockerfile,
        // One without a value has it from the environment.
        args: args.into_iter().map(|(name, value)| Some((name, plain(&value?)))).collect::<Option<_>>()?,
        labels: labels.into_iter().map(|(name, value)| (plain(&name), plain(&value))).collect(),
        target,
        cache_from,
        tags,
        no_cache,
        pull,
    })
}

fn plain(text: &str) -> String {
    text.replace("$$", "$")
}

/// Builds what an `up` needs, if our build can do all of it; compose then builds nothing.
pub(crate) async fn build(
    engine: &dyn Engine,
    host: &Arc<dyn Host>,
    run: &mut Composition,
    config: &[u8],
    sink: &Sink<ComposeProgress>,
) -> Result<()> {
    let (gone, project) = (run.gone.clone(), run.name.clone());
    let Action::Up { build, .. } = &mut run.action else { return Ok(()) };
    let Some(orders) = orders(config, &project, *build == Some(true)) else { return Ok(()) };
    let mut ready = Vec::with_capacity(orders.len());
    for order in orders {
        let (host, context) = (host.clone(), order.context.clone());
        match task::blocking(move || Ok(here(host.as_ref(), &context))).await? {
            Some(context) => ready.push((order, context)),
            None => return Ok(()),
        }
    }
    if ready.is_empty() {
        return Ok(());
    }
    let work = async {
        for (order, context) in ready {
            if order.always || !engine.image_exists(&order.image, order.platform.as_deref()).await? {
                one(engine, order, context, sink).await?;
            }
        }
        Ok::<_, Error>(())
    };
    tokio::select! {
        done = work => done?,
        () = gone.cancelled() => return Err(call::aborted()),
    }
    *build = Some(false);
    Ok(())
}

/// Where this computer has a directory of the guest. The guest says its name, and may make links in what it sees: what it leads to
/// is what the guest sees, too.
fn here(host: &dyn Host, context: &str) -> Option<String> {
    let (mount, path) = host.host_path(context)?;
    let (mount, path) = (std::fs::canonicalize(mount).ok()?, std::fs::canonicalize(path).ok()?);
    let path = path.strip_prefix(&mount).is_ok().then_some(path)?;
    let path = path.to_str().filter(|path| !path.starts_with(r"\\?\UNC"))?;
    // As other programs write it.
    Some(path.strip_prefix(r"\\?\").unwrap_or(path).to_owned())
}

async fn one(engine: &dyn Engine, order: Order, context: String, sink: &Sink<ComposeProgress>) -> Result<()> {
    let Order { image, platform, dockerfile, args, labels, target, cache_from, mut tags, no_cache, pull, .. } = order;
    tags.insert(0, image.clone());
    let options = BuildOptions {
        dockerfile: Some(dockerfile),
        tags,
        args,
        target,
        platform,
        labels,
        cache_from,
        no_cache,
        pull,
        ..BuildOptions::default()
    };
    let of_image = |status: &str, state| ComposeProgress {
        resource: format!("Image {image}"),
        ..ComposeProgress::whole(status, state)
    };
    sink(of_image("Building", ComposeState::Working));
    let told = told(&image, sink);
    let built = async {
        let context = BuildContext::Directory(context);
        let build = Build::of(context, options, Links::Refused, &told).await.map_err(|e| match e.code() {
            ErrorCode::InvalidArgument => Error::invalid("project", format!("build of {image}: {}", e.message())),
            _ => e,
        })?;
        engine.build(build, &told).await
    };
    if let Err(e) = built.await {
        sink(of_image(e.message(), ComposeState::Failed));
        return Err(e);
    }
    sink(of_image("Built", ComposeState::Done));
    Ok(())
}

/// A build's events as the project's. What its programs print is not told.
fn told(image: &str, sink: &Sink<ComposeProgress>) -> Sink<BuildProgress> {
    let (resource, sink) = (format!("Image {image}"), sink.clone());
    Arc::new(move |event| {
        let working = |status: &str| ComposeProgress {
            resource: resource.clone(),
            ..ComposeProgress::whole(status, ComposeState::Working)
        };
        match event {
            BuildProgress::Step { name, .. } => sink(working(&name)),
            BuildProgress::Bytes { name, current, total, .. } => {
                sink(ComposeProgress { current: Some(current), total, ..working(&name) });
            }
            BuildProgress::Log { .. } => {}
        }
    })
}

#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn fuzz(data: &[u8]) {
    for order in orders(data, "demo", false).unwrap_or_default() {
        assert!(order.context.starts_with('/'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order_of(build: &str) -> Option<Order> {
        let config = format!("services: {{web: {{build: {build}}}, plain: {{image: a}}}}");
        orders(config.as_bytes(), "demo", false)?.pop()
    }

    #[test]
    fn what_our_build_knows_is_ours_and_the_rest_composes() {
        let order = order_of(
            r#"{context: /srv/$$x, dockerfile: /srv/$$x/sub/Dockerfile, args: {A: "a$$b", B: ""}, target: t, no_cache: true,
                tags: ["r/x:1"], labels: {l: "v"}, pull: true, cache_from: ["r/x"]}"#,
        )
        .unwrap();
        assert_eq!(
            (order.image.as_str(), order.context.as_str(), order.dockerfile.as_str()),
            ("demo-web", "/srv/$x", "sub/Dockerfile")
        );
        assert_eq!(order.args["A"], "a$b");
        assert!(order.no_cache && order.pull && !order.always);
        assert_eq!(order_of("{context: /srv}").unwrap().dockerfile, "Dockerfile");
        for others in [
            "{context: https://example.com/a.git}",
            "{context: /srv, secrets: [a]}",
            "{context: /srv, dockerfile_inline: FROM a}",
            "{context: /srv, args: {A: null}}",
            "{context: /srv, dockerfile: /etc/Dockerfile}",
            "{context: /srv, additional_contexts: {a: service:plain}}",
        ] {
            assert_eq!(order_of(others), None, "{others}");
        }
        let of = |all| {
            orders(
                b"services: {a: {image: i, build: {context: /a}, pull_policy: build}, b: {build: {context: /b}}}",
                "p",
                all,
            )
        };
        let always = |all| of(all).unwrap().into_iter().map(|o| (o.image, o.always)).collect::<Vec<_>>();
        assert_eq!(always(false), [("i".to_owned(), true), ("p-b".to_owned(), false)]);
        assert_eq!(always(true), [("i".to_owned(), true), ("p-b".to_owned(), true)]);
    }

    #[cfg(unix)]
    #[test]
    fn a_context_is_read_only_of_what_the_guest_sees() {
        use crate::engine::host::{Host, HostPort};

        struct Mounted(Vec<(String, String)>);
        #[async_trait::async_trait]
        impl Host for Mounted {
            fn mounts(&self) -> Vec<(String, String)> {
                self.0.clone()
            }
            fn forwards(&self, _: Protocol) -> bool {
                true
            }
            async fn check_ports(&self, _: &[HostPort]) -> Result<()> {
                Ok(())
            }
            async fn await_ports(&self, _: &[HostPort]) -> Result<()> {
                Ok(())
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("seen/app")).unwrap();
        std::fs::create_dir_all(at("unseen")).unwrap();
        std::os::unix::fs::symlink(at("unseen"), at("seen/out")).unwrap();
        std::os::unix::fs::symlink("app", at("seen/in")).unwrap();
        let host = Mounted(vec![(at("seen").display().to_string(), "/there".into())]);
        let real = std::fs::canonicalize(at("seen/app")).unwrap().display().to_string();
        assert_eq!(here(&host, "/there/app").as_deref(), Some(real.as_str()));
        assert_eq!(here(&host, "/there/in").as_deref(), Some(real.as_str()));
        for out in ["/there/out", "/there/../unseen", "/elsewhere", "/there/nothing", "/thereabouts"] {
            assert_eq!(here(&host, out), None, "{out}");
        }
    }
}
