//! Data sets, samples and pictures.

use rhai::plugin::*;
use rhai::{Array, FnPtr, Map, NativeCallContext};

use super::Fallible;
use crate::data::{Change, Dataset, Format, ImageSource, Pictures, Sample, SetChoice, is_on_hub};
use crate::error::{Error, Kind, Result};
use crate::image::Image;
use crate::preset::PresetKind;
use crate::script::convert::{self, Options, number, shown};
use crate::script::handles::{DatasetHandle, ImageHandle};
use crate::script::options::DATASET;
use crate::script::state::State;
use crate::{bail, error};

fn open(state: &State, id: &str, map: Map) -> Result<DatasetHandle> {
    let options = Options::new(map, &DATASET)?;
    let wanted: Option<String> = options.get("format")?;
    let format = Format::NAMES.into_iter().find(|(known, _)| wanted.as_deref() == Some(*known));
    let named = id;
    let id = state.places().id(PresetKind::Datasets, named)?;
    if state.presets().contains(PresetKind::Datasets, &id) {
        let data = Dataset::preset(state.presets(), &id)?;
        return Ok(DatasetHandle(if id == named { data } else { state.fitting().samples(data) }));
    }
    let choice = SetChoice { split: options.get("split")?, configuration: options.get("config")? };
    let place = state.places().read(&id)?;
    if place.is(&id) && is_on_hub(&id) {
        let data = Dataset::of_hub(state.presets().hub(), &id, &choice, pictures(state, &options)?)?;
        return Ok(DatasetHandle(data));
    }
    if !choice.is_any() {
        if !place.is_dir() {
            return Err(error!(Option, "options `split` and `config` choose of several files, `{id}` is no folder")
                .help("leave them out, or give the folder or a data set of the hub"));
        }
        return Ok(DatasetHandle(Dataset::of_folder(&place, &choice, pictures(state, &options)?)?));
    }
    if !id.contains('.') && !id.contains('/') && !place.exists() {
        // Neither a file's name nor a preset: let the preset's error suggest one.
        return Ok(DatasetHandle(Dataset::preset(state.presets(), &id)?));
    }
    let format = format.map_or_else(|| Format::of(&place), |(_, format)| format);
    Ok(DatasetHandle(Dataset::open(&place, format, pictures(state, &options)?)?))
}

/// A picture; what takes the place of one that is missing is the session's to say.
fn open_image(state: &State, path: &str) -> Result<ImageHandle> {
    let place = state.places().read(path)?;
    if !place.is_file()
        && let Some(sample) = state.fitting().picture()?
        && let Some(image) = ImageHandle::of(&sample).pop()
    {
        return Ok(image);
    }
    Ok(ImageHandle::new(Image::open(&place)?))
}

/// The option `images`: a folder or archive, or a map from the beginning of names to one.
fn pictures(state: &State, options: &Options) -> Result<Option<Pictures>> {
    let Some(places) = options.value("images").and_then(|value| value.try_cast::<Map>()) else {
        return options
            .get::<Option<String>>("images")?
            .map(|path| Pictures::at(&state.places().read(path)?))
            .transpose();
    };
    let mut pictures = Pictures::default();
    for (prefix, path) in places {
        let Ok(path) = path.into_string() else {
            bail!(Option, "option `images`: `{prefix}` is not a path");
        };
        pictures = pictures.with(&prefix, &state.places().read(path.as_str())?)?;
    }
    Ok(Some(pictures))
}

/// A sample as scripts see it: `#{ id, image, turns }`, with `images` where there are several. Pictures are decoded when
/// somebody looks at them.
fn sample_map(sample: &Sample, images: &[ImageHandle]) -> Map {
    let mut map = Map::new();
    map.insert("id".into(), sample.id.clone().into());
    map.insert("image".into(), images.first().map_or(Dynamic::UNIT, |image| Dynamic::from(image.clone())));
    if images.len() > 1 {
        map.insert("images".into(), images.iter().map(|image| Dynamic::from(image.clone())).collect::<Array>().into());
    }
    map.insert("turns".into(), Dynamic::from_array(convert::turns_array(&sample.turns)));
    map
}

