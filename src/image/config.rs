//! Reads and writes `preprocessor_config.json` of transformers: the image processors of CLIP, BiT (DINOv2), SigLIP, ViT
//! (I-JEPA), LLaVA and DINOv3, also old files with bare numbers as sizes. A missing key takes the default of its class;
//! a value that cannot be computed here is refused, naming key and file.
//! Source: transformers 5.24.0, `image_processing_backends.py` (steps, the Pillow ones), `image_processing_utils.py`
//! (sizes) and `models/*/image_processing_pil_*.py` (defaults).

use serde_json::{Map, Value, json};

use super::{Aspect, ImageProcessor, Order, Resample, Resize};
use crate::error;
use crate::error::{Error, Result};

/// A processor class and its defaults.
struct Class {
    name: &'static str,
    /// Whether it resizes the shorter edge and crops, as CLIP's does; else it resizes to a square and does not crop.
    crops: bool,
    /// Whether a bare number as `size` is the side of a square; else it is the shorter edge.
    squares: bool,
    resample: Resample,
    mean: [f64; 3],
    std: [f64; 3],
    order: Order,
}

const CLIP: Class = Class {
    name: "CLIP",
    crops: true,
    squares: false,
    resample: Resample::Bicubic,
    mean: [0.48145466, 0.4578275, 0.40821073],
    std: [0.26862954, 0.26130258, 0.27577711],
    order: Order::ResizeFirst,
};
const SIGLIP: Class = Class { name: "Siglip", crops: false, mean: [0.5; 3], std: [0.5; 3], ..CLIP };
const VIT: Class = Class { name: "ViT", squares: true, resample: Resample::Bilinear, ..SIGLIP };
const LLAVA: Class = Class { name: "Llava", ..CLIP };
const DINOV3: Class = Class {
    name: "DINOv3ViT",
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
    order: Order::RescaleFirst,
    ..VIT
};
const CLASSES: [Class; 6] = [CLIP, Class { name: "Bit", ..CLIP }, SIGLIP, VIT, LLAVA, DINOV3];

/// The default side of the square for every class.
const SIDE: usize = 224;

/// How a file says pictures are prepared.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessing {
    pub processor: ImageProcessor,
    /// The treatment of pictures that are not square, where the class has an option for it (`do_pad` of LLaVA's).
    pub aspect: Option<Aspect>,
}

impl Preprocessing {
    /// Reads the content of a `preprocessor_config.json`; `name` is for messages, `class` is the processor class of the model in
    /// the same folder, for files that name none.
    ///
    /// # Errors
    /// `Decode`, naming the key that is missing or unusable.
    pub fn from_json(json: &Value, name: &str, class: Option<&str>) -> Result<Self> {
        let json = json.as_object().cloned().ok_or_else(|| error!(Decode, "`{name}` holds no JSON object"))?;
        let file = File { json, name, fallback: class };
        let class = file.class()?;
        if file.flag("use_square_size", false)? {
            return Err(file.wrong("use_square_size", "false").help("write the size as {height, width}"));
        }
        file.flag("do_convert_rgb", true)?; // pictures are always RGB here
        let resize = if file.flag("do_resize", true)? { file.size(class)? } else { Resize::Keep };
        let crop = if file.flag("do_center_crop", class.crops)? { Some(file.crop(class)?) } else { None };
        let rescale = if file.flag("do_rescale", true)? { file.rescale()? } else { 1.0 };
        let normalize = file.flag("do_normalize", true)?;
        let (mean, std) = match normalize {
            true => (file.channels("image_mean", class.mean)?, file.channels("image_std", class.std)?),
            // Without normalization the mean is only the color of padding.
            false => (file.given_channels("image_mean")?.unwrap_or(class.mean), [1.0; 3]),
        };
        let resample = file.resample(class)?;
        if class.order == Order::RescaleFirst {
            file.check_order(resample)?;
        }
        let aspect = file.padding(class, resize, crop)?;
        let order = class.order;
        Ok(Preprocessing {
            processor: ImageProcessor { resize, crop, resample, rescale, normalize, mean, std, order },
            aspect,
        })
    }

