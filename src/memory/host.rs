//! The memory of this machine, which tensors of the CPU share with all else that the process has.

use super::{DeviceMemory, counting};
use crate::sandbox;

/// The host's memory.
pub struct Host;

impl Host {
    /// Resident memory that is no file's: mapped weights do not count.
    pub fn anonymous() -> Option<u64> {
        kib("/proc/self/status", "RssAnon:")
    }
}

impl DeviceMemory for Host {
    fn held(&self) -> u64 {
        if self.is_counted() { counting::live() } else { self.taken().unwrap_or(0) }
    }

    fn watch(&self) {
        counting::watch();
    }

    fn peak(&self) -> u64 {
        if self.is_counted() { counting::peak() } else { self.most().unwrap_or(0) }
    }

    fn is_counted(&self) -> bool {
        counting::is_installed()
    }

    /// Resident memory.
    fn taken(&self) -> Option<u64> {
        kib("/proc/self/status", "VmRSS:")
    }

    /// Peak resident memory.
    fn most(&self) -> Option<u64> {
        kib("/proc/self/status", "VmHWM:")
    }

    /// What the process has and what is free, within the limits of its control group and of the sandbox.
    fn limit(&self) -> Option<u64> {
        let resident = self.taken()?;
        let free = kib("/proc/meminfo", "MemAvailable:").map(|free| free + resident);
        let number = |path: &'static str| crate::fs::of_system(path).ok()?.trim().parse::<u64>().ok();
        let group = |limit: &'static str, used: &'static str| {
            let (limit, used) = (number(limit)?, number(used)?);
            // Others of the group use it too.
            Some(limit.saturating_sub(used.saturating_sub(resident)))
        };
        let limits = [
            free,
            group("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
            group("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
        ];
        limits.into_iter().flatten().chain(sandbox::limits().map(|limits| limits.memory)).min()
    }
}

fn kib(file: &'static str, key: &str) -> Option<u64> {
    let text = crate::fs::of_system(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_was_held_for_a_moment_is_seen() {
        // Other tests hold some, too.
        const SIZE: u64 = 1 << 30;
        assert!(Host.is_counted());
        let before = Host.held();
        Host.watch();
        drop(std::hint::black_box(Vec::<u8>::with_capacity(SIZE as usize)));
        assert!(Host.peak() >= before.min(Host.held()) / 2 + SIZE / 2);
    }

    #[test]
    fn what_the_process_has_is_within_its_limit() {
        let (taken, most, limit) = (Host.taken().unwrap(), Host.most().unwrap(), Host.limit().unwrap());
        assert!(0 < taken && taken <= limit, "{taken} of {limit}");
        assert!(most > 0);
    }
}
