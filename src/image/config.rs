//! `preprocessor_config.json` of transformers, in and out: the CLIP, BiT (DINOv2), SigLIP and ViT (I-JEPA) image
//! processors, old files with bare numbers as sizes included. What a file leaves out has the default of its class.
//! Source: transformers 4.49.0, `image_processing_{clip,bit,siglip,vit}.py`; 5.23 writes the same.

use serde_json::{Map, Value, json};

use super::{ImageProcessor, Resample, Resize};
use crate::error;
use crate::error::{Error, Result};

/// A processor class and what it does unless told otherwise.
struct Class {
    name: &'static str,
    /// Whether it resizes the shorter edge and crops, as CLIP's does; else it resizes to a square and has no crop.
    crops: bool,
    resample: Resample,
    mean: [f64; 3],
    std: [f64; 3],
}

const CLIP: Class = Class {
    name: "CLIP",
    crops: true,
    resample: Resample::Bicubic,
    mean: [0.48145466, 0.4578275, 0.40821073],
    std: [0.26862954, 0.26130258, 0.27577711],
};
const SIGLIP: Class =
    Class { name: "Siglip", crops: false, resample: Resample::Bicubic, mean: [0.5; 3], std: [0.5; 3] };
const CLASSES: [Class; 4] =
    [CLIP, Class { name: "Bit", ..CLIP }, SIGLIP, Class { name: "ViT", resample: Resample::Bilinear, ..SIGLIP }];

/// Side of the square that every class makes unless told otherwise.
const SIDE: usize = 224;

impl ImageProcessor {
    /// Reads a `preprocessor_config.json`; `name` is for messages.
    ///
    /// # Errors
    /// `Decode`, naming the key that is missing or unusable.
    pub fn from_json(text: &str, name: &str) -> Result<Self> {
        let json = serde_json::from_str(text).map_err(|error| error!(Decode, "`{name}`: {error}"))?;
        let file = File { json, name };
        let class = file.class()?;
        let resize = if file.flag("do_resize", true)? { file.size(class)? } else { Resize::Keep };
        // The classes that do not crop ignore the key.
        let crop = if file.flag("do_center_crop", class.crops)? && class.crops { Some(file.crop()?) } else { None };
        let rescale = if file.flag("do_rescale", true)? { file.rescale()? } else { 1.0 };
        let (mean, std) = match file.flag("do_normalize", true)? {
            true => (file.channels("image_mean", class.mean)?, file.channels("image_std", class.std)?),
            false => ([0.0; 3], [1.0; 3]),
        };
        Ok(ImageProcessor { resize, crop, resample: file.resample(class)?, rescale, mean, std })
    }

    /// The same as a `preprocessor_config.json` that transformers reads.
    pub fn to_json(&self) -> String {
        let class = match (self.resize, self.crop) {
            (Resize::Exact { .. }, None) => "SiglipImageProcessor",
            _ => "CLIPImageProcessor",
        };
        let mut json = json!({
            "image_processor_type": class,
            "do_convert_rgb": true,
            "do_resize": self.resize != Resize::Keep,
            "resample": match self.resample { Resample::Bilinear => 2, Resample::Bicubic => 3 },
            "do_center_crop": self.crop.is_some(),
            "do_rescale": true,
            "rescale_factor": self.rescale,
            "do_normalize": true,
            "image_mean": self.mean,
            "image_std": self.std,
        });
        match self.resize {
            Resize::ShortestEdge(edge) => json["size"] = json!({ "shortest_edge": edge }),
            Resize::Exact { height, width } => json["size"] = json!({ "height": height, "width": width }),
            Resize::Keep => {}
        }
        if let Some((height, width)) = self.crop {
            json["crop_size"] = json!({ "height": height, "width": width });
        }
        format!("{json:#}\n")
    }
}

struct File<'a> {
    json: Map<String, Value>,
    name: &'a str,
}

