//! Folders for tests, each in one of its process and thread: neither two runs of the tests at once nor two tests meet in one.
//! What a test leaves there goes when its thread ends; where it failed, it stays for a day to be looked at.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long folders of failed tests stay.
const STAY: Duration = Duration::from_secs(24 * 60 * 60);

static THREADS: AtomicUsize = AtomicUsize::new(0);
static BEGIN: Once = Once::new();

thread_local! {
    static FAILED: Cell<bool> = const { Cell::new(false) };
    static OWN: RefCell<Option<ThreadFolder>> = const { RefCell::new(None) };
}

/// The folder of one thread of one process.
struct ThreadFolder(PathBuf);

impl ThreadFolder {
    fn new() -> Self {
        let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-scratch");
        BEGIN.call_once(|| {
            sweep(&all);
            // A test's panic is caught in its thread, which ends as any other.
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                FAILED.set(true);
                before(info);
            }));
        });
        let number = THREADS.fetch_add(1, Ordering::Relaxed);
        ThreadFolder(all.join(format!("{}-{number}", std::process::id())))
    }
}

impl Drop for ThreadFolder {
    fn drop(&mut self) {
        if !FAILED.get() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// Removes what tests left that failed long ago.
fn sweep(all: &Path) {
    for entry in std::fs::read_dir(all).into_iter().flatten().flatten() {
        let changed = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        if changed.and_then(|changed| changed.elapsed().ok()).is_some_and(|age| age > STAY) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Where a file or folder of the calling test is or can be written; all of it goes when the test's thread ends.
pub fn scratch_path(name: &str) -> PathBuf {
    let own = OWN.with_borrow_mut(|own| own.get_or_insert_with(ThreadFolder::new).0.clone());
    std::fs::create_dir_all(&own).unwrap();
    own.join(name)
}

/// The same of a folder, which is empty at first.
pub fn scratch(name: &str) -> PathBuf {
    let folder = scratch_path(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

mod tests {
    use super::*;

    #[test]
    fn folders_are_of_one_thread_and_go_with_it_unless_it_fails() {
        let made = |fails: bool| {
            let (send, made) = std::sync::mpsc::channel();
            let thread = std::thread::spawn(move || {
                let folder = scratch("made");
                std::fs::write(folder.join("file"), "x").unwrap();
                send.send(folder).unwrap();
                assert!(!fails, "this failure is wanted");
            });
            assert_eq!(thread.join().is_err(), fails);
            made.recv().unwrap()
        };
        let (gone, kept) = (made(false), made(true));
        assert!(!gone.parent().unwrap().exists() && kept.join("file").exists());
        assert!(gone != kept && kept.to_string_lossy().contains(&format!("/{}-", std::process::id())));
        std::fs::remove_dir_all(kept.parent().unwrap()).unwrap();
    }
}
