//! JSON lines: one object a line. Pictures are paths relative to the file.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::{Map, Value};

use super::TableFile;
use crate::error;
use crate::error::{Error, Result};

/// Reads a file; a line that is no object is kept out.
pub(super) fn open(path: &Path) -> Result<TableFile> {
    let file = std::fs::File::open(path).map_err(|error| Error::file(path, error))?;
    let (mut numbers, mut broken) = (Vec::new(), Vec::new());
    let mut columns: Vec<(String, Vec<Value>)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut number = 0;
    for line in BufReader::new(file).split(b'\n') {
        let line = line.map_err(|error| Error::file(path, error))?;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match serde_json::from_slice::<Map<String, Value>>(&line) {
            Ok(object) => {
                let kept = numbers.len();
                numbers.push(number);
                for (name, value) in object {
                    let place = *places.entry(name.clone()).or_insert_with(|| {
                        columns.push((name, Vec::new()));
                        columns.len() - 1
                    });
                    let column = &mut columns[place].1;
                    column.resize(kept, Value::Null);
                    column.push(value);
                }
            }
            Err(error) => broken.push(
                error!(Decode, "`{}`, row {}: {error}", path.display(), number + 1)
                    .help("a line is one JSON object; the row is left out"),
            ),
        }
        number += 1;
    }
    if numbers.is_empty() && !broken.is_empty() {
        return Err(error!(Decode, "`{}` is not JSON lines: {}", path.display(), broken[0].message()));
    }
    columns.iter_mut().for_each(|(_, column)| column.resize(numbers.len(), Value::Null));
    Ok(TableFile { path: path.to_path_buf(), start: 0, numbers, columns, broken, pictures: None })
}