impl File<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.json.get(key).filter(|value| !value.is_null())
    }

    /// The key of the class, where the file names one; only then are there defaults for everything else.
    fn class_key(&self) -> Option<&'static str> {
        ["image_processor_type", "feature_extractor_type"].into_iter().find(|key| self.get(key).is_some())
    }

    /// A value that has a default if the class is known.
    fn need(&self, key: &str) -> Result<Option<&Value>> {
        match self.get(key) {
            None if self.class_key().is_none() => Err(error!(
                Decode,
                "`{}` has neither `{key}` nor an `image_processor_type` with a default for it", self.name
            )
            .help("copy the file the vision tower was published with")),
            value => Ok(value),
        }
    }

    fn wrong(&self, key: &str, expected: &str) -> Error {
        let found = self.get(key).map(Value::to_string).unwrap_or_default();
        error!(Decode, "`{}`: `{key}` is {found}, not {expected}", self.name)
    }

    fn class(&self) -> Result<&'static Class> {
        let Some(key) = self.class_key() else {
            return Ok(if self.get("crop_size").is_some() { &CLIP } else { &SIGLIP });
        };
        let full = self.get(key).and_then(Value::as_str).unwrap_or_default();
        let class = ["ImageProcessorFast", "ImageProcessorPil", "ImageProcessor", "FeatureExtractor"]
            .into_iter()
            .find_map(|suffix| full.strip_suffix(suffix))
            .and_then(|name| CLASSES.iter().find(|class| class.name == name));
        let known: Vec<_> = CLASSES.iter().map(|class| format!("{}ImageProcessor", class.name)).collect();
        class.ok_or_else(|| self.wrong(key, &format!("one of {}", known.join(", "))))
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key, "true or false")),
        }
    }

    fn size(&self, class: &Class) -> Result<Resize> {
        let square = |edge| match class.crops {
            true => Resize::ShortestEdge(edge),
            false => Resize::Exact { height: edge, width: edge },
        };
        let Some(size) = self.need("size")? else { return Ok(square(SIDE)) };
        if let Some(edge) = pixels(size) {
            return Ok(square(edge));
        }
        if let (Some(edge), None) = (side(size, "shortest_edge"), size.get("longest_edge").and_then(Value::as_u64)) {
            return Ok(Resize::ShortestEdge(edge));
        }
        match pair(size) {
            Some((height, width)) => Ok(Resize::Exact { height, width }),
            None => Err(self.wrong("size", "a number, {shortest_edge} or {height, width}")),
        }
    }

    fn crop(&self) -> Result<(usize, usize)> {
        let Some(size) = self.need("crop_size")? else { return Ok((SIDE, SIDE)) };
        let square = pixels(size).map(|edge| (edge, edge));
        square.or_else(|| pair(size)).ok_or_else(|| self.wrong("crop_size", "a number or {height, width}"))
    }

    fn rescale(&self) -> Result<f64> {
        match self.get("rescale_factor") {
            None => Ok(1.0 / 255.0),
            Some(value) => value.as_f64().ok_or_else(|| self.wrong("rescale_factor", "a number")),
        }
    }

    fn channels(&self, key: &str, default: [f64; 3]) -> Result<[f64; 3]> {
        let Some(value) = self.need(key)? else { return Ok(default) };
        let values: Option<Vec<f64>> = match value.as_array() {
            Some(values) => values.iter().map(Value::as_f64).collect(),
            None => value.as_f64().map(|value| vec![value; 3]),
        };
        let channels = values.and_then(|values| <[f64; 3]>::try_from(values).ok());
        let channels = channels.ok_or_else(|| self.wrong(key, "three numbers"))?;
        if key == "image_std" && channels.contains(&0.0) {
            return Err(self.wrong(key, "three numbers other than zero"));
        }
        Ok(channels)
    }

    fn resample(&self, class: &Class) -> Result<Resample> {
        match self.get("resample") {
            None => Ok(class.resample),
            Some(value) => match value.as_u64() {
                Some(2) => Ok(Resample::Bilinear),
                Some(3) => Ok(Resample::Bicubic),
                _ => Err(self.wrong("resample", "2 (bilinear) or 3 (bicubic)")),
            },
        }
    }
}

fn pixels(value: &Value) -> Option<usize> {
    value.as_u64().filter(|edge| (1..=1 << 16).contains(edge)).map(|edge| edge as usize)
}

fn side(size: &Value, key: &str) -> Option<usize> {
    size.get(key).and_then(pixels)
}

