//! The pages of a parquet column, each checked before anything is made of it: the library takes memory for as many values as
//! a page says it has. All of the library's work goes through [`guarded`], for it panics on damaged pages, and once did not end.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::column::reader::{ColumnReader, get_column_reader};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::error;
use crate::guard;

const LIBRARY: &str = "parquet";
/// How long the library may take for rows that are in memory at once, and for each of these bytes more.
const TIME: Duration = Duration::from_secs(20);
const BYTES_A_SECOND: u64 = 4 << 20;
/// The most values of a column chunk: so many for each byte of it, and so many at least. Runs of equal values take next to
/// no bytes, and writers begin a page every 20,000 to 120,000 rows.
const VALUES_A_BYTE: u64 = 1 << 16;
const VALUES: u64 = 1 << 22;
/// The most values of a dictionary for each byte of it: truth values have one bit.
const ENTRIES_A_BYTE: u64 = 8;

/// Runs the library on a thread of its own and waits for as long as it may take for a row group of `bytes` bytes. After an
/// error nothing that the call was working on is there any more.
///
/// # Errors
/// `Decode`, naming the file, if the library panics or does not end.
pub(in crate::data) fn guarded<T: Send + 'static>(
    path: &Path,
    bytes: u64,
    call: impl FnOnce() -> T + Send + 'static,
) -> error::Result<T> {
    let limit = TIME + Duration::from_secs(bytes / BYTES_A_SECOND);
    guard::within(LIBRARY, limit, call).map_err(|failure| failure.error(&path.display()))
}

/// The bytes of the largest row group, of no more than the file has.
pub(in crate::data) fn largest_group(reader: &SerializedFileReader<File>, length: u64) -> u64 {
    let sizes = reader.metadata().row_groups().iter().map(|group| group.compressed_size());
    sizes.filter_map(|size| u64::try_from(size).ok()).max().unwrap_or_default().min(length)
}

/// Begins a column of a row group.
pub(in crate::data) fn column(
    reader: &SerializedFileReader<File>,
    group: usize,
    column: usize,
) -> Result<ColumnReader> {
    let group = reader.get_row_group(group)?;
    let Some(chunk) = group.metadata().columns().get(column) else {
        return Err(ParquetError::General(format!("the row group has no column {column}")));
    };
    let bytes = u64::try_from(chunk.compressed_size()).unwrap_or_default();
    let left = bytes.saturating_mul(VALUES_A_BYTE).saturating_add(VALUES);
    let pages = group.get_column_page_reader(column)?;
    Ok(get_column_reader(chunk.column_descr_ptr(), Box::new(Pages { pages, left })))
}

/// Pages that hold no more values than they can.
struct Pages {
    pages: Box<dyn PageReader>,
    /// Values that the pages to come may have.
    left: u64,
}

impl Pages {
    fn check(&mut self, page: &Page) -> Result<()> {
        let declared = u64::from(page.num_values());
        if page.is_dictionary_page() {
            let most = page.buffer().len() as u64 * ENTRIES_A_BYTE;
            return refuse(declared > most, "a dictionary", declared, most);
        }
        let left = self.left;
        self.left = left.saturating_sub(declared);
        refuse(declared > left, "a page", declared, left)
    }
}

fn refuse(wrong: bool, what: &str, declared: u64, most: u64) -> Result<()> {
    let text = || format!("{what} declares {declared} values, where {most} are the most there can be");
    if wrong { Err(ParquetError::General(text())) } else { Ok(()) }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        page.iter().try_for_each(|page| self.check(page))?;
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn supports_deferred_dictionary(&self) -> bool {
        self.pages.supports_deferred_dictionary()
    }

    fn take_deferred_dictionary(&mut self) -> Result<Option<Page>> {
        let page = self.pages.take_deferred_dictionary()?;
        page.iter().try_for_each(|page| self.check(page))?;
        Ok(page)
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}

#[cfg(test)]
mod tests {
    use parquet::basic::Encoding;

    use super::*;

    /// Pages as a file would have them.
    struct Made(Vec<Page>);

    impl Iterator for Made {
        type Item = Result<Page>;

        fn next(&mut self) -> Option<Self::Item> {
            self.get_next_page().transpose()
        }
    }

    impl PageReader for Made {
        fn get_next_page(&mut self) -> Result<Option<Page>> {
            Ok(self.0.pop())
        }

        fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
            Ok(None)
        }

        fn skip_next_page(&mut self) -> Result<()> {
            Ok(())
        }
    }

    fn dictionary(values: u32) -> Page {
        Page::DictionaryPage {
            buf: vec![0; 16].into(),
            num_values: values,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        }
    }

    fn data(values: u32) -> Page {
        Page::DataPage {
            buf: vec![0; 16].into(),
            num_values: values,
            encoding: Encoding::PLAIN,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        }
    }

    fn first(left: u64, page: Page) -> std::result::Result<bool, String> {
        let mut pages = Pages { pages: Box::new(Made(vec![page])), left };
        pages.get_next_page().map(|page| page.is_some()).map_err(|error| error.to_string())
    }

    #[test]
    fn pages_with_more_values_than_there_can_be_are_refused() {
        assert_eq!(first(100, dictionary(128)), Ok(true));
        let error = first(100, dictionary(129)).unwrap_err();
        assert!(error.ends_with("a dictionary declares 129 values, where 128 are the most there can be"), "{error}");
        assert_eq!(first(100, data(100)), Ok(true));
        let error = first(100, data(101)).unwrap_err();
        assert!(error.ends_with("a page declares 101 values, where 100 are the most there can be"), "{error}");
        // All pages together.
        let mut pages = Pages { pages: Box::new(Made(vec![data(60), data(60)])), left: 100 };
        assert!(pages.next().unwrap().is_ok() && pages.next().unwrap().is_err());
    }

    #[test]
    fn what_breaks_off_names_the_file() {
        let path = Path::new("a/b.parquet");
        let error = guarded(path, 0, || -> usize { panic!("range end index 9 out of range") }).unwrap_err();
        let text = error.message();
        assert!(text.starts_with("`a/b.parquet`: the library parquet broke off"), "{text}");
        assert!(text.ends_with("range end index 9 out of range"), "{text}");
        assert_eq!(guarded(path, 0, || 3).unwrap(), 3);
    }
}
