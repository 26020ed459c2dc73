//! How much memory the process can have.

use std::fs::read_to_string;
use std::path::{Component, Path};

/// The most memory that the process can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    /// In bytes.
    pub(super) bytes: u64,
    /// Who says so, as in "more than `who` 2 GiB".
    pub(super) who: &'static str,
}

/// What the machine has, or a control group above the process allows, as far as the
/// system tells (Linux does).
pub(super) fn memory() -> Option<Memory> {
    memory_under(Path::new("/"))
}

fn memory_under(root: &Path) -> Option<Memory> {
    let machine = read_to_string(root.join("proc/meminfo"))
        .ok()
        .and_then(|text| total(&text))
        .map(|bytes| Memory { bytes, who: "this machine has" });
    let group = read_to_string(root.join("proc/self/cgroup"))
        .ok()
        .and_then(|text| text.lines().filter_map(|line| limit(root, line)).min())
        .map(|bytes| Memory { bytes, who: "its control group (container, unit) may have" });
    machine.into_iter().chain(group).min_by_key(|memory| memory.bytes)
}

/// `MemTotal:       24684084 kB`
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The smallest limit of the group that a line of `/proc/self/cgroup` names
/// (cgroups(7)) and of those above it. No limit is the text `max`, or with version
/// 1 a number that is larger than any machine.
fn limit(root: &Path, line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, group) = (parts.next()?, Path::new(parts.next()?));
    let (mount, file) = if controllers.is_empty() {
        ("sys/fs/cgroup", "memory.max")
    } else if controllers.split(',').any(|name| name == "memory") {
        ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
    } else {
        return None;
    };
    // A group outside of what a container sees is named by the way up to it.
    let below = group.strip_prefix("/").ok()?;
    let inside = below.components().all(|part| matches!(part, Component::Normal(_)));
    let below = if inside { below } else { Path::new("") };
    let limits = below.ancestors().filter_map(|group| {
        let text = read_to_string(root.join(mount).join(group).join(file)).ok()?;
        text.trim().parse().ok()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_counts() {
        const MACHINE: (&str, &str) = ("proc/meminfo", "MemFree: 1 kB\nMemTotal:  2048 kB\n");
        const MAX: &str = "sys/fs/cgroup/memory.max";
        const V1: &str = "sys/fs/cgroup/memory";
        for (files, bytes) in [
            (&[][..], None),
            (&[MACHINE], Some(2 << 20)),
            (&[("proc/meminfo", "MemTotal: lots")], None),
            (&[MACHINE, ("proc/self/cgroup", "0::/\n")], Some(2 << 20)),
            (&[MACHINE, ("proc/self/cgroup", "0::/\n"), (MAX, "max\n")], Some(2 << 20)),
            (&[MACHINE, ("proc/self/cgroup", "0::/\n"), (MAX, "1024\n")], Some(1024)),
            (&[MACHINE, ("proc/self/cgroup", "0::/../x\n"), (MAX, "1024\n")], Some(1024)),
            (
                &[
                    MACHINE,
                    ("proc/self/cgroup", "0::/system.slice/p.service\n"),
                    ("sys/fs/cgroup/system.slice/memory.max", "7\n"),
                    ("sys/fs/cgroup/system.slice/p.service/memory.max", "9\n"),
                ],
                Some(7),
            ),
            (
                &[
                    MACHINE,
                    ("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/docker/a\n0::/\n"),
                    (&format!("{V1}/memory.limit_in_bytes"), "9223372036854771712\n"),
                    (&format!("{V1}/docker/a/memory.limit_in_bytes"), "4096\n"),
                ],
                Some(4096),
            ),
        ] {
            let root = tempfile::tempdir().unwrap();
            for (file, text) in files {
                let file = root.path().join(file);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, text).unwrap();
            }
            assert_eq!(memory_under(root.path()).map(|m| m.bytes), bytes, "{files:?}");
        }
        // Whatever this machine is, it can be asked.
        let _ = memory();
    }
}