    /// The processor as a `preprocessor_config.json` that transformers reads.
    pub fn to_json(&self) -> String {
        let processor = &self.processor;
        let class = match (processor.order, self.aspect, processor.resize, processor.crop) {
            (Order::RescaleFirst, ..) => "DINOv3ViTImageProcessor",
            (_, Some(_), ..) => "LlavaImageProcessor",
            (_, None, Resize::Exact { .. }, None) => "SiglipImageProcessor",
            _ => "CLIPImageProcessor",
        };
        let mut json = json!({
            "image_processor_type": class,
            "do_convert_rgb": true,
            "do_resize": processor.resize != Resize::Keep,
            "resample": processor.resample.number(),
            "do_center_crop": processor.crop.is_some(),
            "do_rescale": true,
            "rescale_factor": processor.rescale,
            "do_normalize": processor.normalize,
            "image_mean": processor.mean,
            "image_std": processor.std,
        });
        let square = |height: usize, width: usize| json!({ "height": height, "width": width });
        match processor.resize {
            Resize::ShortestEdge(edge) => json["size"] = json!({ "shortest_edge": edge }),
            Resize::Between { shortest, longest } => {
                json["size"] = json!({ "shortest_edge": shortest, "longest_edge": longest });
            }
            Resize::Within { height, width } => json["size"] = json!({ "max_height": height, "max_width": width }),
            Resize::Exact { height, width } => json["size"] = square(height, width),
            Resize::Keep => {}
        }
        if let Some((height, width)) = processor.crop {
            json["crop_size"] = square(height, width);
        }
        if let Some(aspect) = self.aspect {
            json["do_pad"] = json!(aspect == Aspect::Pad);
        }
        format!("{json:#}\n")
    }
}

struct File<'a> {
    json: Map<String, Value>,
    name: &'a str,
    fallback: Option<&'a str>,
}

