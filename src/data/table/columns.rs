//! Parquet's columns and JSON: a leaf column's definition and repetition levels say which optional parts of its path
//! are there and where a list goes on. Lists within lists are not read.

use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::column::reader::ColumnReader;
use parquet::errors::Result;
use parquet::schema::types::Type;
use serde_json::{Map, Value};

/// One step from a row to a value.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::data) enum Step {
    /// A field of a struct.
    Key(String),
    /// What follows may be null.
    Optional,
    /// What follows is an item of a list.
    Item,
    /// A struct of which nothing but what follows is kept; it is `true` where that is null.
    There,
}

/// A column that holds values.
#[derive(Clone, Debug)]
pub(in crate::data) struct Leaf {
    /// Its number in the file.
    pub column: usize,
    /// The field of the row it belongs to.
    pub field: String,
    pub steps: Vec<Step>,
    /// Bytes that are not declared to be text, or pictures that are written as text.
    pub binary: bool,
    /// Pictures as base64 text.
    pub encoded: bool,
    /// As [`is_readable`](Self::is_readable) says, once it was asked.
    pub readable: bool,
}

impl Step {
    fn is_level(&self) -> bool {
        matches!(self, Step::Optional | Step::Item)
    }
}

impl Leaf {
    /// The last name on its path.
    pub(in crate::data) fn key(&self) -> Option<&str> {
        self.steps.iter().rev().find_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            _ => None,
        })
    }

    /// The value itself in place of the struct that holds it.
    pub(in crate::data) fn instead_of_struct(&mut self) {
        if let Some(step) = self.steps.iter_mut().rev().find(|step| matches!(step, Step::Key(_))) {
            *step = Step::There;
        }
    }

    /// The level at which a value is there.
    pub(in crate::data) fn depth(&self) -> i16 {
        self.steps.iter().filter(|step| step.is_level()).count() as i16
    }

    /// Whether it can be read: no list in a list, and a type that JSON has.
    pub(in crate::data) fn is_readable(&self, physical: Physical) -> bool {
        let lists = self.steps.iter().filter(|step| **step == Step::Item).count();
        lists <= 1 && !matches!(physical, Physical::INT96 | Physical::FIXED_LEN_BYTE_ARRAY)
    }
}

/// The leaf columns of a schema, in file order.
pub(in crate::data) fn leaves(schema: &Type) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    if schema.is_group() {
        for field in schema.get_fields() {
            walk(field, field.name(), &mut Vec::new(), &mut leaves);
        }
    }
    leaves
}

fn walk(node: &Type, field: &str, steps: &mut Vec<Step>, leaves: &mut Vec<Leaf>) {
    let before = steps.len();
    let info = node.get_basic_info();
    match info.has_repetition().then(|| info.repetition()) {
        Some(Repetition::OPTIONAL) => steps.push(Step::Optional),
        Some(Repetition::REPEATED) => steps.push(Step::Item),
        _ => {}
    }
    if node.is_primitive() {
        let declared = info.converted_type() != ConvertedType::NONE || info.logical_type_ref().is_some();
        let binary = node.get_physical_type() == Physical::BYTE_ARRAY && !declared;
        let (column, field, steps) = (leaves.len(), field.to_string(), steps.clone());
        leaves.push(Leaf { column, field, steps, binary, encoded: false, readable: false });
    } else if let Some(inner) = list_item(node) {
        // `x (LIST) { repeated list { element } }`: the names of the two inner levels say nothing.
        match inner.is_group() && inner.get_fields().len() == 1 && inner.name() != "array" {
            true => {
                steps.push(Step::Item);
                walk(&inner.get_fields()[0], field, steps, leaves);
            }
            false => walk(inner, field, steps, leaves),
        }
    } else {
        for child in node.get_fields() {
            steps.push(Step::Key(child.name().to_string()));
            walk(child, field, steps, leaves);
            steps.pop();
        }
    }
    steps.truncate(before);
}

fn list_item(node: &Type) -> Option<&Type> {
    let info = node.get_basic_info();
    let list =
        info.converted_type() == ConvertedType::LIST || matches!(info.logical_type_ref(), Some(LogicalType::List));
    match node.get_fields() {
        [inner] if list && inner.get_basic_info().has_repetition() => {
            (inner.get_basic_info().repetition() == Repetition::REPEATED).then_some(inner.as_ref())
        }
        _ => None,
    }
}

