//! Data sets, samples and pictures.

use std::path::Path;

use rhai::plugin::*;
use rhai::{Array, FnPtr, Map, NativeCallContext};

use super::Fallible;
use crate::data::{Dataset, ImageSource, Sample};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::preset::PresetKind;
use crate::script::convert::{self, Options, number, shown};
use crate::script::handles::{DatasetHandle, ImageHandle, TableHandle, VlmHandle};
use crate::script::state::State;
use crate::show::{Caption, Cell, Figure, Mark, Picture, Table, percent};
use crate::text::{IGNORE, IMAGE_ID};
use crate::{bail, error};

fn open(state: &State, id: &str, map: Map) -> Result<DatasetHandle> {
    let options = Options::new(map, "dataset", &["images", "format"])?;
    match options.string("format")?.as_deref() {
        None | Some("llava") => {}
        Some(other) => return Err(Error::unknown("data format", other, &["llava"], "")),
    }
    let id = state.stand_in(PresetKind::Datasets, id);
    if state.presets().contains(PresetKind::Datasets, &id) {
        return Ok(DatasetHandle(Dataset::preset(state.presets(), &id)?));
    }
    if !id.contains('.') && !id.contains('/') {
        // Neither a file's name nor a preset: let the preset's error suggest one.
        return Ok(DatasetHandle(Dataset::preset(state.presets(), &id)?));
    }
    let images = options.string("images")?;
    Ok(DatasetHandle(Dataset::llava_json(Path::new(&id), images.as_deref().map(Path::new))?))
}

/// A sample as scripts see it: `#{ id, image, turns }`.
fn sample_map(sample: &Sample) -> Result<Map> {
    let mut map = Map::new();
    map.insert("id".into(), sample.id.clone().into());
    let image = sample.open_image()?.map_or(Dynamic::UNIT, |image| Dynamic::from(ImageHandle(image)));
    map.insert("image".into(), image);
    map.insert("turns".into(), Dynamic::from_array(convert::turns_array(&sample.turns)));
    Ok(map)
}

/// A map back into a sample.
fn sample_of(value: &Dynamic, number: usize) -> Result<Sample> {
    let Some(map) = value.clone().try_cast::<Map>() else {
        bail!(Type, "the function of `map` gave {}, expected a sample map", shown(value));
    };
    let id = map.get("id").map_or_else(|| number.to_string(), |id| id.to_string());
    let image = convert::image(map.get("image").unwrap_or(&Dynamic::UNIT))?;
    let turns = match map.get("turns").and_then(|turns| turns.clone().try_cast::<Array>()) {
        Some(turns) => convert::turns(&turns)?,
        None => bail!(Data, "sample `{id}` has no array `turns`"),
    };
    let image = image.map(|image| ImageSource::Decoded { image, key: format!("map/{id}") });
    Ok(Sample { id, image, turns })
}

/// The position an int or an id names.
fn position(d: &DatasetHandle, which: &Dynamic) -> Result<usize> {
    if let Ok(index) = which.as_int() {
        return usize::try_from(index).map_err(|_| error!(Data, "there is no sample {index}"));
    }
    match which.clone().into_string() {
        Ok(id) => d.0.find(&id),
        Err(kind) => Err(error!(Type, "a sample is named by position or id, got a value of type {kind}")),
    }
}

fn stats_of(d: &DatasetHandle) -> Result<Table> {
    let (mut images, mut turns, mut questions, mut answers) = (0usize, 0usize, 0usize, 0usize);
    for index in 0..d.0.len() {
        let sample = d.0.get(index)?;
        images += usize::from(sample.image.is_some());
        turns += sample.turns.len();
        let words = |text: &str| text.split_whitespace().count();
        for turn in &sample.turns {
            match turn.role {
                crate::text::Role::Human => questions += words(&turn.value),
                crate::text::Role::Gpt => answers += words(&turn.value),
            }
        }
    }
    let each = |total: usize| total as f64 / d.0.len().max(1) as f64;
    Ok(Table::new(d.0.name())
        .column("what")
        .number("all")
        .number("per sample")
        .row([Cell::from("samples"), d.0.len().into(), Cell::from("")])
        .row([Cell::from("with a picture"), images.into(), each(images).into()])
        .row([Cell::from("turns"), turns.into(), each(turns).into()])
        .row([Cell::from("words asked"), questions.into(), each(questions).into()])
        .row([Cell::from("words answered"), answers.into(), each(answers).into()]))
}

