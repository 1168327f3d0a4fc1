//! Which ports this application asked an engine elsewhere to publish, remembered over its runs. What such an engine says of a
//! container, its labels included, may be the word of anybody who shares it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::endpoint::Endpoint;
use crate::{
    error::Result,
    fetch::{disk, owner},
};

/// More are not read: each is a file.
const MOST: usize = 4096;

/// One file for each container, so that processes of the application need not wait for each other.
#[derive(Debug, Clone)]
pub(super) struct Noted {
    app_dir: PathBuf,
    endpoint: String,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    endpoint: String,
    id: String,
    #[serde(flatten)]
    asked: Asked,
}

/// What a container was created with.
#[derive(Default, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Asked {
    pub(super) ports: BTreeSet<u16>,
    /// How many the engine may choose.
    pub(super) any: usize,
}

impl Noted {
    pub(super) fn new(app_dir: &Path, endpoint: &Endpoint) -> Self {
        Self { app_dir: app_dir.to_owned(), endpoint: endpoint.to_string() }
    }

    fn dir(&self) -> PathBuf {
        self.app_dir.join("ports")
    }

    /// The engine chooses the id.
    fn file(&self, id: &str) -> PathBuf {
        let name = hex::encode(Sha256::digest(format!("{}\0{id}", self.endpoint)));
        self.dir().join(format!("{name}.json"))
    }

    /// The ports of each container, by its full id. Nothing where somebody else may have written them.
    pub(super) fn read(&self) -> BTreeMap<String, Asked> {
        if owner::check(&self.app_dir).and_then(|()| owner::check(&self.dir())).is_err() {
            return BTreeMap::new();
        }
        let entries = disk::entries(&self.dir()).into_iter().take(MOST);
        let entries = entries.filter_map(|path| disk::read_json::<Entry>(&path).filter(|e| self.file(&e.id) == path));
        entries.filter(|e| e.endpoint == self.endpoint).map(|e| (e.id, e.asked)).collect()
    }

    pub(super) fn write(&self, id: &str, asked: &Asked) -> Result<()> {
        owner::check(&self.app_dir)?;
        disk::create_dir(&self.dir())?;
        owner::check(&self.dir())?;
        let entry = Entry { endpoint: self.endpoint.clone(), id: id.to_owned(), asked: asked.clone() };
        disk::write_json(&self.file(id), &entry)
    }

    /// The container is gone.
    pub(super) fn forget(&self, id: &str) {
        if let Err(error) = disk::remove(&self.file(id)) {
            tracing::debug!(%error, "the ports of a container that is gone stay noted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_remembered_for_one_engine_whatever_the_id() {
        let dir = tempfile::tempdir().unwrap();
        let noted = |host: &str| Noted::new(dir.path(), &Endpoint::parse("host", host, None).unwrap());
        let (here, there) = (noted("ssh://me@one"), noted("ssh://me@two"));
        assert!(here.read().is_empty());
        let ports = [("a", 80), ("../../../x", 81), ("", 82)];
        let ports = ports.map(|(id, port)| (id.to_owned(), Asked { ports: [port].into(), any: 1 }));
        for (id, asked) in &ports {
            here.write(id, asked).unwrap();
        }
        assert_eq!(here.read(), ports.into());
        assert!(there.read().is_empty());
        // A copy of a file counts for nothing, nor does what cannot be read.
        std::fs::copy(here.file("a"), there.file("a")).unwrap();
        std::fs::write(here.dir().join("x.json"), "{").unwrap();
        assert!(there.read().is_empty() && here.read().len() == 3);
        here.forget("a");
        here.forget("a");
        assert_eq!(here.read().len(), 2);
    }
}
