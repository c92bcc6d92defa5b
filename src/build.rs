//! Which build of llmore this is. [`SOURCES`] is what equality goes by: run.lock, studies, kept features and kept answers.
//! Commit and dirty flag are for people: a commit that changes no source changes no number.

/// The version in `Cargo.toml`, which many builds share.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A hash of the sources and of the versions of what they use (`build.rs`).
pub const SOURCES: &str = env!("LLMORE_BUILD");

/// The commit that was checked out, with `-dirty` behind it where tracked files were changed; `unknown` outside git.
pub const COMMIT: &str = env!("LLMORE_COMMIT");

/// All of it on one line.
pub const ABOUT: &str =
    concat!(env!("CARGO_PKG_VERSION"), ", commit ", env!("LLMORE_COMMIT"), ", sources ", env!("LLMORE_BUILD"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_names_its_sources_and_its_commit() {
        assert_eq!(SOURCES.len(), 16);
        let commit = COMMIT.strip_suffix("-dirty").unwrap_or(COMMIT);
        let is_hash = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(is_hash || COMMIT == "unknown", "{COMMIT}");
    }
}
