//! Pictures that are written into a table as base64 text. The text stays in the file where rows have a place there; a value
//! that stands for it in messages and hashes is short.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error;
use crate::error::{Error, Result};

/// How base64 of PNG, JPEG, WebP, GIF, BMP and TIFF begins.
const BEGINNINGS: [&str; 8] = ["iVBORw0KGgo", "/9j/", "UklGR", "R0lGOD", "Qk", "SUkqA", "TU0AK", "AAAA"];
/// The shortest text that is taken for a picture; the smallest pictures have some 50 bytes.
const SHORTEST: usize = 48;
/// In front of the text in addresses that hold their data.
const ADDRESS: &str = ";base64,";

/// Reads what Python's decoder reads: padding may lack.
const DECODER: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whether a text is a picture.
pub(in crate::data) fn is_picture(text: &str) -> bool {
    let data = after_address(text);
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/' | b'=' | b'\n' | b'\r');
    if data.len() < SHORTEST || !data.bytes().take(1024).all(plain) {
        return false;
    }
    data.len() < text.len() || BEGINNINGS.iter().any(|beginning| data.starts_with(beginning)) && is_image(data)
}

fn after_address(text: &str) -> &str {
    match text.strip_prefix("data:image/").and_then(|rest| rest.split_once(ADDRESS)) {
        Some((_, data)) => data,
        None => text,
    }
}

/// Whether the first bytes are those of a picture: "Qk" and "AAAA" alone say little.
fn is_image(data: &str) -> bool {
    let Some(head) = decode(data.get(..SHORTEST).unwrap_or(data)) else { return false };
    match &head[..] {
        [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => true,
        [b'B', ..] => false,
        [0, 0, 0, _, kind @ ..] => kind.starts_with(b"ftyp") || kind.starts_with(b"jP  "),
        _ => true,
    }
}

/// The bytes of a picture that is written as text.
pub(in crate::data) fn decode(text: &str) -> Option<Vec<u8>> {
    let data = after_address(text);
    match data.bytes().any(|byte| byte.is_ascii_whitespace()) {
        false => DECODER.decode(data).ok(),
        true => DECODER.decode(data.split_ascii_whitespace().collect::<String>()).ok(),
    }
}

/// Puts short texts in place of pictures; gives the pictures.
pub(in crate::data) fn take(value: &mut Value) -> Vec<(usize, String)> {
    let short = |text: &str| format!("a picture as base64, sha256 {:.16}", format!("{:x}", Sha256::digest(text)));
    let mut taken = Vec::new();
    let mut one = |number: usize, value: &mut Value| {
        if let Value::String(text) = value
            && is_picture(text)
        {
            let short = short(text);
            taken.push((number, std::mem::replace(text, short)));
        }
    };
    match value {
        Value::Array(list) => list.iter_mut().enumerate().for_each(|(number, value)| one(number, value)),
        value => one(0, value),
    }
    taken
}

/// Gives the values of the fields of a row, read anew from the bytes of its place.
pub(in crate::data) type Parse = Box<dyn Fn(&[u8], &str) -> Option<Value> + Send + Sync>;

/// The pictures in the texts of one file.
#[derive(Default)]
pub(in crate::data) struct Inline {
    path: PathBuf,
    /// For each field the rows that have pictures, and the rows in which those are written.
    rows: BTreeMap<String, HashMap<usize, usize>>,
    /// First byte and length of each row in the file.
    places: Vec<(u64, usize)>,
    parse: Option<Parse>,
    /// Texts of rows that have no place of their own.
    texts: HashMap<(String, usize, usize), String>,
}

impl Inline {
    pub(in crate::data) fn new(path: &Path, parse: Option<Parse>) -> Self {
        Inline { path: path.to_path_buf(), parse, ..Inline::default() }
    }

    /// Takes the pictures out of a row's field.
    pub(in crate::data) fn take(&mut self, row: usize, field: &str, value: &mut Value) {
        for (number, text) in take(value) {
            self.rows.entry(field.to_string()).or_default().insert(row, row);
            if self.parse.is_none() {
                self.texts.insert((field.to_string(), row, number), text);
            }
        }
    }

    /// Where the next row lies in the file.
    pub(in crate::data) fn push_place(&mut self, start: u64, length: usize) {
        self.places.push((start, length));
    }

    /// A row whose picture is written in another row.
    pub(in crate::data) fn refer(&mut self, field: &str, row: usize, to: usize) {
        if let Some(rows) = self.rows.get_mut(field) {
            rows.insert(row, to);
        }
    }

    /// `None` when there are no pictures.
    pub(in crate::data) fn some(self) -> Option<Self> {
        (!self.rows.is_empty()).then_some(self)
    }

    pub(in crate::data) fn fields(&self) -> impl Iterator<Item = &String> {
        self.rows.keys()
    }

    /// Whether a picture is written in the row's field.
    pub(in crate::data) fn has(&self, field: &str, row: usize) -> bool {
        self.rows.get(field).is_some_and(|rows| rows.contains_key(&row))
    }

    /// The encoded bytes of a picture; `None` for one that is not written here.
    pub(in crate::data) fn bytes(&self, field: &str, row: usize, number: usize) -> Result<Option<Vec<u8>>> {
        let Some(&row) = self.rows.get(field).and_then(|rows| rows.get(&row)) else { return Ok(None) };
        let text = match &self.parse {
            None => self.texts.get(&(field.to_string(), row, number)).cloned(),
            Some(parse) => {
                let (start, length) = self.places.get(row).copied().unwrap_or_default();
                let mut bytes = vec![0; length];
                let file = crate::fs::open(&self.path).map_err(|error| Error::file(&self.path, error))?;
                file.read_exact_at(&mut bytes, start).map_err(|error| Error::file(&self.path, error))?;
                let value = parse(&bytes, field);
                let one = |value: &Value| match value {
                    Value::Array(list) => list.get(number)?.as_str().map(str::to_string),
                    value => value.as_str().map(str::to_string),
                };
                value.as_ref().and_then(one)
            }
        };
        let Some(text) = text.filter(|text| is_picture(text)) else { return Ok(None) };
        let place = || format!("`{}`, row {}, field `{field}`", self.path.display(), row + 1);
        decode(&text).map(Some).ok_or_else(|| error!(Decode, "{}: the base64 text is damaged", place()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_told_from_paths() {
        let png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC";
        assert!(is_picture(png) && is_picture(&format!("data:image/png;base64,{png}")));
        assert_eq!(&decode(png).unwrap()[1..4], b"PNG");
        assert_eq!(decode(png.trim_end_matches('=')), decode(png));
        // BMP: "BM", size, four zero bytes.
        let bmp = DECODER.encode([&b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0"[..], &[7; 60]].concat());
        assert!(bmp.starts_with("Qk") && is_picture(&bmp));
        let long = "a".repeat(80);
        for path in ["a.png", "/9j/4AAQ.jpg", "Qk.bmp", &format!("Qk{long}"), &format!("/9j/{long}.jpg"), &long, "AAAA"]
        {
            assert!(!is_picture(path), "{path}");
        }
        let mut value = serde_json::json!([png, "b.png"]);
        assert_eq!(take(&mut value).len(), 1);
        assert!(value[0].as_str().unwrap().len() < 60 && value[1] == "b.png");
    }
}
