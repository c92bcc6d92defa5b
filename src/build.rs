//! Which build of llmore this is. [`SOURCES`] is what equality goes by: run.lock, studies, kept features and kept answers.
//! Commit and dirty flag are for people: a commit that changes no source changes no number.

/// The version in `Cargo.toml`, which many builds share.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A hash of the sources and of the versions of what they use (`build.rs`).
pub const SOURCES: &str = env!("LLMORE_BUILD");

/// The commit that was checked out, with `-dirty` behind it where what is built differed from it; `unknown` outside git.
pub const COMMIT: &str = env!("LLMORE_COMMIT");

/// All of it on one line, the commit shortened.
pub const ABOUT: &str = env!("LLMORE_ABOUT");

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The files of `src/` below a folder that hold a text.
    fn holding(folder: &Path, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(holding(&path, text));
            } else if std::fs::read_to_string(&path).unwrap_or_default().contains(text) {
                found.push(
                    path.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap().display().to_string(),
                );
            }
        }
        found
    }

    #[test]
    fn what_tells_builds_apart_has_one_source() {
        let src = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
        for variable in [concat!("CARGO_PKG", "_VERSION"), concat!("LLMORE", "_BUILD")] {
            assert_eq!(holding(src, variable), ["build.rs"], "{variable}: use crate::build");
        }
    }

    #[test]
    fn a_build_names_its_sources_and_its_commit() {
        assert_eq!(SOURCES.len(), 16);
        let commit = COMMIT.strip_suffix("-dirty").unwrap_or(COMMIT);
        let is_hash = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(is_hash || COMMIT == "unknown", "{COMMIT}");
        assert!(ABOUT.starts_with(VERSION) && ABOUT.ends_with(SOURCES) && ABOUT.contains(&commit[..7]), "{ABOUT}");
    }
}
