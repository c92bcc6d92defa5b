//! What this process asks of the system: threads, what becomes of freed memory, pipes, signals, disks.

use std::path::Path;

/// Whether this is the only thread of the process, as far as the system tells. Where it is, no other can appear meanwhile:
/// only this one could start it.
#[cfg(target_os = "linux")]
fn is_alone() -> bool {
    let status = crate::fs::of_system("/proc/self/status").unwrap_or_default();
    let threads = status.lines().find_map(|line| line.strip_prefix("Threads:"));
    threads.is_some_and(|count| count.trim() == "1")
}

#[cfg(not(target_os = "linux"))]
fn is_alone() -> bool {
    false
}

/// Gives rayon this many threads and candle's own pool one: two pools on few cores spin against each other.
///
/// candle reads its number from the environment, which is written only while this is the process's one thread (and not on
/// systems that do not tell): called later, candle keeps its pool, which costs speed and changes no result.
pub fn set_threads(threads: usize) {
    if is_alone() {
        // SAFETY: writing the environment is sound while no other thread reads or writes it; there is no other thread.
        unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    }
    // A pool built earlier (a test binary, a notebook cell) stays as it is.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
}

/// Keeps freed memory in the process: tensors of a step are as large as those of the step before, and giving their
/// pages back and faulting them in again costs more than many of the operations. Does nothing once there are other threads.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if is_alone() {
        // SAFETY: mallopt writes parameters of glibc's allocator, which other threads would read without a lock while they
        // allocate (mallopt(3): MT-Unsafe init); there is no other thread. These parameters and values are documented.
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
            libc::mallopt(libc::M_TOP_PAD, 64 << 20);
        }
    }
}

/// Ends the process quietly when nobody reads its output any more, as in `llmore docs | head`; for commands that only print.
pub fn end_with_the_pipe() {
    #[cfg(unix)]
    // SAFETY: signal(2) is thread-safe, and SIG_DFL installs no handler, so no code of ours runs inside a signal. It undoes
    // what Rust's runtime set at start-up.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// Whether the process was started with a signal ignored, as `nohup` does with SIGHUP.
pub fn is_ignored(signal: i32) -> bool {
    // SAFETY: sigaction is a struct of integers, sets of bits and an address that may be null, for each of which all bits
    // zero is a value.
    let mut found: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: with a null pointer as the new action sigaction(2) changes nothing and writes one sigaction to `found`, which is
    // borrowed for the call.
    let known = unsafe { libc::sigaction(signal, std::ptr::null(), &mut found) } == 0;
    known && found.sa_sigaction == libc::SIG_IGN
}

/// Makes a write beyond the largest size of a file (`ulimit -f`) an error that names the file, as a full disk is; by default
/// the system ends the process.
pub fn survive_file_limits() {
    #[cfg(unix)]
    // SAFETY: signal(2) is thread-safe, and SIG_IGN installs no handler, so no code of ours runs inside a signal.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

/// Lets two folders change names in one step, so that at any moment one of them has each name.
///
/// # Errors
/// What the system says, also where it or the file system cannot.
pub fn exchange(a: &Path, b: &Path) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let name = |path: &Path| Ok::<_, std::io::Error>(std::ffi::CString::new(path.as_os_str().as_encoded_bytes())?);
        let (a, b) = (name(a)?, name(b)?);
        // SAFETY: both are C strings that outlive the call; renameat2(2) reads them and keeps neither.
        let failed =
            unsafe { libc::renameat2(libc::AT_FDCWD, a.as_ptr(), libc::AT_FDCWD, b.as_ptr(), libc::RENAME_EXCHANGE) }
                != 0;
        if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (a, b);
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

/// Free space in bytes on the disk of a folder, which need not exist yet.
pub fn free_disk(folder: &Path) -> Option<u64> {
    let mut existing = if folder.is_absolute() { folder.to_path_buf() } else { Path::new(".").join(folder) };
    while !existing.exists() && existing.pop() {}
    let path = std::ffi::CString::new(existing.into_os_string().into_encoded_bytes()).ok()?;
    // SAFETY: statvfs is a struct of integers (and arrays of them), for each of which all bits zero is a value.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `path` is a C string that outlives the call, and `found` is a whole statvfs borrowed for it alone; statvfs(3)
    // writes nothing else and keeps neither pointer.
    let failed = unsafe { libc::statvfs(path.as_ptr(), &mut found) } != 0;
    (!failed).then(|| found.f_bavail as u64 * found.f_frsize as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_does_not_exist_yet_is_on_a_disk() {
        let known = free_disk(Path::new(".")).unwrap();
        assert!(known > 0);
        assert!(free_disk(Path::new("does/not/exist")).is_some());
    }

    #[test]
    fn an_ignored_signal_is_known() {
        // Nothing else of this process uses it.
        survive_file_limits();
        assert!(is_ignored(libc::SIGXFSZ) && !is_ignored(libc::SIGURG));
    }

    #[test]
    fn a_process_with_a_second_thread_is_not_alone() {
        // The harness waits in another one.
        std::thread::scope(|scope| scope.spawn(|| assert!(!is_alone())).join()).unwrap();
    }
}
