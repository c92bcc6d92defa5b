//! The paths that pages for people name: in back quotes, or as the target of a link.

use std::path::{Path, PathBuf};

/// Where a path may begin, besides in the folder of one that the same paragraph names before it.
const BASES: [&str; 3] = ["", "src", "stdlib"];
/// What a build or a run makes.
const MADE: [&str; 2] = ["target/", "runs/"];

/// `(line, path)` of what a page names and the repository at `root` does not have.
pub(super) fn missing(root: &Path, text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let (mut fenced, mut beside) = (false, Vec::new());
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            fenced = !fenced;
        }
        if line.trim().is_empty() || line.starts_with("```") {
            beside = BASES.iter().map(|base| root.join(base)).collect::<Vec<PathBuf>>();
        }
        if fenced {
            continue;
        }
        // Rows of a table are paragraphs of their own.
        if line.starts_with('|') {
            beside.truncate(BASES.len());
        }
        for name in names(line) {
            // `src/models/llms/<name>.rs` says where a new file belongs.
            let path = match name.split_once('<') {
                Some((before, _)) => before.rsplit_once('/').map_or("", |(folder, _)| folder),
                None => name.trim_end_matches('/'),
            };
            match beside.iter().find(|base| base.join(path).exists()) {
                Some(base) => {
                    let above = base.join(path);
                    let above = above.ancestors().take_while(|folder| *folder != root).filter(|folder| folder.is_dir());
                    beside.extend(above.map(Path::to_path_buf).collect::<Vec<_>>());
                }
                None => found.push((number + 1, name.to_string())),
            }
        }
    }
    found
}

/// What is a path of the repository among the words in back quotes and the targets of links.
fn names(line: &str) -> Vec<&str> {
    let quoted = line.split('`').skip(1).step_by(2);
    let linked = line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let of_code = |name: &&str| name.ends_with(".rs") || name.contains('/');
    // Scripts, patterns, addresses, ids of the hub and paths outside.
    let plain = |name: &&str| {
        !name.contains([' ', '*', '$', ':', '{', '(', '#', '@', '"', '!']) && !name.starts_with(['/', '~', '.'])
    };
    let here = |name: &&str| MADE.iter().all(|made| !name.starts_with(made));
    quoted.filter(of_code).chain(linked).filter(plain).filter(here).collect()
}
