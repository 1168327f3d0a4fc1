//! Removing what nothing uses. nerdctl's own prune tells no bytes, and takes more than was asked for
//! (docs/reference/nerdctl.md#prune): each thing is found and removed by itself.

use super::{
    container::{lifecycle, spec::used_volumes},
    image::images,
    network::networks,
    prelude::*,
    system, volume,
};
use crate::call::{CONTAINER_CALL, timed_out};

pub(crate) async fn prune(c: &Containerd, options: &PruneOptions) -> Result<PruneResult> {
    // On an engine that is not ours, only what carries our label.
    let own_only = match options.scope {
        Some(scope) => scope == PruneScope::App,
        None => !c.settings.private,
    };
    let app = c.settings.app.as_str();
    let ours = |labels: Option<&str>| !own_only || labels == Some(app);
    let mut result = PruneResult::default();
    // Containers first: what only they used is unused then.
    if options.containers == Some(true) {
        let all = c.everything().await?;
        let ended = |(_, task): &&WithTask| {
            task.as_ref().is_none_or(|t| t.exit_code.is_some() || t.state == ContainerState::Stopped)
        };
        let label = |(container, _): &&WithTask| ours(container.labels.get(APP_LABEL).map(String::as_str));
        for (container, _) in all.iter().filter(ended).filter(label) {
            let size = c.api.snapshot_size(&container.snapshot_key).await?.unwrap_or_default();
            if gone(in_time(lifecycle::remove(c, &container.id, false)).await)? {
                result.containers_deleted += 1;
                result.reclaim(size);
            }
        }
    }
    if options.networks == Some(true) {
        let used: Vec<String> = c.api.containers(vec![]).await?.iter().flat_map(labels::networks).collect();
        for network in networks::all(c).await? {
            let mine = !own_only || network.has_label(APP_LABEL, app);
            if mine && !network.is_default() && !used.contains(&network.name) {
                result.networks_deleted += u64::from(gone(in_time(networks::remove(c, &network.name)).await)?);
            }
        }
    }
    if options.volumes == Some(true) {
        let used = used_volumes(&c.api.containers(vec![]).await?);
        let all = volume::all(c).await?;
        let unused = |v: &&volume::Volume| !used.contains(&v.name) && ours(v.labels.get(APP_LABEL).map(String::as_str));
        let unused: Vec<_> = all.iter().filter(unused).collect();
        let sizes = volume::sizes(c, &unused).await?;
        for (volume, size) in unused.into_iter().zip(sizes) {
            if gone(in_time(volume::remove(c, &volume.name, false)).await)? {
                result.volumes_deleted += 1;
                result.reclaim(size);
            }
        }
    }
    if options.images == Some(true) {
        let used: Vec<String> = c.api.containers(vec![]).await?.into_iter().map(|c| c.image).collect();
        let dangling = |g: &images::Group| {
            let label = g.facts.as_ref().and_then(|f| f.labels.get(APP_LABEL)).map(String::as_str);
            g.is_dangling() && ours(label) && !g.names.iter().any(|n| used.contains(n))
        };
        let dangling: Vec<_> = images::groups(c).await?.into_iter().filter(dangling).collect();
        if !dangling.is_empty() {
            let before = system::stored(c).await?;
            for group in dangling {
                for name in &group.names {
                    c.api.delete_image(name).await?;
                }
                result.images_deleted += 1;
            }
            result.reclaim(before.saturating_sub(system::stored(c).await?));
        }
    }
    Ok(result)
}

/// Each removal has as long as one that is asked for by itself: a nerdctl that hangs would hold up all writes after it.
async fn in_time<T>(removal: impl Future<Output = Result<T>>) -> Result<T> {
    let removed = tokio::time::timeout(CONTAINER_CALL, removal).await;
    removed.unwrap_or_else(|_| Err(timed_out(CONTAINER_CALL)))
}

/// What somebody else removed, or took into use meanwhile, is not ours to count.
fn gone<T>(removed: Result<T>) -> Result<bool, Error> {
    use ErrorCode::{ContainerNotFound, InUse, NetworkNotFound, VolumeNotFound};
    match removed {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.code(), ContainerNotFound | InUse | NetworkNotFound | VolumeNotFound) => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_removal_that_hangs_is_given_up() {
        let began = tokio::time::Instant::now();
        let e = in_time(std::future::pending::<Result<()>>()).await.unwrap_err();
        assert_eq!((e.code(), began.elapsed()), (ErrorCode::Timeout, CONTAINER_CALL));
        assert!(gone::<()>(Err(e)).is_err());
        assert_eq!(in_time(async { Ok(7) }).await.unwrap(), 7);
    }
}
