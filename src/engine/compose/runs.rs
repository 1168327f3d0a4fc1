use std::{collections::HashMap, sync::Arc};

use crate::mutex::Mutex;

/// The projects that compose works on. Who aborts an `up` takes down what it has made, but nothing of another's.
#[derive(Clone, Default)]
pub(crate) struct Runs(Arc<Mutex<HashMap<String, Project>>>);

#[derive(Default)]
struct Project {
    running: usize,
    /// Whether more than one has worked on it at a time since nobody did.
    shared: bool,
}

pub(crate) struct Run {
    runs: Runs,
    name: String,
}

impl Runs {
    pub(crate) fn join(&self, name: &str) -> Run {
        let mut all = self.0.lock();
        let project = all.entry(name.to_owned()).or_default();
        project.running += 1;
        project.shared |= project.running > 1;
        Run { runs: self.clone(), name: name.to_owned() }
    }
}

impl Run {
    pub(crate) fn is_alone(&self) -> bool {
        self.runs.0.lock().get(&self.name).is_some_and(|project| !project.shared)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let mut all = self.runs.0.lock();
        let Some(project) = all.get_mut(&self.name) else { return };
        project.running -= 1;
        if project.running == 0 {
            all.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_anothers_too_as_long_as_anybody_works_on_it() {
        let runs = Runs::default();
        let (first, other) = (runs.join("a"), runs.join("b"));
        assert!(first.is_alone() && other.is_alone());
        let second = runs.join("a");
        assert!(!first.is_alone() && !second.is_alone() && other.is_alone());
        drop(second);
        assert!(!first.is_alone(), "what the other made is there");
        drop(first);
        assert!(runs.join("a").is_alone());
    }
}