/// Opens every picture and reads every turn; a row per faulty sample.
fn verify_of(d: &DatasetHandle) -> Result<Table> {
    use rayon::prelude::*;
    let faults: Vec<Option<(String, String)>> = (0..d.0.len())
        .into_par_iter()
        .map(|index| match d.0.get(index) {
            Err(error) => Some((index.to_string(), error.to_string())),
            Ok(sample) => fault(&sample).map(|fault| (sample.id.clone(), fault)),
        })
        .collect();
    let mut table = Table::new(d.0.name()).column("sample").column("fault");
    let faults: Vec<_> = faults.into_iter().flatten().collect();
    let note = format!("{} samples, {} faulty", d.0.len(), faults.len());
    for (id, fault) in faults {
        table.push([Cell::from(id), Cell::from(fault)]);
    }
    Ok(table.note(note))
}

fn fault(sample: &Sample) -> Option<String> {
    if let Err(error) = sample.open_image() {
        return Some(error.message());
    }
    let marks: usize = sample.turns.iter().map(|turn| turn.value.matches(crate::text::IMAGE_MARKER).count()).sum();
    match (sample.image.is_some(), marks) {
        (true, 0) => return Some("a picture, but no `<image>` mark".to_string()),
        (false, 1..) => return Some(format!("{marks} `<image>` marks, but no picture")),
        _ => {}
    }
    let empty = |turn: &&crate::text::Turn| turn.role == crate::text::Role::Gpt && turn.value.trim().is_empty();
    sample.turns.iter().find(empty).map(|_| "an empty answer".to_string())
}

/// Renders every sample and counts what is supervised.
fn masks_of(d: &DatasetHandle, m: &VlmHandle) -> Result<Table> {
    use rayon::prelude::*;
    let counts = (0..d.0.len())
        .into_par_iter()
        .map(|index| {
            let sample = d.0.get(index)?;
            let rendered = m.0.template.render(m.0.tokenizer()?, &sample.turns)?;
            let supervised = rendered.labels.iter().filter(|&&label| label != IGNORE).count();
            Ok((rendered.ids.len(), supervised))
        })
        .collect::<Result<Vec<_>>>()?;
    let ids: usize = counts.iter().map(|(ids, _)| ids).sum();
    let supervised: usize = counts.iter().map(|(_, supervised)| supervised).sum();
    let without = counts.iter().filter(|(_, supervised)| *supervised == 0).count();
    Ok(Table::new(format!("{} under template {}", d.0.name(), m.0.template.name()))
        .column("what")
        .number("all")
        .row([Cell::from("samples"), counts.len().into()])
        .row([Cell::from("ids"), ids.into()])
        .row([Cell::from("supervised"), supervised.into()])
        .row([
            Cell::from("share supervised"),
            Cell::of(percent(supervised as f64 / ids.max(1) as f64), supervised as f64 / ids.max(1) as f64),
        ])
        .row([Cell::from("samples without any"), without.into()]))
}

/// The picture of a sample with its conversation; supervised text stands in brackets.
fn figure_of(sample: &Sample, m: &VlmHandle) -> Result<(Option<Figure>, String)> {
    let rendered = m.0.template.render(m.0.tokenizer()?, &sample.turns)?;
    let mut text = String::new();
    let mut supervised = false;
    for (&id, &label) in rendered.ids.iter().zip(&rendered.labels) {
        if (label != IGNORE) != supervised {
            text.push(if supervised { ']' } else { '[' });
            supervised = !supervised;
        }
        match u32::try_from(id) {
            Ok(id) => text.push_str(&m.0.tokenizer()?.decode(&[id])?),
            Err(_) if id == IMAGE_ID => text.push_str("<image>"),
            Err(_) => {}
        }
    }
    if supervised {
        text.push(']');
    }
    let figure = match sample.open_image()? {
        Some(image) => {
            let picture = Picture::new(image.width, image.height, image.pixels.to_vec())?;
            Some(Figure::gallery(&[picture], &[Caption { text: sample.id.clone(), mark: Mark::None }], "")?)
        }
        None => None,
    };
    Ok((figure, text))
}

#[export_module]
pub mod data {
    /// Opens a data set: a preset id, or a LLaVA JSON file whose pictures lie beside it.
    ///
    /// ```rhai
    /// let d = dataset("tiny-instruct");
    /// print(`${d.len} samples, the first has ${d[0].turns.len()} turns`);
    /// ```
    #[rhai_fn(name = "dataset", return_raw)]
    pub fn dataset(context: NativeCallContext, id: &str) -> Fallible<DatasetHandle> {
        Ok(open(&State::of(&context)?, id, Map::new())?)
    }

    /// Opens a data set with options: `images` (the folder pictures are in), `format` ("llava").
    ///
    /// ```rhai
    /// let f = "tests/fixtures/training";
    /// let d = dataset(`${f}/stage2.json`, #{ images: `${f}/images`, format: "llava" });
    /// ```
    #[rhai_fn(name = "dataset", return_raw)]
    pub fn dataset_with(context: NativeCallContext, id: &str, options: Map) -> Fallible<DatasetHandle> {
        Ok(open(&State::of(&context)?, id, options)?)
    }