impl File<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.json.get(key).filter(|value| !value.is_null())
    }

    /// The key that names the class, where the file has one.
    fn class_key(&self) -> Option<&'static str> {
        ["image_processor_type", "feature_extractor_type"].into_iter().find(|key| self.get(key).is_some())
    }

    /// The value of a key whose default depends on the class.
    fn need(&self, key: &str) -> Result<Option<&Value>> {
        match self.get(key) {
            None if self.class_key().is_none() && self.fallback.is_none() => Err(error!(
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
        let key = self.class_key();
        let Some(full) =
            key.map_or(self.fallback, |key| Some(self.get(key).and_then(Value::as_str).unwrap_or_default()))
        else {
            return Ok(if self.get("crop_size").is_some() { &CLIP } else { &SIGLIP });
        };
        let plain = ["Fast", "Pil"].iter().find_map(|suffix| full.strip_suffix(suffix)).unwrap_or(full);
        let family = ["ImageProcessor", "FeatureExtractor"].iter().find_map(|suffix| plain.strip_suffix(suffix));
        let class = family.and_then(|name| CLASSES.iter().find(|class| class.name == name));
        let known: Vec<_> = CLASSES.iter().map(|class| format!("{}ImageProcessor", class.name)).collect();
        class.ok_or_else(|| {
            let error = self.wrong(key.unwrap_or("image_processor_type"), &format!("one of {}", known.join(", ")));
            match family {
                Some("Siglip2") => error.help(
                    "it cuts pictures into patches for NaFlex; SigLIP 2 at a fixed resolution has SiglipImageProcessor",
                ),
                _ => error,
            }
        })
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key, "true or false")),
        }
    }

    fn size(&self, class: &Class) -> Result<Resize> {
        let square = self.flag("default_to_square", class.squares)?;
        let Some(size) = self.need("size")? else {
            return Ok(match class.crops {
                true => Resize::ShortestEdge(SIDE),
                false => Resize::Exact { height: SIDE, width: SIDE },
            });
        };
        let found = match (size, pixels(size)) {
            (_, Some(edge)) if square => Some(Resize::Exact { height: edge, width: edge }),
            (_, Some(edge)) => Some(Resize::ShortestEdge(edge)),
            (Value::Array(_), None) => pair(size).map(|(height, width)| Resize::Exact { height, width }),
            _ => named_size(size),
        };
        found.ok_or_else(|| {
            let known =
                "a number, {height, width}, {shortest_edge}, {shortest_edge, longest_edge} or {max_height, max_width}";
            self.wrong("size", known)
        })
    }

    fn crop(&self, class: &Class) -> Result<(usize, usize)> {
        let Some(size) = self.need("crop_size")? else {
            return match class.crops {
                true => Ok((SIDE, SIDE)),
                false => Err(error!(
                    Decode,
                    "`{}`: `do_center_crop` is true, but there is no `crop_size`, and {}ImageProcessor has no default",
                    self.name,
                    class.name
                )
                .help("write `crop_size`, or set `do_center_crop` to false")),
            };
        };
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
        self.need(key)?;
        let channels = self.given_channels(key)?.unwrap_or(default);
        if key == "image_std" && channels.contains(&0.0) {
            return Err(self.wrong(key, "three numbers other than zero"));
        }
        Ok(channels)
    }

    fn given_channels(&self, key: &str) -> Result<Option<[f64; 3]>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let values: Option<Vec<f64>> = match value.as_array() {
            Some(values) => values.iter().map(Value::as_f64).collect(),
            None => value.as_f64().map(|value| vec![value; 3]),
        };
        let channels = values.and_then(|values| <[f64; 3]>::try_from(values).ok());
        channels.map(Some).ok_or_else(|| self.wrong(key, "three numbers"))
    }

    fn resample(&self, class: &Class) -> Result<Resample> {
        match self.need("resample")? {
            None => Ok(class.resample),
            Some(value) => value.as_u64().and_then(Resample::from_number).ok_or_else(|| {
                self.wrong(
                    "resample",
                    "one of 0 (nearest), 1 (Lanczos), 2 (bilinear), 3 (bicubic), 4 (box), 5 (Hamming)",
                )
            }),
        }
    }

    /// The options for resizing floats, which has to be computed as torchvision does.
    fn check_order(&self, resample: Resample) -> Result<()> {
        if !self.flag("do_rescale", true)? {
            return Err(self.wrong("do_rescale", "true, as it is of every published DINOv3"));
        }
        match resample {
            Resample::Bilinear | Resample::Bicubic => Ok(()),
            _ => Err(self.wrong("resample", "2 (bilinear) or 3 (bicubic) of DINOv3ViTImageProcessor")),
        }
    }

    /// LLaVA's `do_pad` first pads the picture to a square. In the other classes it pads the output, to `pad_size` or to
    /// the largest picture of a batch; all outputs have one size here, so that changes nothing.
    fn padding(&self, class: &Class, resize: Resize, crop: Option<(usize, usize)>) -> Result<Option<Aspect>> {
        let pads = self.flag("do_pad", false)?;
        if class.name == LLAVA.name {
            return Ok(Some(if pads { Aspect::Pad } else { Aspect::Square }));
        }
        let Some(size) = self.get("pad_size").filter(|_| pads) else { return Ok(None) };
        let made = crop.or(match resize {
            Resize::Exact { height, width } => Some((height, width)),
            _ => None,
        });
        let size = pixels(size).map(|edge| (edge, edge)).or_else(|| pair(size));
        match made {
            Some(_) if size == made => Ok(None),
            _ => Err(self
                .wrong("pad_size", "the size that resizing and cropping give; llmore adds no margin behind them")
                .help("set `do_pad` to false if the tower was trained without it")),
        }
    }
}

fn pixels(value: &Value) -> Option<usize> {
    value.as_u64().filter(|edge| (1..=1 << 16).contains(edge)).map(|edge| edge as usize)
}

/// A size by the names of its edges; null counts as absent.
fn named_size(size: &Value) -> Option<Resize> {
    let given: Vec<(&str, usize)> = size
        .as_object()?
        .iter()
        .filter(|(_, edge)| !edge.is_null())
        .map(|(name, edge)| Some((name.as_str(), pixels(edge)?)))
        .collect::<Option<_>>()?;
    let edge = |wanted: &str| given.iter().find(|(name, _)| *name == wanted).map(|(_, edge)| *edge);
    let (shortest, longest) = (edge("shortest_edge"), edge("longest_edge"));
    match (given.len(), shortest, longest) {
        (1, Some(edge), None) => Some(Resize::ShortestEdge(edge)),
        (2, Some(shortest), Some(longest)) => Some(Resize::Between { shortest, longest }),
        (2, None, None) => match (edge("height").zip(edge("width")), edge("max_height").zip(edge("max_width"))) {
            (Some((height, width)), _) => Some(Resize::Exact { height, width }),
            (None, Some((height, width))) => Some(Resize::Within { height, width }),
            (None, None) => None,
        },
        _ => None,
    }
}