/// What a function made of a sample.
fn change_of(value: &Dynamic, old: &Sample, old_images: &[ImageHandle]) -> Result<Change> {
    let Some(map) = value.read_lock::<Map>() else {
        bail!(Type, "the function of `map` gave {}, expected a sample map", shown(value));
    };
    let id = map.get("id").map_or_else(|| old.id.clone(), |id| id.to_string());
    let turns = match map.get("turns").and_then(|turns| turns.clone().try_cast::<Array>()) {
        Some(turns) => convert::turns(&turns)?,
        None => bail!(Data, "sample `{id}` has no array `turns`"),
    };
    let image = map.get("image").cloned().unwrap_or(Dynamic::UNIT);
    let images = match map.get("images").and_then(|images| images.clone().try_cast::<Array>()) {
        Some(mut images) => {
            // A new `image` beside the old `images` is the first of them.
            let is_old = |image: &Dynamic| {
                image.read_lock::<ImageHandle>().zip(old_images.first()).is_some_and(|(a, b)| a.is(b))
            };
            if !images.is_empty() && !image.is_unit() && !is_old(&image) {
                images[0] = image;
            }
            images
        }
        None if image.is_unit() => Array::new(),
        None => vec![image],
    };
    let same = |(new, old): (&Dynamic, &ImageHandle)| new.read_lock::<ImageHandle>().is_some_and(|new| new.is(old));
    if images.len() == old_images.len() && images.iter().zip(old_images).all(same) {
        let same = id == old.id && turns == old.turns;
        return Ok(if same { Change::Nothing } else { Change::Text(id, turns) });
    }
    let decoded = convert::images(&Dynamic::from_array(images))?;
    let source = |(number, image)| {
        let key = if number == 0 { format!("map/{id}") } else { format!("map/{id}/{number}") };
        ImageSource::decoded(image, key)
    };
    let images = decoded.into_iter().enumerate().map(source).collect();
    Ok(Change::All(Sample { id, images, turns }))
}

/// Calls `each` with every sample, its picture and its map; stops at Ctrl-C.
fn walk(
    context: &NativeCallContext,
    d: &DatasetHandle,
    mut each: impl FnMut(usize, &Sample, &[ImageHandle], Map) -> Fallible<()>,
) -> Fallible<()> {
    let state = State::of(context)?;
    for index in 0..d.0.len() {
        if state.interrupt().is_set() {
            return Err(Error::new(Kind::Interrupted, format!("interrupted after {index} samples")).into());
        }
        let sample = d.0.get(index)?;
        let images = ImageHandle::of(&sample);
        let map = sample_map(&sample, &images);
        each(index, &sample, &images, map)?;
    }
    Ok(())
}

/// The position an int or an id names.
pub(super) fn position(d: &DatasetHandle, which: &Dynamic) -> Result<usize> {
    if let Ok(index) = which.as_int() {
        return usize::try_from(index).map_err(|_| error!(Data, "there is no sample {index}"));
    }
    match which.clone().into_string() {
        Ok(id) => d.0.find(&id),
        Err(kind) => Err(error!(Type, "a sample is named by position or id, got a value of type {kind}")),
    }
}

#[export_module]
pub mod data {
    /// Opens a data set: a preset id, a LLaVA JSON, JSON-lines or parquet file whose pictures lie beside it, or a data set of
    /// the hub, `owner/name` or `owner/name@revision`, of which the split `train` is fetched.
    ///
    /// A sample is `{ id, image, conversations: [{ from, value }] }`. `image` may be left out, empty or a list (also as
    /// `images`): of several pictures each `<image>` in the text stands for one. Turns may also be `messages` of `{ role, content
    /// }`. A `system` text, beside the turns or as the first of them, takes the place of the template's own. An answer with
    /// `weight: 0`, `loss: false`, `train: false` or `masked: true` is read and not learned. What nothing reads is listed by
    /// `verify()`. When none of the pictures is where it should be, the file does not open.
    ///
    /// ```rhai
    /// let d = dataset("tiny-instruct");
    /// print(`${d.len} samples, the first has ${d[0].turns.len()} turns`);
    /// ```
    #[rhai_fn(name = "dataset", return_raw)]
    pub fn dataset(context: NativeCallContext, id: &str) -> Fallible<DatasetHandle> {
        Ok(open(&State::of(&context)?, id, Map::new())?)
    }

    /// Opens a data set with options.
    ///
    /// ```rhai
    /// let f = "tests/fixtures/training";
    /// let d = dataset(`${f}/stage2.json`, #{ images: `${f}/images`, format: "llava" });
    /// let e = dataset(`${f}/stage2.json`, #{ images: #{ "": `${f}/images`, "coco/train2017": `${f}/images` } });
    /// ```
    #[rhai_fn(name = "dataset", return_raw)]
    pub fn dataset_with(context: NativeCallContext, id: &str, options: Map) -> Fallible<DatasetHandle> {
        Ok(open(&State::of(&context)?, id, options)?)
    }

    /// Number of samples.
    #[rhai_fn(get = "len", name = "len", pure)]
    pub fn len(d: &mut DatasetHandle) -> i64 {
        d.0.len() as i64
    }

    /// The sample at a position: `#{ id, image, turns }`, and `images` where there are several.
    #[rhai_fn(index_get, return_raw, pure)]
    pub fn at(d: &mut DatasetHandle, index: i64) -> Fallible<Map> {
        let sample = d.0.get(position(d, &Dynamic::from_int(index))?)?;
        Ok(sample_map(&sample, &ImageHandle::of(&sample)))
    }

