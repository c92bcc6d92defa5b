//! An op says what is computed; kernels of a device compute it. So no op file touches storage or reads values on the host, in
//! the forward or in the backward, and candle's own traits for ops are implemented in the dispatch alone.

use std::path::{Path, PathBuf};

/// What only kernels and the dispatch may name, and why an op file has no business with it.
const STORAGE: [&str; 8] =
    ["CpuStorage", "CudaStorage", "MetalStorage", "Storage::", "storage_and_layout", "to_vec1", "to_vec2", "to_vec3"];
/// candle's traits for ops, and the one file that implements each.
const TRAITS: [(&str, &str); 2] = [("CustomOp", "dispatch/graph.rs"), ("InplaceOp", "in_place.rs")];
/// Folders and files that are no ops: kernels, the dispatch, what tests share.
const NOT_OPS: [&str; 6] = ["cpu/", "cuda/", "dispatch/", "in_place.rs", "placement.rs", "testing.rs"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/nn/ops")
}

/// Path below `src/nn/ops` and text of every file.
fn files(folder: &Path, root: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            files(&entry, root, found);
        } else {
            let name = entry.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
            found.push((name, std::fs::read_to_string(&entry).unwrap()));
        }
    }
}

/// What is out of place in a file: `path:line: word`. Tests and comments may say anything.
fn out_of_place(path: &str, text: &str) -> Vec<String> {
    let is_op = !NOT_OPS.iter().any(|other| path.starts_with(other)) && !path.ends_with("tests.rs");
    let code = text.lines().enumerate().take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
    let code = code.filter(|(_, line)| !line.trim_start().starts_with("//"));
    let mut found = Vec::new();
    for (number, line) in code {
        let storage = STORAGE.iter().filter(|_| is_op).copied();
        let traits = TRAITS.iter().filter(|(_, place)| *place != path).map(|(name, _)| *name);
        let words = storage.chain(traits).filter(|word| line.contains(word));
        found.extend(words.map(|word| format!("{path}:{}: {word}", number + 1)));
    }
    found
}

#[test]
fn ops_touch_no_storage() {
    let mut all = Vec::new();
    files(&folder(), &folder(), &mut all);
    assert!(all.len() > 40, "only {} files were read", all.len());
    let found: Vec<String> = all.iter().flat_map(|(path, text)| out_of_place(path, text)).collect();
    assert!(found.is_empty(), "move it to nn/ops/cpu/, behind a trait of the dispatch:\n{}", found.join("\n"));
}

#[test]
fn a_backward_that_reads_on_the_host_is_found() {
    // How backward passes were written before there was a dispatch.
    let before = "impl CustomOp1 for Softmax {\n    fn bwd(&self) {\n        gradient.to_vec1::<f32>()?;\n    }\n}\n";
    assert_eq!(out_of_place("softmax.rs", before), ["softmax.rs:1: CustomOp", "softmax.rs:3: to_vec1"]);
    assert_eq!(out_of_place("cpu/softmax.rs", "let x = CpuStorage::F32(values);"), [""; 0]);
    let test = "// CpuStorage\n#[cfg(test)]\nmod tests {\n    x.to_vec1::<f32>();\n}\n";
    assert_eq!(out_of_place("softmax.rs", test), [""; 0]);
}

/// Every kernel of the CPU is in the table, so that none is left out of the dispatch.
#[test]
fn every_file_of_kernels_has_its_op() {
    let mut all = Vec::new();
    files(&folder(), &folder(), &mut all);
    let table = &all.iter().find(|(path, _)| path == "placement.rs").unwrap().1;
    let mut kernels = 0;
    for (path, text) in all.iter().filter(|(path, _)| path.starts_with("cpu/")) {
        for line in text.lines().filter(|line| line.starts_with("impl ") && line.contains("<CpuStorage")) {
            let op = line.split(" for ").nth(1).unwrap().trim_end_matches([' ', '{']);
            let placed =
                table.lines().any(|line| line.trim_start().starts_with(&format!("{op}, ")) && line.contains("cpu"));
            assert!(placed, "{path}: kernels of {op} are not in placement.rs");
            kernels += 1;
        }
    }
    assert!(kernels >= 18, "only {kernels} were found");
}
