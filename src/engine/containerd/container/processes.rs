//! What runs in a container, as `ps` of its containerd's machine lists it, which is what Docker does, too.

use std::collections::HashSet;

use super::{super::prelude::*, find::running_or_paused};

pub(crate) async fn processes(c: &Containerd, id: &str) -> Result<ProcessList> {
    let (container, _) = running_or_paused(c, id).await?;
    // In this order: one that begins meanwhile is missing, and none is taken for another.
    let pids = c.api.pids(&container.id).await?;
    let listed = c.guest().run(c.inside(["ps", "-ef"])).await?.checked("ps")?;
    Ok(of(&String::from_utf8_lossy(&listed), &pids.into_iter().collect()))
}

fn of(listed: &str, pids: &HashSet<u32>) -> ProcessList {
    let mut lines = listed.lines();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let titles = lines.next().map(words).unwrap_or_default();
    let Some(at) = titles.iter().position(|t| t == "PID") else { return ProcessList::default() };
    let row = |line: &str| {
        let mut fields = words(line);
        let is_ours = fields.get(at).and_then(|pid| pid.parse().ok()).is_some_and(|pid| pids.contains(&pid));
        // The last column is the command, with blanks in it.
        let command = (fields.len() > titles.len()).then(|| fields.split_off(titles.len() - 1).join(" "));
        fields.extend(command);
        is_ours.then_some(fields)
    };
    let processes = lines.filter_map(row).collect();
    ProcessList { titles, processes }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(data: &[u8]) {
    let list = of(&String::from_utf8_lossy(data), &HashSet::from([1, 7]));
    assert!(list.processes.iter().all(|row| row.len() <= list.titles.len()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_the_container_with_their_whole_command() {
        let listed = "UID          PID    PPID  C STIME TTY          TIME CMD\n\
                      root           1       0  0 10:12 ?        00:00:04 /sbin/init\n\
                      1234        4711    4700  0 10:13 pts/0    00:00:00 sh -c sleep 5 | cat\n\
                      root        4712    4711 99 10:13 pts/0    00:01:00 sleep 5\n";
        let list = of(listed, &HashSet::from([4711, 4712, 9]));
        assert_eq!(list.titles, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
        assert_eq!(list.processes.len(), 2);
        assert_eq!(
            list.processes[0],
            ["1234", "4711", "4700", "0", "10:13", "pts/0", "00:00:00", "sh -c sleep 5 | cat"]
        );
        assert_eq!(of("", &HashSet::new()), ProcessList::default());
    }
}
