//! Tests of tables: parquet against JSON lines, broken rows, splits, damage.

use super::*;
use crate::scratch::{scratch, scratch_path};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/prompts")
}

/// Every field of `data/<task>.jsonl` that is not a picture.
fn texts(rows: &Rows) -> Vec<Vec<(String, Value)>> {
    let row = |row| {
        let fields = rows.fields().iter().filter(|field| !field.starts_with("image"));
        let value = |field: &String| Some((field.clone(), rows.value(row, field)?.clone()));
        let mut values: Vec<_> = fields.filter_map(value).collect();
        values.sort_by(|a, b| a.0.cmp(&b.0));
        values
    };
    (0..rows.len()).map(row).collect()
}

#[test]
fn parquet_and_json_lines_read_alike() {
    let mut pictures = 0;
    for entry in std::fs::read_dir(fixtures().join("parquet")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let parquet = Rows::open(&path).unwrap();
        let jsonl = Rows::open(&fixtures().join(format!("data/{name}.jsonl"))).unwrap();
        assert!(parquet.broken().is_empty() && jsonl.broken().is_empty());
        assert_eq!(texts(&parquet), texts(&jsonl), "{name}");
        if name == "gqa" {
            continue;
        }
        let picture = |field: &&String| *field == "image" || (name == "mmmu_val" && field.starts_with("image_"));
        for field in jsonl.fields().iter().filter(picture) {
            // Backwards, so that the reader has to step back as well.
            for row in (0..jsonl.len()).rev() {
                let (a, b) = (parquet.images(row, field).unwrap(), jsonl.images(row, field).unwrap());
                assert_eq!(a.len(), b.len(), "{name} {row} {field}");
                for (a, b) in a.iter().zip(&b) {
                    assert!(a.open().unwrap() == b.open().unwrap(), "{name} {row} {field}");
                    pictures += 1;
                }
            }
        }
    }
    assert!(pictures > 25, "{pictures}");
}

#[test]
fn broken_lines_are_kept_out_and_numbers_stay() {
    let folder = scratch("broken-lines");
    std::fs::write(folder.join("a.jsonl"), "{\"x\": 1}\nnot json\n\n{\"x\": \"two\", \"y\": [\"p\"]}\n").unwrap();
    std::fs::write(folder.join("b.jsonl"), "{\"x\": 3.0}\n").unwrap();
    let rows = Rows::open(&folder).unwrap();
    assert_eq!((rows.len(), rows.broken().len()), (3, 1));
    assert!(rows.broken()[0].message().contains("a.jsonl`, row 2"), "{}", rows.broken()[0]);
    assert_eq!(rows.integer(0, "x").unwrap(), Some(1));
    assert_eq!(rows.integer(2, "x").unwrap(), Some(3));
    assert_eq!(rows.texts(1, "y").unwrap(), Some(vec!["p"]));
    assert_eq!(rows.value(0, "y"), None);
    let error = rows.integer(1, "x").unwrap_err().message();
    assert!(error.ends_with("a.jsonl`, row 3: field `x` is \"two\", expected a whole number"), "{error}");
    assert!(rows.require(0, "z").unwrap_err().to_string().contains("no field `z`"));
}

#[test]
fn damaged_parquet_is_an_error_and_never_a_panic() {
    let whole = std::fs::read(fixtures().join("parquet/seedbench.parquet")).unwrap();
    let path = scratch("damaged").join("x.parquet");
    let mut failed = 0;
    for i in (0..whole.len()).step_by(whole.len() / 150) {
        for flip in [0xff, 0x10, 0x01] {
            let mut bytes = whole.clone();
            bytes[i] ^= flip;
            std::fs::write(&path, &bytes).unwrap();
            failed += usize::from(read_all(&path).is_err());
        }
        std::fs::write(&path, &whole[..i]).unwrap();
        assert!(read_all(&path).is_err());
    }
    assert!(failed > 20, "{failed}");
}

fn read_all(path: &Path) -> Result<()> {
    let rows = Rows::open(path)?;
    for row in 0..rows.len() {
        for source in rows.images(row, "image")? {
            source.open()?;
        }
    }
    Ok(())
}

/// A parquet file of one column, `images`: row `r` is a list of `r % 3` pictures, which are the texts `r-0`, `r-1`.
fn lists(path: &Path, rows: usize) {
    let schema = "message s { optional group images (LIST) { repeated group list { optional binary element; } } }";
    let schema = Arc::new(parquet::schema::parser::parse_message_type(schema).unwrap());
    let properties = parquet::file::properties::WriterProperties::builder();
    let properties = Arc::new(properties.set_data_page_row_count_limit(20).set_write_batch_size(8).build());
    let file = std::fs::File::create(path).unwrap();
    let mut writer = parquet::file::writer::SerializedFileWriter::new(file, schema, properties).unwrap();
    let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..rows {
        for item in 0..(row % 3).max(1) {
            // Levels: the list, an item, its bytes.
            definitions.push(if row % 3 == 0 { 1 } else { 3 });
            repetitions.push(i16::from(item > 0));
            values.extend((row % 3 > 0).then(|| parquet::data_type::ByteArray::from(format!("{row}-{item}").as_str())));
        }
    }
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let typed = column.typed::<parquet::data_type::ByteArrayType>();
    typed.write_batch(&values, Some(&definitions), Some(&repetitions)).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
}

#[test]
fn pictures_of_lists_are_found_in_any_order() {
    let path = scratch_path("lists.parquet");
    lists(&path, 200);
    let rows = containers::rows(&path, None).unwrap().next(usize::MAX).unwrap().unwrap();
    let pictures = rows.pictures.unwrap();
    for row in [190, 3, 100, 101, 199, 7, 160, 0] {
        assert_eq!(pictures.count("images", row).unwrap(), row % 3, "row {row}");
        for item in 0..row % 3 {
            let expected = format!("{row}-{item}").into_bytes();
            assert_eq!(pictures.bytes("images", row, item).unwrap(), Some(expected));
        }
    }
    std::fs::remove_file(path).unwrap();
}
