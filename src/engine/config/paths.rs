//! The paths of a machine that a container mounts: in `volumes` and in `mounts`.

use super::{
    super::{types::ContainerSpec, validate},
    types::MountKind,
};

/// Each with the name of its field, in their order.
pub(crate) fn host_paths(spec: &ContainerSpec) -> impl Iterator<Item = (String, &str)> {
    let volumes = (spec.volumes.iter().enumerate())
        .filter(|(_, v)| validate::is_host_path(&v.host))
        .map(|(i, v)| (format!("volumes[{i}].host"), v.host.as_str()));
    let mounts = (spec.mounts.iter().enumerate())
        .filter(|(_, m)| m.kind == MountKind::Bind)
        .filter_map(|(i, m)| Some((format!("mounts[{i}].source"), m.source.as_deref()?)));
    volumes.chain(mounts)
}

/// The same paths, to be changed.
pub(crate) fn host_paths_mut(spec: &mut ContainerSpec) -> impl Iterator<Item = &mut String> {
    let volumes = spec.volumes.iter_mut().map(|v| &mut v.host).filter(|host| validate::is_host_path(host));
    let mounts = spec.mounts.iter_mut().filter(|m| m.kind == MountKind::Bind).filter_map(|m| m.source.as_mut());
    volumes.chain(mounts)
}
