//! PNG files with a damaged end, which Pillow opens: Pillow 13 takes the pixels without checking the checksum
//! of IDAT, and ignores what follows them.

use crc::{CRC_32_ISO_HDLC, Crc};

const SIGNATURE: usize = 8;
const DATA: &[u8] = b"IDAT";

/// The file up to the last byte of its pixel data, with valid checksums and an end chunk. `None` where it has no such data.
pub(super) fn ended(bytes: &[u8]) -> Option<Vec<u8>> {
    let crc = Crc::<u32>::new(&CRC_32_ISO_HDLC);
    let mut whole = bytes.get(..SIGNATURE)?.to_vec();
    let mut push = |kind: &[u8], content: &[u8]| -> Option<()> {
        let mut digest = crc.digest();
        [kind, content].into_iter().for_each(|part| digest.update(part));
        whole.extend(u32::try_from(content.len()).ok()?.to_be_bytes());
        [kind, content].into_iter().for_each(|part| whole.extend(part));
        whole.extend(digest.finalize().to_be_bytes());
        Some(())
    };
    let (mut at, mut begun) = (SIGNATURE, false);
    while let Some([a, b, c, d, kind @ ..]) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let (length, is_data) = (u32::from_be_bytes([*a, *b, *c, *d]) as usize, kind == DATA);
        let (first, checksum) = (at + 8, (at + 8).checked_add(length)?);
        if begun && !is_data {
            break;
        }
        let content = &bytes[first..checksum.min(bytes.len())];
        if !is_data {
            // Everything before the pixels has to be valid.
            let stored = bytes.get(checksum..checksum + 4)?;
            let mut digest = crc.digest();
            [&kind[..], content].into_iter().for_each(|part| digest.update(part));
            if stored != digest.finalize().to_be_bytes() {
                return None;
            }
        }
        push(kind, content)?;
        begun |= is_data;
        at = checksum.checked_add(4)?;
    }
    push(b"IEND", &[])?;
    begun.then_some(whole)
}