/// `{height, width}`, or an array of the two.
fn pair(size: &Value) -> Option<(usize, usize)> {
    match size.as_array().map(Vec::as_slice) {
        Some([height, width]) => Some((pixels(height)?, pixels(width)?)),
        Some(_) => None,
        None => match named_size(size)? {
            Resize::Exact { height, width } => Some((height, width)),
            _ => None,
        },
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

    fn read(text: &str) -> Preprocessing {
        Preprocessing::from_json(&serde_json::from_str(text).unwrap(), "file", None).unwrap()
    }

    #[test]
    fn old_and_new_files_are_read() {
        let clip = read(PUBLISHED).processor;
        assert_eq!(clip.resize, Resize::ShortestEdge(336));
        assert_eq!((clip.crop, clip.resample, clip.rescale), (Some((336, 336)), Resample::Bicubic, 1.0 / 255.0));

        let vit = r#"{"image_processor_type": "ViTImageProcessor", "size": 224, "do_rescale": false,
            "do_normalize": false}"#;
        let vit = read(vit).processor;
        assert_eq!((vit.resize, vit.crop), (Resize::Exact { height: 224, width: 224 }, None));
        assert_eq!((vit.resample, vit.rescale, vit.normalize), (Resample::Bilinear, 1.0, false));
    }

    /// `Class(arguments)` in transformers 5.24.0.
    #[test]
    fn absent_keys_have_the_default_of_the_class() {
        let read = |text: &str| read(text).processor;
        let clip = read(r#"{ "image_processor_type": "CLIPImageProcessorFast" }"#);
        assert_eq!((clip.resize, clip.crop), (Resize::ShortestEdge(224), Some((224, 224))));
        assert_eq!((clip.resample, clip.mean, clip.std), (Resample::Bicubic, CLIP_MEAN, CLIP_STD));
        let dinov2 = read(
            r#"{ "image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 256, "longest_edge": null} }"#,
        );
        assert_eq!(dinov2, ImageProcessor { resize: Resize::ShortestEdge(256), ..clip });
        let siglip = read(r#"{ "image_processor_type": "SiglipImageProcessor" }"#);
        assert_eq!((siglip.resize, siglip.crop), (Resize::Exact { height: 224, width: 224 }, None));
        assert_eq!((siglip.resample, siglip.mean, siglip.std), (Resample::Bicubic, [0.5; 3], [0.5; 3]));
        let vit = read(r#"{ "image_processor_type": "ViTImageProcessorPil", "size": [30, 40], "image_mean": 0.25 }"#);
        let resize = Resize::Exact { height: 30, width: 40 };
        assert_eq!(vit, ImageProcessor { resize, resample: Resample::Bilinear, mean: [0.25; 3], ..siglip });
    }

    /// Lengths and defaults of the classes in transformers 5.24.0: `Class(size=40)`, `Class(do_center_crop=True)`.
    #[test]
    fn sizes_mean_what_they_mean_to_their_class() {
        let size = |class: &str, size: &str| {
            read(&format!(r#"{{ "image_processor_type": "{class}", "size": {size} }}"#)).processor.resize
        };
        for class in ["CLIPImageProcessor", "SiglipImageProcessorFast", "BitFeatureExtractor", "LlavaImageProcessorPil"]
        {
            assert_eq!(size(class, "40"), Resize::ShortestEdge(40), "{class}");
        }
        for class in ["ViTImageProcessorPil", "ViTImageProcessorFast", "DINOv3ViTImageProcessorFast"] {
            assert_eq!(size(class, "40"), Resize::Exact { height: 40, width: 40 }, "{class}");
        }
        let (between, within) =
            (r#"{"shortest_edge": 20, "longest_edge": 30}"#, r#"{"max_height": 20, "max_width": 30}"#);
        assert_eq!(size("ViTImageProcessor", between), Resize::Between { shortest: 20, longest: 30 });
        assert_eq!(size("ViTImageProcessor", within), Resize::Within { height: 20, width: 30 });
        let crop = r#"{ "image_processor_type": "SiglipImageProcessor", "do_center_crop": true, "crop_size": 28 }"#;
        assert_eq!(read(crop).processor.crop, Some((28, 28)));
        let square = r#"{ "image_processor_type": "SiglipImageProcessor", "size": 28, "default_to_square": true }"#;
        assert_eq!(read(square).processor.resize, Resize::Exact { height: 28, width: 28 });
    }

    #[test]
    fn padding_is_an_aspect_to_llava_and_refused_where_it_adds_a_margin() {
        let aspect = |text: &str| read(text).aspect;
        assert_eq!(aspect(r#"{ "image_processor_type": "LlavaImageProcessor", "do_pad": true }"#), Some(Aspect::Pad));
        assert_eq!(aspect(r#"{ "image_processor_type": "LlavaImageProcessorFast" }"#), Some(Aspect::Square));
        assert_eq!(aspect(r#"{ "image_processor_type": "CLIPImageProcessor", "do_pad": true }"#), None);
        let same = r#"{ "image_processor_type": "CLIPImageProcessor", "do_pad": true, "pad_size": 224 }"#;
        assert_eq!(aspect(same), None);
        let larger: Value = serde_json::from_str(&same.replace("224", "225")).unwrap();
        let error = Preprocessing::from_json(&larger, "clip.json", None).unwrap_err();
        assert!(error.message().contains("`clip.json`: `pad_size` is 225"), "{error}");
    }

    /// `AutoImageProcessor.from_pretrained` of transformers 5.24.0 takes the class that belongs to the model.
    #[test]
    fn a_file_without_a_class_is_read_as_the_models() {
        let json = serde_json::from_str(r#"{ "size": 40 }"#).unwrap();
        let read = |class| Preprocessing::from_json(&json, "file", class);
        assert_eq!(read(Some("ViTImageProcessor")).unwrap().processor.resample, Resample::Bilinear);
        assert_eq!(read(Some("LlavaImageProcessor")).unwrap().aspect, Some(Aspect::Square));
        assert!(read(None).is_err());
    }

    #[test]
    fn what_is_written_is_read_back() {
        let clip = read(PUBLISHED).processor;
        let exact = ImageProcessor { resize: Resize::Exact { height: 20, width: 30 }, crop: None, ..clip.clone() };
        let keep = ImageProcessor { resize: Resize::Keep, rescale: 0.5, ..clip.clone() };
        let between = Resize::Between { shortest: 20, longest: 30 };
        let between = ImageProcessor {
            resize: between,
            resample: Resample::Lanczos,
            normalize: false,
            std: [1.0; 3],
            ..clip.clone()
        };
        let within = ImageProcessor { resize: Resize::Within { height: 20, width: 30 }, ..clip.clone() };
        for processor in [clip, exact, keep, between, within] {
            for aspect in [None, Some(Aspect::Pad), Some(Aspect::Square)] {
                let written = Preprocessing { processor: processor.clone(), aspect };
                assert_eq!(read(&written.to_json()), written);
            }
        }
        let dinov3 = read(r#"{ "image_processor_type": "DINOv3ViTImageProcessor" }"#);
        assert_eq!(read(&dinov3.to_json()), dinov3);
    }

    #[test]
    fn a_bad_key_is_named() {
        let cases = [
            ("\"feature_extractor_type\"", "\"class\"", "`clip` has neither `size` nor an `image_processor_type`"),
            ("\"size\": 336", "\"size\": {\"longest_edge\": 9}", "`size` is {\"longest_edge\":9}, not a number"),
            ("0.48145466, ", "", "`image_mean` is [0.4578275,0.40821073], not three numbers"),
            ("\"resample\": 3", "\"resample\": 6", "`resample` is 6, not one of 0 (nearest)"),
            ("CLIPFeatureExtractor", "Siglip2ImageProcessor", "is \"Siglip2ImageProcessor\", not one of CLIP"),
            ("\"do_center_crop\": true", "\"use_square_size\": true", "`use_square_size` is true, not false"),
            ("CLIPFeatureExtractor", "ConvNextImageProcessor", "is \"ConvNextImageProcessor\", not one of CLIP"),
            ("0.26862954", "0", "`image_std` is [0,"),
            ("\"do_resize\": true", "\"do_resize\": 1", "`do_resize` is 1, not true or false"),
        ];
        for (from, to, message) in cases {
            let mut text = PUBLISHED.replace(from, to);
            if from.contains("_type") {
                text = text.replace("\"size\"", "\"sizes\"");
            }
            let error = Preprocessing::from_json(&serde_json::from_str(&text).unwrap(), "clip", None).unwrap_err();
            assert!(error.message().contains(message), "{error}");
        }
    }
}
