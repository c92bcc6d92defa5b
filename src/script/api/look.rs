//! Looking: plots, galleries, tables, `show`.

use rhai::plugin::*;
use rhai::{Array, Map, NativeCallContext};

use super::Fallible;
use super::tensor::floats;
use crate::error::Result;
use crate::script::convert::{Options, number, numbers, shown};
use crate::script::describe;
use crate::script::handles::{FigureHandle, ImageHandle, PlanHandle, TableHandle, TensorHandle};
use crate::script::options::{PLOT, RADAR, SAVE_FIGURE};
use crate::script::state::State;
use crate::show::{Caption, Cell, Chart, Figure, Labels, LinePlot, Picture, Radar, Table};
use crate::{bail, error};

/// Shows a value where the session's output goes: tables and pictures as such, everything else on one line.
pub(in crate::script) fn show_value(state: &State, value: &Dynamic) {
    let output = state.output();
    if let Some(table) = value.read_lock::<TableHandle>() {
        output.table(&table.0);
    } else if let Some(figure) = value.read_lock::<FigureHandle>() {
        output.figure(&figure.0, &figure.to_string());
    } else if let Some(plan) = value.read_lock::<PlanHandle>() {
        output.table(&super::plan::plan_table(&plan.0));
    } else if let Some(image) = value.read_lock::<ImageHandle>() {
        let picture = image.get().and_then(|image| Picture::new(image.width, image.height, image.pixels.to_vec()));
        match picture.and_then(|picture| Figure::gallery(&[picture], &[Caption::from("")], "")) {
            Ok(figure) => output.figure(&figure, &image.to_string()),
            Err(_) => output.text(&image.to_string()),
        }
    } else {
        output.text(&describe(value));
    }
}

fn points(xs: &[f64], ys: &[f64]) -> Result<Vec<(f64, f64)>> {
    if xs.len() != ys.len() {
        bail!(Shape, "{} x values and {} y values", xs.len(), ys.len());
    }
    Ok(xs.iter().copied().zip(ys.iter().copied()).collect())
}

/// Values over 1, 2, 3, ...
fn counted(ys: &[f64]) -> Vec<(f64, f64)> {
    ys.iter().enumerate().map(|(i, y)| (i as f64 + 1.0, *y)).collect()
}

fn plot_map(map: Map) -> Result<Figure> {
    let options = Options::new(map, &PLOT)?;
    let Some(series) = options.value("series").and_then(|value| value.try_cast::<Map>()) else {
        return Err(error!(Option, "`plot` needs `series`").help("plot(#{ series: #{ loss: t.losses } })"));
    };
    let mut lines = Vec::new();
    for (name, values) in series {
        let Some(values) = values.clone().try_cast::<Array>() else {
            bail!(Type, "series `{name}` is {}, expected an array", shown(&values));
        };
        lines.push((name.to_string(), counted(&numbers(&values)?)));
    }
    Figure::line(LinePlot {
        series: lines,
        title: options.get("title")?,
        x: options.get("x")?,
        y: options.get("y")?,
        log: options.get("log")?,
    })
}

fn line(points: Vec<(f64, f64)>) -> Result<Figure> {
    Figure::line(LinePlot { series: vec![(String::new(), points)], ..LinePlot::default() })
}

fn table_of(rows: &Array) -> Result<Table> {
    let mut columns: Vec<String> = Vec::new();
    let maps: Vec<Map> = rows
        .iter()
        .map(|row| row.clone().try_cast::<Map>().ok_or_else(|| error!(Type, "a row is {}, expected a map", shown(row))))
        .collect::<Result<_>>()?;
    for key in maps.iter().flat_map(|map| map.keys()) {
        if !columns.iter().any(|column| column == key.as_str()) {
            columns.push(key.to_string());
        }
    }
    let is_number = |column: &str| maps.iter().all(|map| map.get(column).is_none_or(|value| number(value).is_some()));
    let mut table = Table::new("");
    for column in &columns {
        table = if is_number(column) { table.number(column.as_str()) } else { table.column(column.as_str()) };
    }
    for map in &maps {
        let cell = |column: &String| match map.get(column.as_str()) {
            None => Cell::from(""),
            Some(value) if value.is_int() => Cell::of(value.to_string(), value.as_int().unwrap_or(0)),
            Some(value) => number(value).map_or_else(|| Cell::from(describe(value)), Cell::from),
        };
        table.push(columns.iter().map(cell));
    }
    Ok(table)
}

/// Named series of values.
type Series = Vec<(String, Vec<f64>)>;

