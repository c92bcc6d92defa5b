//! Archives: members are listed, and read by the names that the seeds have.

use std::path::Path;

use llmore::data::Archive;

use crate::fuzz::frames::{self, Frame};
use crate::fuzz::reader::{Read, Reader, Seed, file, seeds};

pub const ZIP: Reader = Reader {
    name: "zip",
    seeds: || {
        let mut all = seeds("pictures.zip", Frame::Zip, vec![frames::zip_of(&content())]);
        let fixtures =
            ["pictures.zip", "wide.zip", "streamed.zip"].map(|name| file(&format!("tests/fixtures/data/{name}")));
        all.extend(seeds("pictures.zip", Frame::Bytes, fixtures.to_vec()));
        all
    },
    words: &["PK\x01\x02", "PK\x03\x04", "PK\x05\x06", "PK\x06\x06", "PK\x06\x07", "PK\x07\x08", "a.png", "b/"],
    open: |folder| open(folder, "pictures.zip"),
};

pub const TAR: Reader = Reader {
    name: "tar",
    seeds: || {
        let cut = |name: &str| file(&format!("tests/fixtures/data/{name}"))[..10 * 512].to_vec();
        let mut all: Vec<Vec<u8>> = vec![tar(), cut("gnu.tar"), cut("pax.tar")];
        all[0].extend([0; 1024]);
        all.into_iter().map(|bytes| Seed { kind: "pictures.tar".to_string(), bytes, frame: Frame::Tar }).collect()
    },
    words: &[
        "ustar",
        "././@LongLink",
        "path=",
        "size=",
        "12 size=9\n",
        "20 path=a.png\n",
        "777777777777",
        "a.png",
        "L",
        "x",
    ],
    open: |folder| open(folder, "pictures.tar"),
};

const NAMES: [&str; 7] =
    ["a.png", "b/c.txt", "coco/red-circle.png", "coco/noise-14x9.png", "../outside.png", "caf\u{e9}.png", "twice.png"];

fn open(folder: &Path, name: &str) -> Read {
    let path = folder.join(name);
    Box::new(move |input| {
        let Ok(archive) = Archive::open(&input.write(path.clone())) else { return false };
        // Packed in a way that pictures are not.
        let _ = archive.read("packed-otherwise.png");
        let there: Vec<&str> = NAMES.into_iter().filter(|name| archive.contains(name)).collect();
        there.iter().all(|name| archive.read(name).is_ok()) && !archive.is_empty()
    })
}

fn content() -> Vec<(String, Vec<u8>)> {
    vec![("a.png".to_string(), b"not a picture".to_vec()), ("b/c.txt".to_string(), b"text".to_vec())]
}

/// A tar file of two members, with the sums of their headers.
fn tar() -> Vec<u8> {
    let mut out = Vec::new();
    for (name, data) in content() {
        let mut block = [0u8; 512];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[100..108].copy_from_slice(b"0000644\0");
        block[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
        block[156] = b'0';
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend(block);
        out.extend(&data);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out
}
