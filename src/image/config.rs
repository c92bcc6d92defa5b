//! `preprocessor_config.json` of transformers, in and out: the CLIP, BiT, SigLIP and ViT image processors, old
//! files with bare numbers as sizes included.

use serde_json::{Map, Value, json};

use super::{ImageProcessor, Resample, Resize};
use crate::error;
use crate::error::{Error, Result};

/// A processor class: whether a bare number as size means the shorter edge (else both), whether it crops unless
/// told otherwise, and its filter when the file names none.
struct Class {
    name: &'static str,
    shortest_edge: bool,
    crops: bool,
    resample: Resample,
}

const CLASSES: [Class; 4] = [
    Class { name: "CLIP", shortest_edge: true, crops: true, resample: Resample::Bicubic },
    Class { name: "Bit", shortest_edge: true, crops: true, resample: Resample::Bicubic },
    Class { name: "Siglip", shortest_edge: false, crops: false, resample: Resample::Bicubic },
    Class { name: "ViT", shortest_edge: false, crops: false, resample: Resample::Bilinear },
];

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
        let crop = if file.flag("do_center_crop", class.crops)? { Some(file.crop()?) } else { None };
        let rescale = if file.flag("do_rescale", true)? { file.rescale()? } else { 1.0 };
        let (mean, std) = match file.flag("do_normalize", true)? {
            true => (file.channels("image_mean")?, file.channels("image_std")?),
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

    fn need(&self, key: &str) -> Result<&Value> {
        self.get(key).ok_or_else(|| {
            error!(Decode, "`{}` has no `{key}`", self.name).help("copy the file the vision tower was published with")
        })
    }

    fn wrong(&self, key: &str, expected: &str) -> Error {
        let found = self.get(key).map(Value::to_string).unwrap_or_default();
        error!(Decode, "`{}`: `{key}` is {found}, not {expected}", self.name)
    }

    fn class(&self) -> Result<&'static Class> {
        let Some(key) = ["image_processor_type", "feature_extractor_type"].into_iter().find(|k| self.get(k).is_some())
        else {
            let named = if self.get("crop_size").is_some() { "CLIP" } else { "Siglip" };
            return CLASSES.iter().find(|class| class.name == named).ok_or_else(|| self.wrong("size", "known"));
        };
        let full = self.get(key).and_then(Value::as_str).unwrap_or_default();
        let class = ["ImageProcessorFast", "ImageProcessor", "FeatureExtractor"]
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
        let size = self.need("size")?;
        if let Some(edge) = pixels(size) {
            let exact = Resize::Exact { height: edge, width: edge };
            return Ok(if class.shortest_edge { Resize::ShortestEdge(edge) } else { exact });
        }
        match (side(size, "shortest_edge"), side(size, "height"), side(size, "width")) {
            (Some(edge), None, None) if size.get("longest_edge").is_none() => Ok(Resize::ShortestEdge(edge)),
            (None, Some(height), Some(width)) => Ok(Resize::Exact { height, width }),
            _ => Err(self.wrong("size", "a number, {shortest_edge} or {height, width}")),
        }
    }

    fn crop(&self) -> Result<(usize, usize)> {
        let size = self.need("crop_size")?;
        match (pixels(size), side(size, "height"), side(size, "width")) {
            (Some(edge), _, _) => Ok((edge, edge)),
            (None, Some(height), Some(width)) => Ok((height, width)),
            _ => Err(self.wrong("crop_size", "a number or {height, width}")),
        }
    }

    fn rescale(&self) -> Result<f64> {
        match self.get("rescale_factor") {
            None => Ok(1.0 / 255.0),
            Some(value) => value.as_f64().ok_or_else(|| self.wrong("rescale_factor", "a number")),
        }
    }

    fn channels(&self, key: &str) -> Result<[f64; 3]> {
        let values = self.need(key)?.as_array().map(|values| values.iter().filter_map(Value::as_f64).collect());
        let values: Vec<f64> = values.ok_or_else(|| self.wrong(key, "three numbers"))?;
        let channels = <[f64; 3]>::try_from(values).map_err(|_| self.wrong(key, "three numbers"))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    const CLIP: &str = r#"{ "crop_size": 336, "do_center_crop": true, "do_normalize": true, "do_resize": true,
        "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "size": 336 }"#;

    #[test]
    fn old_and_new_files_are_read() {
        let clip = ImageProcessor::from_json(CLIP, "clip").unwrap();
        assert_eq!(clip.resize, Resize::ShortestEdge(336));
        assert_eq!((clip.crop, clip.resample, clip.rescale), (Some((336, 336)), Resample::Bicubic, 1.0 / 255.0));

        let vit = r#"{"image_processor_type": "ViTImageProcessor", "size": 224, "do_rescale": false,
            "do_normalize": false}"#;
        let vit = ImageProcessor::from_json(vit, "vit").unwrap();
        assert_eq!((vit.resize, vit.crop), (Resize::Exact { height: 224, width: 224 }, None));
        assert_eq!((vit.resample, vit.rescale, vit.mean, vit.std), (Resample::Bilinear, 1.0, [0.0; 3], [1.0; 3]));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let clip = ImageProcessor::from_json(CLIP, "clip").unwrap();
        let exact = ImageProcessor { resize: Resize::Exact { height: 20, width: 30 }, crop: None, ..clip.clone() };
        let keep = ImageProcessor { resize: Resize::Keep, rescale: 0.5, ..clip.clone() };
        for processor in [clip, exact, keep] {
            assert_eq!(ImageProcessor::from_json(&processor.to_json(), "again").unwrap(), processor);
        }
    }

    #[test]
    fn a_bad_key_is_named() {
        let cases = [
            ("\"size\": 336", "\"sizes\": 336", "`clip` has no `size`"),
            ("\"size\": 336", "\"size\": {\"longest_edge\": 9}", "`size` is {\"longest_edge\":9}, not a number"),
            ("\"image_mean\"", "\"mean\"", "`clip` has no `image_mean`"),
            ("\"resample\": 3", "\"resample\": 1", "`resample` is 1, not 2 (bilinear) or 3 (bicubic)"),
            ("CLIPFeatureExtractor", "ConvNextImageProcessor", "is \"ConvNextImageProcessor\", not one of CLIP"),
            ("0.26862954", "0", "`image_std` is [0,"),
            ("\"do_resize\": true", "\"do_resize\": 1", "`do_resize` is 1, not true or false"),
        ];
        for (from, to, message) in cases {
            let error = ImageProcessor::from_json(&CLIP.replace(from, to), "clip").unwrap_err();
            assert!(error.message().contains(message), "{error}");
        }
    }
}