/// Maps from name to number, one a series: their keys in the order they first come up, and their values in that order.
fn series_of(map: &Map) -> Result<(Vec<String>, Series)> {
    let mut axes: Vec<String> = Vec::new();
    let mut maps = Vec::new();
    for (name, values) in map {
        let Some(values) = values.clone().try_cast::<Map>() else {
            bail!(Type, "series `{name}` is {}, expected a map from name to number", shown(values));
        };
        let new = values.keys().filter(|key| !axes.iter().any(|axis| axis == key.as_str()));
        let new: Vec<String> = new.map(ToString::to_string).collect();
        axes.extend(new);
        maps.push((name.to_string(), values));
    }
    let value = |values: &Map, axis: &String| match values.get(axis.as_str()) {
        None => Ok(f64::NAN),
        Some(value) => number(value).ok_or_else(|| error!(Type, "`{axis}` is {}, expected a number", shown(value))),
    };
    let series = maps.iter().map(|(name, values)| {
        Ok((name.clone(), axes.iter().map(|axis| value(values, axis)).collect::<Result<Vec<f64>>>()?))
    });
    let series = series.collect::<Result<Vec<_>>>()?;
    Ok((axes, series))
}

fn radar_map(state: &State, map: Map) -> Result<Figure> {
    let options = Options::new(map, &RADAR)?;
    let Some(lines) = options.value("series").and_then(|value| value.try_cast::<Map>()) else {
        return Err(error!(Option, "`radar` needs `series`")
            .help("radar(#{ series: #{ clip: #{ gqa: 0.6, pope: 0.8, ai2d: 0.5 } } })"));
    };
    let (axes, series) = series_of(&lines)?;
    if state.fitting().is_flat(axes.len()) {
        return grouped(&lines);
    }
    let (title, note) = (options.get("title")?, options.get("note")?);
    Figure::radar(&Radar { axes, series, title, note })
}

/// Bars in groups: a map of maps, the series outside, the groups inside.
fn grouped(map: &Map) -> Result<Figure> {
    let (names, series) = series_of(map)?;
    Figure::chart("bar", Chart { series, names })
}

/// A chart of series by name, each an array of numbers or a map from name to number.
fn chart(kind: &str, map: &Map) -> Result<Figure> {
    if map.is_empty() || !map.values().all(Dynamic::is_array) {
        let (names, series) = series_of(map)?;
        return Figure::chart(kind, Chart { series, names });
    }
    let values = |values: &Dynamic| numbers(&values.clone().into_array().unwrap_or_default());
    let series = map.iter().map(|(name, array)| Ok((name.to_string(), values(array)?))).collect::<Result<_>>()?;
    Figure::chart(kind, Chart { series, names: Vec::new() })
}

#[export_module]
pub mod look {
    /// A line plot of numbers.
    ///
    /// ```rhai
    /// plot([3.0, 2.0, 1.5]).save("target/example-plot.png");
    /// ```
    #[rhai_fn(name = "plot", return_raw)]
    pub fn plot(ys: Array) -> Fallible<FigureHandle> {
        Ok(FigureHandle(line(counted(&numbers(&ys)?))?))
    }

    /// A line plot of y over x.
    ///
    /// ```rhai
    /// let f = plot([0, 10, 20], [3.0, 2.0, 1.5]);
    /// ```
    #[rhai_fn(name = "plot", return_raw)]
    pub fn plot_xy(xs: Array, ys: Array) -> Fallible<FigureHandle> {
        Ok(FigureHandle(line(points(&numbers(&xs)?, &numbers(&ys)?)?)?))
    }

    /// Several series.
    ///
    /// ```rhai
    /// let f = plot(#{ series: #{ clip: [3, 2, 1], dino: [3, 2.5, 2] }, title: "loss", x: "step", log: true });
    /// ```
    #[rhai_fn(name = "plot", return_raw)]
    pub fn plot_series(options: Map) -> Fallible<FigureHandle> {
        Ok(FigureHandle(plot_map(options)?))
    }

    /// A chart of a kind by its name, such as `radar`: a map from series to numbers, or to maps from name to number.
    ///
    /// ```rhai
    /// let f = plot("bar", #{ clip: [62.4, 85.1], siglip: [63.5, 86.2] });
    /// let f = plot("radar", #{ clip: #{ gqa: 62.4, pope: 85.1, ai2d: 61.0 } });
    /// ```
    #[rhai_fn(name = "plot", return_raw)]
    pub fn plot_kind(kind: &str, series: Map) -> Fallible<FigureHandle> {
        Ok(FigureHandle(chart(kind, &series)?))
    }

