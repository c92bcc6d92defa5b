//! The same rules, held by the kernel: Landlock (Linux 5.19 and later) refuses this process every file outside of the folders,
//! every program and every TCP connection, whatever the code above does. Where the kernel has no Landlock the checks of
//! `rules.rs` stand alone. Source: the kernel's Documentation/userspace-api/landlock.rst and include/uapi/linux/landlock.h (6.18).

use std::path::{Path, PathBuf};

/// Files and folders of the system that the program itself reads: memory, control groups, the name of the machine.
#[cfg(target_os = "linux")]
const SYSTEM: [&str; 7] = [
    "/proc/self",
    "/proc/meminfo",
    "/proc/cpuinfo",
    "/proc/sys/kernel/hostname",
    "/etc/hostname",
    "/sys/fs/cgroup",
    "/sys/devices/system/cpu",
];

/// Holds this thread, and those it starts from now on, to reading below `read` and `write` and writing below `write`. Gives
/// whether the kernel does.
#[cfg(target_os = "linux")]
pub(super) fn hold(read: &[PathBuf], write: &Path) -> bool {
    landlock::restrict(read, write).is_some()
}

#[cfg(not(target_os = "linux"))]
pub(super) fn hold(_read: &[PathBuf], _write: &Path) -> bool {
    false
}

#[cfg(target_os = "linux")]
mod landlock {
    use std::fs::OpenOptions;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::{Path, PathBuf};

    use super::SYSTEM;

    // LANDLOCK_ACCESS_FS_*.
    const WRITE_FILE: u64 = 1 << 1;
    const READ_FILE: u64 = 1 << 2;
    const READ_DIR: u64 = 1 << 3;
    const REMOVE: u64 = 1 << 4 | 1 << 5;
    const MAKE_DIR: u64 = 1 << 7;
    const MAKE_REG: u64 = 1 << 8;
    /// Renaming from one folder to another, since version 2.
    const REFER: u64 = 1 << 13;
    /// Since version 3.
    const TRUNCATE: u64 = 1 << 14;
    /// All of version 2: executing, writing, reading, removing, making anything, renaming.
    const ALL: u64 = (1 << 14) - 1;
    /// LANDLOCK_ACCESS_NET_BIND_TCP and _CONNECT_TCP, since version 4.
    const TCP: u64 = 1 | 1 << 1;
    const CREATE_VERSION: u32 = 1;
    const RULE_PATH_BENEATH: u32 = 1;

    /// struct landlock_ruleset_attr as of version 4.
    #[repr(C)]
    struct Handled {
        files: u64,
        network: u64,
    }

    /// struct landlock_path_beneath_attr.
    #[repr(C, packed)]
    struct Beneath {
        allowed: u64,
        parent: i32,
    }

    /// `None` where the kernel has no Landlock of version 2 or refuses a step; then nothing is restricted.
    pub(super) fn restrict(read: &[PathBuf], write: &Path) -> Option<()> {
        // SAFETY: with this flag the call takes no pointer and gives the version, or -1 where there is no Landlock.
        let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0usize, 0usize, CREATE_VERSION) };
        if version < 2 {
            return None;
        }
        let truncate = if version >= 3 { TRUNCATE } else { 0 };
        let handled = Handled { files: ALL | truncate, network: if version >= 4 { TCP } else { 0 } };
        // A kernel of an earlier version knows the first field only.
        let size = if version >= 4 { size_of::<Handled>() } else { size_of::<u64>() };
        // SAFETY: `handled` is `size` bytes or more of two integers and outlives the call, which reads it and keeps nothing.
        let rules = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const handled, size, 0u32) };
        let rules = i32::try_from(rules).ok().filter(|rules| *rules >= 0)?;
        // SAFETY: the call has made this file descriptor for us, and nobody else has it.
        let rules = unsafe { OwnedFd::from_raw_fd(rules) };
        let written = READ_FILE | READ_DIR | WRITE_FILE | REMOVE | MAKE_DIR | MAKE_REG | REFER | truncate;
        allow(&rules, write, written)?;
        read.iter().try_for_each(|path| allow(&rules, path, READ_FILE | READ_DIR))?;
        // What this system does not have needs no rule.
        for path in SYSTEM {
            let _ = allow(&rules, Path::new(path), READ_FILE | READ_DIR);
        }
        // SAFETY: both calls take integers; they take rights from this thread and touch no memory of ours.
        let held = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0u32) == 0
        };
        held.then_some(())
    }

    /// Adds a rule: what may be done below a folder, or with a file.
    fn allow(rules: &OwnedFd, path: &Path, rights: u64) -> Option<()> {
        let place = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(path).ok()?;
        // Rights that only folders have are refused for a file.
        let rights = if path.is_dir() { rights } else { rights & (READ_FILE | WRITE_FILE | TRUNCATE) };
        let rule = Beneath { allowed: rights, parent: place.as_raw_fd() };
        // SAFETY: `rule` is a whole landlock_path_beneath_attr that outlives the call, which reads it and keeps no pointer; both
        // file descriptors are open.
        let added = unsafe {
            libc::syscall(libc::SYS_landlock_add_rule, rules.as_raw_fd(), RULE_PATH_BENEATH, &raw const rule, 0u32)
        };
        (added == 0).then_some(())
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_refuses_what_lies_outside() {
        let root = crate::scratch::scratch("kernel");
        let at = |path: &str| root.join(path);
        for folder in ["given", "secret", "runs/a", "runs/b"] {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        std::fs::write(at("given/data"), "data").unwrap();
        std::fs::write(at("secret/key"), "secret").unwrap();
        // The rules are of a thread, so that other tests go on as before.
        let held = std::thread::scope(|scope| {
            let inside = || {
                if !hold(&[at("given")], &at("runs")) {
                    return false;
                }
                assert_eq!(std::fs::read_to_string(at("given/data")).unwrap(), "data");
                std::fs::write(at("runs/a/x"), "x").unwrap();
                std::fs::rename(at("runs/a/x"), at("runs/b/x")).unwrap();
                std::fs::read_to_string("/proc/self/status").unwrap();
                assert!(std::fs::read(at("secret/key")).is_err());
                assert!(std::fs::write(at("given/data"), "x").is_err());
                assert!(std::fs::write(at("new"), "x").is_err());
                assert!(std::fs::hard_link(at("secret/key"), at("runs/key")).is_err());
                assert!(std::os::unix::fs::symlink("/etc", at("runs/etc")).is_err());
                assert!(std::process::Command::new("/bin/true").status().is_err());
                true
            };
            scope.spawn(inside).join().unwrap()
        });
        assert_eq!(std::fs::read_to_string(at("secret/key")).unwrap(), "secret");
        std::fs::remove_dir_all(&root).unwrap();
        if !held {
            eprintln!("this kernel has no Landlock: nothing was checked");
        }
    }
}
