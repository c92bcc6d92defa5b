//! Kinds of files that are not readable pictures here, recognized by their first bytes, so that a message can name them.

/// The next step for formats that Pillow can open.
pub(super) const CONVERT: &str =
    "convert it to PNG, for example with Pillow: `Image.open(file).convert(\"RGB\").save(\"picture.png\")`";
const HEIF: &str = "convert it to PNG, for example with Pillow and the package pillow_heif";
const JXL: &str = "convert it to PNG, for example with Pillow and the package pillow-jxl-plugin";
const NO_PICTURE: &str = "a picture as PNG or JPEG is needed: check the path, or what was downloaded";

/// The first bytes of a file, the name of its format, the next step.
const BEGINNINGS: [(&[u8], &str, &str); 19] = [
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000", CONVERT),
    (b"\xff\x4f\xff\x51", "JPEG 2000", CONVERT),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL", JXL),
    (b"\xff\x0a", "JPEG XL", JXL),
    (b"qoif", "QOI", CONVERT),
    (b"\0\0\x01\0", "ICO", CONVERT),
    (b"\0\0\x02\0", "CUR", CONVERT),
    (b"DDS ", "DDS", CONVERT),
    (b"8BPS", "a Photoshop file (PSD)", CONVERT),
    (b"farbfeld", "farbfeld", CONVERT),
    (b"\x76\x2f\x31\x01", "OpenEXR", "convert it to PNG"),
    (b"#?RADIANCE", "Radiance HDR", "convert it to PNG"),
    (b"\x0a\x05\x01", "PCX", CONVERT),
    (b"%PDF", "PDF", "make a PNG of the page"),
    (b"%!PS", "PostScript", "make a PNG of the page"),
    (b"<svg", "SVG", "draw it into a PNG"),
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the file itself with `git lfs pull`"),
    (b"PK\x03\x04", "a zip archive", "unpack it"),
    (b"\x1f\x8b", "compressed by gzip", "unpack it"),
];

/// Brands of files in the ISO base media container.
const BRANDS: [(&[&[u8]], &str, &str); 3] = [
    (&[b"avif", b"avis"], "AVIF", CONVERT),
    (&[b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"], "HEIC", HEIF),
    (&[b"mp41", b"mp42", b"isom", b"iso2", b"M4V ", b"qt  "], "a video", NO_PICTURE),
];

/// The name of the format and the next step, if the format is known.
pub(super) fn named(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    if bytes.get(4..8) == Some(b"ftyp") {
        let brand = bytes.get(8..12).unwrap_or_default();
        // The first brand may be a general one; the specific one is then among the compatible brands.
        let length = bytes.get(..4).and_then(|length| length.try_into().ok()).map_or(0, u32::from_be_bytes) as usize;
        let compatible = bytes.get(16..length.min(bytes.len())).unwrap_or_default().chunks_exact(4);
        let all = || std::iter::once(brand).chain(compatible.clone());
        let found = BRANDS.iter().find(|(brands, ..)| all().any(|brand| brands.contains(&brand)));
        return Some(found.map_or(("a file of the MP4 family", NO_PICTURE), |(_, kind, help)| (kind, help)));
    }
    // An ICO or CUR file holds at least one picture; a TGA file may begin with the same bytes.
    let holds_none = |beginning: &[u8]| beginning.len() == 4 && beginning[0] == 0 && bytes.get(4..6) == Some(&[0, 0]);
    let begins = |beginning: &[u8]| bytes.starts_with(beginning) && !holds_none(beginning);
    if let Some((_, kind, help)) = BEGINNINGS.iter().find(|(beginning, ..)| begins(beginning)) {
        return Some((kind, help));
    }
    let is_pnm = matches!(bytes, [b'P', b'1'..=b'7', space, ..] if space.is_ascii_whitespace() || *space == b'#');
    if is_pnm {
        return Some(("PNM (PBM, PGM, PPM or PAM)", CONVERT));
    }
    is_tga(bytes).then_some(("TGA", CONVERT))
}

/// A TGA file has a signature at its end only in newer versions; otherwise a consistent header is accepted.
fn is_tga(bytes: &[u8]) -> bool {
    if bytes.len() > 26 && bytes[..bytes.len() - 1].ends_with(b"TRUEVISION-XFILE.") {
        return true;
    }
    let Some(&[_, palette, kind, .., depth, flags]) = bytes.first_chunk::<18>() else { return false };
    let sizes = [12, 14].map(|at| u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let kinds: &[u8] = if palette == 1 { &[1, 9] } else { &[2, 3, 10, 11] };
    palette <= 1
        && kinds.contains(&kind)
        && [8, 15, 16, 24, 32].contains(&depth)
        && flags & 0xc0 == 0
        && !sizes.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_their_first_bytes() {
        let mut tga = [0u8; 20];
        (tga[2], tga[12], tga[14], tga[16]) = (2, 5, 4, 24);
        let cases: [(&[u8], Option<&str>); 13] = [
            (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miaf", Some("AVIF")),
            (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic", Some("HEIC")),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", Some("AVIF")),
            (b"\0\0\0\x18ftypisom\0\0\0\0", Some("a video")),
            (b"\xff\x0a\x12", Some("JPEG XL")),
            (b"\xff\x4f\xff\x51\0", Some("JPEG 2000")),
            (b"qoif\0\0", Some("QOI")),
            (b"\0\0\x01\0\x01\0", Some("ICO")),
            (b"P6\n3 2\n255\n", Some("PNM (PBM, PGM, PPM or PAM)")),
            (&tga, Some("TGA")),
            (b"P6x", None),
            (b"\x01\x02\x03", None),
            (b"hello", None),
        ];
        for (bytes, kind) in cases {
            assert_eq!(named(bytes).map(|(kind, _)| kind), kind, "{bytes:?}");
        }
    }
}