    /// Number of samples.
    #[rhai_fn(get = "len", pure)]
    pub fn len(d: &mut DatasetHandle) -> i64 {
        d.0.len() as i64
    }

    /// The sample at a position: `#{ id, image, turns }`.
    #[rhai_fn(index_get, return_raw, pure)]
    pub fn at(d: &mut DatasetHandle, index: i64) -> Fallible<Map> {
        Ok(sample_map(&d.0.get(position(d, &Dynamic::from_int(index))?)?)?)
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

    /// The samples for which a function gives `true`.
    ///
    /// ```rhai
    /// let d = dataset("tiny-emoji").take(50).filter(|s| s.turns[1].value.contains("cat"));
    /// ```
    #[rhai_fn(name = "filter", return_raw)]
    pub fn filter(context: NativeCallContext, d: DatasetHandle, keep: FnPtr) -> Fallible<DatasetHandle> {
        let mut kept = Vec::new();
        for index in 0..d.0.len() {
            let map = sample_map(&d.0.get(index)?)?;
            if keep.call_within_context::<bool>(&context, (map,))? {
                kept.push(index);
            }
        }
        Ok(DatasetHandle(d.0.pick(&kept)))
    }

    /// New samples, each made by a function of the old one.
    ///
    /// ```rhai
    /// let d = dataset("tiny-emoji").take(3).map(|s| { s.turns[1].value = s.turns[1].value.to_upper(); s });
    /// print(d[0].turns[1].value);
    /// ```
    #[rhai_fn(name = "map", return_raw)]
    pub fn map(context: NativeCallContext, d: DatasetHandle, change: FnPtr) -> Fallible<DatasetHandle> {
        let mut samples = Vec::with_capacity(d.0.len());
        for index in 0..d.0.len() {
            let map = sample_map(&d.0.get(index)?)?;
            let changed = change.call_within_context::<Dynamic>(&context, (map,))?;
            samples.push(sample_of(&changed, index)?);
        }
        Ok(DatasetHandle(Dataset::of_samples(&format!("{} (mapped)", d.0.name()), samples)))
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

    /// Counts: samples, pictures, turns, words.
    #[rhai_fn(name = "stats", return_raw)]
    pub fn stats(d: DatasetHandle) -> Fallible<TableHandle> {
        Ok(TableHandle(stats_of(&d)?))
    }

    /// Opens every picture and reads every turn; a row per faulty sample.
    ///
    /// ```rhai
    /// show(dataset("tiny-emoji").take(20).verify());
    /// ```
    #[rhai_fn(name = "verify", return_raw)]
    pub fn verify(d: DatasetHandle) -> Fallible<TableHandle> {
        Ok(TableHandle(verify_of(&d)?))
    }

    /// What a model's template supervises in the whole set.
    #[rhai_fn(name = "check_masks", return_raw)]
    pub fn check_masks(d: DatasetHandle, m: VlmHandle) -> Fallible<TableHandle> {
        Ok(TableHandle(masks_of(&d, &m)?))
    }

    /// Shows a sample, by position or id: its picture, and its text with what is supervised in [brackets].
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
    /// dataset("tiny-instruct").show(0, m);
    /// ```
    #[rhai_fn(name = "show", return_raw)]
    pub fn show(context: NativeCallContext, d: DatasetHandle, which: Dynamic, m: VlmHandle) -> Fallible<()> {
        let state = State::of(&context)?;
        let sample = d.0.get(position(&d, &which)?)?;
        let (figure, text) = figure_of(&sample, &m)?;
        if let Some(figure) = figure {
            state.output().figure(&figure, &sample.id);
        }
        state.output().text(&text);
        Ok(())
    }

    /// Opens a picture; PNG, JPEG, GIF, BMP or WebP by content.
    ///
    /// ```rhai
    /// let i = image("tests/fixtures/images/red-circle.png");
    /// print(`${i.width} x ${i.height}`);
    /// ```
    #[rhai_fn(name = "image", return_raw)]
    pub fn image(path: &str) -> Fallible<ImageHandle> {
        Ok(ImageHandle(Image::open(Path::new(path))?))
    }

    /// Width in pixels.
    #[rhai_fn(get = "width", pure)]
    pub fn width(i: &mut ImageHandle) -> i64 {
        i.0.width as i64
    }

    /// Height in pixels.
    #[rhai_fn(get = "height", pure)]
    pub fn height(i: &mut ImageHandle) -> i64 {
        i.0.height as i64
    }
}
