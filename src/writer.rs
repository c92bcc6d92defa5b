//! One writer a folder. Whoever writes a run or a study's cell holds a lock in its folder that names process, host and
//! time, and that the system takes away with the process: what a crash leaves behind locks nobody out.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error;
use crate::error::{Error, Result};

/// The file in the folder.
pub const FILE: &str = ".writer";

/// A look at a lock holds it for a moment, so one refusal does not mean that somebody writes.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// Who writes in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub process: u32,
    pub host: String,
    /// Seconds since 1970.
    pub since: u64,
}

/// The right to write in a folder, until it is dropped.
#[derive(Debug)]
pub struct Writer {
    file: File,
}

impl Writer {
    /// Takes the right to write in a folder, which is made where it is missing. The text is what people should know of a
    /// writer before, if anything.
    ///
    /// # Errors
    /// `Busy` when somebody holds it, naming process, host and time; `File` when the folder cannot be written.
    pub fn take(folder: &Path) -> Result<(Writer, Option<String>)> {
        crate::fs::create_dir_all(folder).map_err(|error| Error::file(folder, error))?;
        let path = folder.join(FILE);
        let failed = |error| Error::file(&path, error);
        let mut file = crate::fs::open_with(&path, |how| how.read(true).write(true).create(true).truncate(false))
            .map_err(failed)?;
        let note = match lock(&file, File::try_lock) {
            Lock::Mine => read(&mut file).filter(|before| before.host != host()).map(|before| {
                let folder = folder.display();
                format!("`{folder}` was being written by {before}, which did not end in order; if it is still at work there, stop it")
            }),
            Lock::Taken => {
                let holder = read(&mut file).map_or_else(|| "another process".to_string(), |holder| holder.to_string());
                return Err(error!(Busy, "`{}` is being written by {holder}", folder.display())
                    .help("wait for it, stop it, or choose another `out`"));
            }
            // Some file systems of clusters have no locks: what is written there is all there is to go by.
            Lock::None => match read(&mut file) {
                Some(holder) if holder.lives() => {
                    return Err(error!(Busy, "`{}` is being written by {holder}", folder.display())
                        .help("wait for it, stop it, or choose another `out`"));
                }
                _ => Some(format!("`{}` is on a file system without locks: a second process is not kept out", folder.display())),
            },
        };
        let holder = Holder { process: std::process::id(), host: host(), since: now() };
        let text = serde_json::to_vec(&holder).map_err(|error| error!(File, "`{}`: {error}", path.display()))?;
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(&text)).map_err(failed)?;
        Ok((Writer { file }, note))
    }

    /// Who writes in a folder now.
    pub fn holder(folder: &Path) -> Option<Holder> {
        let mut file = crate::fs::open(&folder.join(FILE)).ok()?;
        match lock(&file, File::try_lock_shared) {
            Lock::Mine => None,
            // Between its lock and its name there is a moment.
            Lock::Taken => Some(read(&mut file).unwrap_or(Holder { process: 0, host: String::new(), since: now() })),
            Lock::None => read(&mut file).filter(Holder::lives),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // The lock goes with the file; an empty one says that its writer ended in order.
        let _ = self.file.set_len(0);
    }
}

impl Holder {
    /// Whether the process is there; of another host nobody here can tell.
    fn lives(&self) -> bool {
        self.host == host() && PathBuf::from(format!("/proc/{}", self.process)).exists()
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let whose = if self.process == std::process::id() && self.host == host() { " (this one)" } else { "" };
        match self.process {
            0 => write!(f, "another process"),
            process => write!(f, "process {process}{whose} on {}, since {} UTC", self.host, clock(self.since)),
        }
    }
}

enum Lock {
    Mine,
    Taken,
    /// The file system has none.
    None,
}

fn lock(file: &File, how: impl Fn(&File) -> std::result::Result<(), TryLockError>) -> Lock {
    for attempt in 0..TRIES {
        match how(file) {
            Ok(()) => return Lock::Mine,
            Err(TryLockError::Error(_)) => return Lock::None,
            Err(TryLockError::WouldBlock) if attempt + 1 < TRIES => std::thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => {}
        }
    }
    Lock::Taken
}

fn read(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// The name of this machine.
fn host() -> String {
    let name = crate::fs::of_system("/proc/sys/kernel/hostname").or_else(|_| crate::fs::of_system("/etc/hostname"));
    name.map_or_else(|_| "this machine".to_string(), |name| name.trim().to_string())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// `15:04:05` of a time.
fn clock(seconds: u64) -> String {
    let day = seconds % 86_400;
    format!("{:02}:{:02}:{:02}", day / 3600, day % 3600 / 60, day % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_writer() {
        let folder = crate::scratch::scratch_path("writer");
        assert_eq!(Writer::holder(&folder), None);
        let (writer, note) = Writer::take(&folder).unwrap();
        assert_eq!(note, None);
        assert_eq!(Writer::holder(&folder).unwrap().process, std::process::id());
        let refused = Writer::take(&folder).unwrap_err();
        assert!(refused.to_string().contains(&format!("process {} (this one) on", std::process::id())), "{refused}");
        drop(writer);
        assert_eq!(Writer::holder(&folder), None);
        Writer::take(&folder).unwrap();
    }
}