/// Levels and values of some rows of a column.
#[derive(Default)]
pub(in crate::data) struct Levels {
    pub definitions: Vec<i16>,
    pub repetitions: Vec<i16>,
    pub rows: usize,
    pub count: usize,
}

/// Rows that are decoded at a time.
const CHUNK: usize = 1024;

/// Adds a leaf's next values, of `limit` rows at most, to `column` from row `start` on; rows other leaves of the field made
/// are filled in. Rows are made as data for them is found, whatever number is declared.
pub(in crate::data) fn read(
    reader: &mut ColumnReader,
    leaf: &Leaf,
    column: &mut Vec<Value>,
    start: usize,
    limit: usize,
) -> Result<usize> {
    let mut next = start;
    loop {
        let (levels, values) = read_some(reader, CHUNK.min(limit - (next - start)))?;
        if levels.rows == 0 {
            return Ok(next - start);
        }
        if column.len() < next + levels.rows {
            column.resize(next + levels.rows, Value::Null);
        }
        let mut values = values.into_iter();
        each_entry(&levels, leaf.depth(), |row, item, definition, there| {
            let value = if there { values.next() } else { None };
            if let Some(at) = column.get_mut(next + row) {
                put(at, &leaf.steps, definition, item, value);
            }
        });
        next += levels.rows;
    }
}

/// Calls `entry(row, item, definition level, whether a value is there)` for each entry of a column.
pub(in crate::data) fn each_entry(levels: &Levels, depth: i16, mut entry: impl FnMut(usize, usize, i16, bool)) {
    let (mut row, mut item) = (0, 0);
    for i in 0..levels.count {
        let definition = levels.definitions.get(i).copied().unwrap_or(depth);
        if i > 0 {
            match levels.repetitions.get(i).copied().unwrap_or(0) {
                0 => (row, item) = (row + 1, 0),
                _ => item += 1,
            }
        }
        entry(row, item, definition, definition == depth);
    }
}

/// Puts a value where its steps lead, making structs and lists on the way.
fn put(mut at: &mut Value, steps: &[Step], definition: i16, item: usize, value: Option<Value>) {
    let mut depth = 0;
    for step in steps {
        depth += i16::from(step.is_level());
        match step {
            Step::Optional if definition < depth => return,
            Step::Optional => {}
            Step::There => *at = Value::Bool(true),
            Step::Item => {
                if !at.is_array() {
                    *at = Value::Array(Vec::new());
                }
                let Value::Array(list) = at else { return };
                if definition < depth {
                    return;
                }
                if list.len() <= item {
                    list.resize(item + 1, Value::Null);
                }
                at = &mut list[item];
            }
            Step::Key(key) => {
                if !at.is_object() {
                    *at = Value::Object(Map::new());
                }
                let Value::Object(object) = at else { return };
                at = object.entry(key.as_str()).or_insert(Value::Null);
            }
        }
    }
    *at = value.unwrap_or(Value::Null);
}

/// The next rows of a column.
pub(in crate::data) fn read_some(reader: &mut ColumnReader, rows: usize) -> Result<(Levels, Vec<Value>)> {
    let mut levels = Levels::default();
    macro_rules! values {
        ($reader:expr, $json:expr) => {{
            let mut values = Vec::new();
            let (definitions, repetitions) = (Some(&mut levels.definitions), Some(&mut levels.repetitions));
            (levels.rows, _, levels.count) = $reader.read_records(rows, definitions, repetitions, &mut values)?;
            values.into_iter().map($json).collect::<Result<Vec<Value>>>()?
        }};
    }
    let values = match reader {
        ColumnReader::BoolColumnReader(reader) => values!(reader, |value| Ok(Value::from(value))),
        ColumnReader::Int32ColumnReader(reader) => values!(reader, |value| Ok(Value::from(value))),
        ColumnReader::Int64ColumnReader(reader) => values!(reader, |value| Ok(Value::from(value))),
        ColumnReader::FloatColumnReader(reader) => values!(reader, |value| Ok(Value::from(f64::from(value)))),
        ColumnReader::DoubleColumnReader(reader) => values!(reader, |value| Ok(Value::from(value))),
        ColumnReader::ByteArrayColumnReader(reader) => {
            values!(reader, |value: parquet::data_type::ByteArray| value.as_utf8().map(Value::from))
        }
        ColumnReader::Int96ColumnReader(_) | ColumnReader::FixedLenByteArrayColumnReader(_) => Vec::new(),
    };
    Ok((levels, values))
}