    /// A bar chart of a map from name to number; of a map of such maps, bars in groups.
    ///
    /// ```rhai
    /// let f = bar(#{ model: 0.98, blind: 0.67, majority: 0.373 });
    /// let f = bar(#{ clip: #{ gqa: 62.4, pope: 85.1 }, siglip: #{ gqa: 63.5, pope: 86.2 } });
    /// ```
    #[rhai_fn(name = "bar", return_raw)]
    pub fn bar(values: Map) -> Fallible<FigureHandle> {
        if !values.is_empty() && values.values().all(Dynamic::is_map) {
            return Ok(FigureHandle(grouped(&values)?));
        }
        let mut bars = Vec::new();
        for (name, value) in values {
            let Some(height) = number(&value) else {
                return Err(error!(Type, "`{name}` is {}, expected a number", shown(&value)).into());
            };
            bars.push((name.to_string(), height));
        }
        Ok(FigureHandle(Figure::bar(&bars, &Labels::default())?))
    }

    /// A radar chart.
    ///
    /// ```rhai
    /// let f = radar(#{ series: #{ clip: #{ gqa: 62.4, pope: 85.1, ai2d: 61.0 }, siglip: #{ gqa: 63.5, pope: 86.2, ai2d: 63.7 } } });
    /// ```
    #[rhai_fn(name = "radar", return_raw)]
    pub fn radar(context: NativeCallContext, options: Map) -> Fallible<FigureHandle> {
        Ok(FigureHandle(radar_map(&State::of(&context)?, options)?))
    }

    /// A histogram of numbers.
    ///
    /// ```rhai
    /// let f = hist([1, 2, 2, 3, 3, 3]);
    /// ```
    #[rhai_fn(name = "hist", return_raw)]
    pub fn hist(values: Array) -> Fallible<FigureHandle> {
        Ok(FigureHandle(Figure::hist(&numbers(&values)?, &Labels::default())?))
    }

    /// A two-dimensional tensor as colors.
    ///
    /// ```rhai
    /// let f = heatmap(encoder("tiny-clip").encode(image("tests/fixtures/images/red-circle.png")));
    /// ```
    #[rhai_fn(name = "heatmap", return_raw)]
    pub fn heatmap(x: TensorHandle) -> Fallible<FigureHandle> {
        let values = floats(&x.0)?;
        match x.0.dims() {
            [rows, columns] => Ok(FigureHandle(Figure::heatmap(*rows, *columns, &values, &Labels::default())?)),
            dims => Err(error!(Shape, "a heatmap needs two dimensions, this tensor has shape {dims:?}").into()),
        }
    }

    /// Pictures with captions in a grid; a caption that begins with a check mark or a cross gets it in color.
    ///
    /// ```rhai
    /// let d = dataset("tiny-emoji");
    /// let f = gallery([d[0].image, d[1].image], [d[0].turns[1].value, d[1].turns[1].value]);
    /// ```
    #[rhai_fn(name = "gallery", return_raw)]
    pub fn gallery(images: Array, captions: Array) -> Fallible<FigureHandle> {
        let mut pictures = Vec::new();
        for image in &images {
            let Some(image) = crate::script::convert::image(image)? else {
                return Err(error!(Type, "a gallery needs images, got ()").into());
            };
            pictures.push(Picture::new(image.width, image.height, image.pixels.to_vec())?);
        }
        let captions: Vec<Caption> = captions.iter().map(|text| Caption::from(text.to_string().as_str())).collect();
        Ok(FigureHandle(Figure::gallery(&pictures, &captions, "")?))
    }

    /// Writes a figure to a `.png` or `.svg` file.
    #[rhai_fn(name = "save", return_raw)]
    pub fn save(context: NativeCallContext, f: FigureHandle, path: &str) -> Fallible<()> {
        Ok(State::of(&context)?.places().write_file(path, false, |place| f.0.save(place))?)
    }

    /// The same with options.
    ///
    /// ```rhai
    /// plot([3, 2, 1]).save("target/example-figure.svg", #{ overwrite: true });
    /// ```
    #[rhai_fn(name = "save", return_raw)]
    pub fn save_with(context: NativeCallContext, f: FigureHandle, path: &str, options: Map) -> Fallible<()> {
        let overwrite = Options::new(options, &SAVE_FIGURE)?.get("overwrite")?;
        Ok(State::of(&context)?.places().write_file(path, overwrite, |place| f.0.save(place))?)
    }

    /// A table from an array of maps; columns are the keys.
    ///
    /// ```rhai
    /// show(table([#{ model: "clip", score: 0.9 }, #{ model: "dino", score: 0.8 }]));
    /// ```
    #[rhai_fn(name = "table", return_raw)]
    pub fn table(rows: Array) -> Fallible<TableHandle> {
        Ok(TableHandle(table_of(&rows)?))
    }

    /// Shows anything: tables as tables, figures and images as pictures, the rest on one line.
    ///
    /// ```rhai
    /// show(image("tests/fixtures/images/red-circle.png"));
    /// ```
    #[rhai_fn(name = "show", return_raw)]
    pub fn show(context: NativeCallContext, x: Dynamic) -> Fallible<()> {
        show_value(&State::of(&context)?, &x);
        Ok(())
    }
}