/// `{height, width}`, or the two in an array.
fn pair(size: &Value) -> Option<(usize, usize)> {
    match size.as_array().map(Vec::as_slice) {
        Some([height, width]) => Some((pixels(height)?, pixels(width)?)),
        Some(_) => None,
        None => Some((side(size, "height")?, side(size, "width")?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIP_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
    const CLIP_STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];
    const PUBLISHED: &str = r#"{ "crop_size": 336, "do_center_crop": true, "do_normalize": true, "do_resize": true,
        "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "size": 336 }"#;

    #[test]
    fn old_and_new_files_are_read() {
        let clip = ImageProcessor::from_json(PUBLISHED, "clip").unwrap();
        assert_eq!(clip.resize, Resize::ShortestEdge(336));
        assert_eq!((clip.crop, clip.resample, clip.rescale), (Some((336, 336)), Resample::Bicubic, 1.0 / 255.0));

        let vit = r#"{"image_processor_type": "ViTImageProcessor", "size": 224, "do_rescale": false,
            "do_normalize": false}"#;
        let vit = ImageProcessor::from_json(vit, "vit").unwrap();
        assert_eq!((vit.resize, vit.crop), (Resize::Exact { height: 224, width: 224 }, None));
        assert_eq!((vit.resample, vit.rescale, vit.mean, vit.std), (Resample::Bilinear, 1.0, [0.0; 3], [1.0; 3]));
    }

    /// `Class(arguments)` in transformers 4.49.0 and 5.23.0.
    #[test]
    fn absent_keys_have_the_default_of_the_class() {
        let read = |text: &str| ImageProcessor::from_json(text, "file").unwrap();
        let clip = read(r#"{ "image_processor_type": "CLIPImageProcessorFast" }"#);
        assert_eq!((clip.resize, clip.crop), (Resize::ShortestEdge(224), Some((224, 224))));
        assert_eq!((clip.resample, clip.mean, clip.std), (Resample::Bicubic, CLIP_MEAN, CLIP_STD));
        let dinov2 = read(
            r#"{ "image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 256, "longest_edge": null} }"#,
        );
        assert_eq!(dinov2, ImageProcessor { resize: Resize::ShortestEdge(256), ..clip });
        let siglip = read(r#"{ "image_processor_type": "SiglipImageProcessor", "do_center_crop": true }"#);
        assert_eq!((siglip.resize, siglip.crop), (Resize::Exact { height: 224, width: 224 }, None));
        assert_eq!((siglip.resample, siglip.mean, siglip.std), (Resample::Bicubic, [0.5; 3], [0.5; 3]));
        let vit = read(r#"{ "image_processor_type": "ViTImageProcessorPil", "size": [30, 40], "image_mean": 0.25 }"#);
        let resize = Resize::Exact { height: 30, width: 40 };
        assert_eq!(vit, ImageProcessor { resize, resample: Resample::Bilinear, mean: [0.25; 3], ..siglip });
    }

    #[test]
    fn what_is_written_is_read_back() {
        let clip = ImageProcessor::from_json(PUBLISHED, "clip").unwrap();
        let exact = ImageProcessor { resize: Resize::Exact { height: 20, width: 30 }, crop: None, ..clip.clone() };
        let keep = ImageProcessor { resize: Resize::Keep, rescale: 0.5, ..clip.clone() };
        for processor in [clip, exact, keep] {
            assert_eq!(ImageProcessor::from_json(&processor.to_json(), "again").unwrap(), processor);
        }
    }

    #[test]
    fn a_bad_key_is_named() {
        let cases = [
            ("\"feature_extractor_type\"", "\"class\"", "`clip` has neither `size` nor an `image_processor_type`"),
            ("\"size\": 336", "\"size\": {\"longest_edge\": 9}", "`size` is {\"longest_edge\":9}, not a number"),
            ("0.48145466, ", "", "`image_mean` is [0.4578275,0.40821073], not three numbers"),
            ("\"resample\": 3", "\"resample\": 1", "`resample` is 1, not 2 (bilinear) or 3 (bicubic)"),
            ("CLIPFeatureExtractor", "ConvNextImageProcessor", "is \"ConvNextImageProcessor\", not one of CLIP"),
            ("0.26862954", "0", "`image_std` is [0,"),
            ("\"do_resize\": true", "\"do_resize\": 1", "`do_resize` is 1, not true or false"),
        ];
        for (from, to, message) in cases {
            let mut text = PUBLISHED.replace(from, to);
            if from.contains("_type") {
                text = text.replace("\"size\"", "\"sizes\"");
            }
            let error = ImageProcessor::from_json(&text, "clip").unwrap_err();
            assert!(error.message().contains(message), "{error}");
        }
    }
}