    /// The first n samples.
    ///
    /// ```rhai
    /// print(dataset("tiny-emoji").take(10).len);
    /// ```
    #[rhai_fn(name = "take")]
    pub fn take(d: DatasetHandle, n: i64) -> DatasetHandle {
        DatasetHandle(d.0.take(n.max(0) as usize))
    }

    /// All but the first n samples.
    #[rhai_fn(name = "skip")]
    pub fn skip(d: DatasetHandle, n: i64) -> DatasetHandle {
        DatasetHandle(d.0.skip(n.max(0) as usize))
    }

    /// The same samples in an order drawn from a seed.
    #[rhai_fn(name = "shuffle")]
    pub fn shuffle(d: DatasetHandle, seed: i64) -> DatasetHandle {
        DatasetHandle(d.0.shuffle(seed as u64))
    }

    /// The samples for which a function gives `true`; every sample is read once, its picture only if the function looks at it.
    ///
    /// ```rhai
    /// let d = dataset("tiny-emoji").take(50).filter(|s| s.turns[1].value.contains("cat"));
    /// ```
    #[rhai_fn(name = "filter", return_raw)]
    pub fn filter(context: NativeCallContext, d: DatasetHandle, keep: FnPtr) -> Fallible<DatasetHandle> {
        let mut kept = Vec::new();
        walk(&context, &d, |index, _, _, map| {
            if keep.call_within_context::<bool>(&context, (map,))? {
                kept.push(index);
            }
            Ok(())
        })?;
        Ok(DatasetHandle(d.0.pick(&kept)))
    }

    /// New samples, each made by a function of the old one; what it changes is held in memory, the rest stays where it is.
    ///
    /// ```rhai
    /// let d = dataset("tiny-emoji").take(3).map(|s| { s.turns[1].value = s.turns[1].value.to_upper(); s });
    /// print(d[0].turns[1].value);
    /// ```
    #[rhai_fn(name = "map", return_raw)]
    pub fn map(context: NativeCallContext, d: DatasetHandle, change: FnPtr) -> Fallible<DatasetHandle> {
        let mut changes = Vec::with_capacity(d.0.len());
        walk(&context, &d, |_, sample, images, map| {
            let changed = change.call_within_context::<Dynamic>(&context, (map,))?;
            changes.push(change_of(&changed, sample, images)?);
            Ok(())
        })?;
        Ok(DatasetHandle(d.0.changed(changes)))
    }

    /// This set and `weight` times as many samples of another as that one has.
    ///
    /// ```rhai
    /// print(dataset("tiny-emoji").mix(dataset("tiny-instruct"), 0.1).len);
    /// ```
    #[rhai_fn(name = "mix", return_raw)]
    pub fn mix(d: DatasetHandle, other: DatasetHandle, weight: Dynamic) -> Fallible<DatasetHandle> {
        let Some(weight) = number(&weight) else {
            return Err(error!(Type, "the weight is {}, expected a number", shown(&weight)).into());
        };
        Ok(DatasetHandle(d.0.mix(&other.0, weight)?))
    }

    /// Two disjoint parts, the first with a fraction of the samples, drawn from a seed.
    ///
    /// ```rhai
    /// let parts = dataset("tiny-emoji").split(0.9, 0);
    /// print(`${parts[0].len} and ${parts[1].len}`);
    /// ```
    #[rhai_fn(name = "split", return_raw)]
    pub fn split(d: DatasetHandle, fraction: Dynamic, seed: i64) -> Fallible<Array> {
        let Some(fraction) = number(&fraction) else {
            return Err(error!(Type, "the fraction is {}, expected a number", shown(&fraction)).into());
        };
        let (first, second) = d.0.split(fraction, seed as u64)?;
        Ok(vec![Dynamic::from(DatasetHandle(first)), Dynamic::from(DatasetHandle(second))])
    }

    /// Opens a picture; PNG, JPEG, GIF, BMP, WebP or TIFF by content.
    ///
    /// ```rhai
    /// let i = image("tests/fixtures/images/red-circle.png");
    /// print(`${i.width} x ${i.height}`);
    /// ```
    #[rhai_fn(name = "image", return_raw)]
    pub fn image(context: NativeCallContext, path: &str) -> Fallible<ImageHandle> {
        Ok(open_image(&State::of(&context)?, path)?)
    }

    /// Width in pixels.
    #[rhai_fn(get = "width", return_raw, pure)]
    pub fn width(i: &mut ImageHandle) -> Fallible<i64> {
        Ok(i.get()?.width as i64)
    }

    /// Height in pixels.
    #[rhai_fn(get = "height", return_raw, pure)]
    pub fn height(i: &mut ImageHandle) -> Fallible<i64> {
        Ok(i.get()?.height as i64)
    }
}
