//! Resizing of maps as two matrix products, one per axis: torch's `interpolate` with `align_corners=False`. Weights
//! are computed in f32 in torch's order of operations, maps are resized in f32 and returned in their dtype.
//! Source: torch 2.15, `aten/src/ATen/native/cpu/UpSampleKernel.cpp` and `AdaptiveAveragePoolKernel.cpp`.

use candle_core::{DType, Device, Result, Tensor};

use super::ops;

/// How values of a map become values of a map of another size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Cubic convolution. Without antialiasing four neighbors and a = -0.75; with it a = -0.5 and a support that
    /// widens when the map shrinks, as Pillow does.
    Bicubic { antialias: bool },
    /// Mean over the cells a result covers, whole ones (torch's `area`, adaptive average pooling).
    Area,
}

/// Maps (.., height, width) at another size (.., rows, columns). Gradients go to the maps.
pub fn resize(maps: &Tensor, (rows, columns): (usize, usize), filter: Filter) -> Result<Tensor> {
    let dims = maps.dims();
    let [.., height, width] = *dims else { candle_core::bail!("resize: {dims:?} is no map (.., height, width)") };
    if height == 0 || width == 0 || rows == 0 || columns == 0 {
        candle_core::bail!("resize: {dims:?} to {rows} x {columns} pixels");
    }
    if (rows, columns) == (height, width) {
        return Ok(maps.clone());
    }
    let x = maps.to_dtype(DType::F32)?;
    let x = ops::linear(&x, &matrix(width, columns, filter, x.device())?, None)?; // (.., height, columns)
    let x = x.transpose(dims.len() - 2, dims.len() - 1)?.contiguous()?;
    let x = ops::linear(&x, &matrix(height, rows, filter, x.device())?, None)?; // (.., columns, rows)
    x.transpose(dims.len() - 2, dims.len() - 1)?.contiguous()?.to_dtype(maps.dtype())
}

/// The weights of one axis, (to, from).
fn matrix(from: usize, to: usize, filter: Filter, device: &Device) -> Result<Tensor> {
    let mut weights = vec![0f32; to * from];
    for (place, row) in weights.chunks_exact_mut(from).enumerate() {
        match filter {
            Filter::Bicubic { antialias: false } => cubic(row, place, to),
            Filter::Bicubic { antialias: true } => antialiased(row, place, to),
            Filter::Area => area(row, place, to),
        }
    }
    Tensor::from_vec(weights, (to, from), device)
}

/// Four neighbors of the place; those beyond the border are the border's.
fn cubic(row: &mut [f32], place: usize, to: usize) {
    const A: f32 = -0.75;
    let scale = row.len() as f32 / to as f32;
    let at = scale * (place as f32 + 0.5) - 0.5;
    let first = at.floor();
    let t = at - first;
    let far = |x: f32| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    let near = |x: f32| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let last = row.len() as i64 - 1;
    for (neighbor, weight) in [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)].into_iter().enumerate() {
        let index = (first as i64 + neighbor as i64 - 1).clamp(0, last);
        row[index as usize] += weight;
    }
}

/// Everything within the support, which is at least two cells to both sides, normalized to one.
fn antialiased(row: &mut [f32], place: usize, to: usize) {
    const A: f32 = -0.5;
    let scale = row.len() as f32 / to as f32;
    let widened = scale.max(1.0);
    let center = scale * (place as f32 + 0.5);
    let first = (center - 2.0 * widened + 0.5).max(0.0) as usize;
    let end = ((center + 2.0 * widened + 0.5) as usize).min(row.len());
    let mut total = 0.0;
    for (index, weight) in row.iter_mut().enumerate().take(end).skip(first) {
        let x = ((index as f32 - center + 0.5) / widened).abs();
        *weight = match x {
            x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            _ => 0.0,
        };
        total += *weight;
    }
    row.iter_mut().for_each(|weight| *weight /= total);
}

/// The cells from floor(place * from / to) up to ceil((place + 1) * from / to).
fn area(row: &mut [f32], place: usize, to: usize) {
    let (first, end) = (place * row.len() / to, ((place + 1) * row.len()).div_ceil(to));
    row[first..end].fill(1.0 / (end - first) as f32);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// torch 2.15.0: `interpolate` of the 5 x 7 map ((7 y + 3 x + y x) % 11) / 4; the first five values, and the
    /// sum of all times 1, 2, 3, ...
    #[test]
    fn maps_are_resized_as_torch_does() {
        let map: Vec<f32> =
            (0..35).map(|i| (7 * (i / 7) + 3 * (i % 7) + (i / 7) * (i % 7)) % 11).map(quarter).collect();
        let map = Tensor::from_vec(map, (1, 5, 7), &Device::Cpu).unwrap();
        let (cubic, smooth) = (Filter::Bicubic { antialias: false }, Filter::Bicubic { antialias: true });
        let cases = [
            ((3, 3), cubic, [0.359397, 2.185185, 1.459962, 1.773148, 1.75], 65.46261),
            ((3, 3), smooth, [0.715726, 1.323702, 1.25808, 1.243909, 0.982589], 50.53886),
            ((3, 3), Filter::Area, [0.833333, 1.208333, 1.125, 1.083333, 0.833333], 45.75),
            ((8, 9), cubic, [-0.227125, 0.429696, 1.178878, 1.822039, 2.273209], 2999.29316),
            ((8, 9), smooth, [-0.169941, 0.452787, 1.142877, 1.751459, 2.267989], 2996.59256),
            ((8, 9), Filter::Area, [0.0, 0.375, 1.125, 1.875, 2.25], 3192.875),
        ];
        for (size, filter, first, sum) in cases {
            let resized = resize(&map, size, filter).unwrap();
            assert_eq!(resized.dims(), [1, size.0, size.1]);
            let values = resized.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for (ours, theirs) in values.iter().zip(first) {
                assert!((ours - theirs).abs() < 2e-6, "{size:?} {filter:?}: {ours}, torch {theirs}");
            }
            let ours: f64 = values.iter().zip(1..).map(|(value, place)| f64::from(*value) * f64::from(place)).sum();
            assert!((ours - sum).abs() < 1e-5 * sum, "{size:?} {filter:?}: {ours}, torch {sum}");
        }
    }

    fn quarter(value: usize) -> f32 {
        value as f32 / 4.0
    }

    #[test]
    fn the_same_size_is_the_same_map_and_none_is_refused() {
        let map = Tensor::new(&[[1f32, 2.0], [3.0, 5.0]], &Device::Cpu).unwrap();
        let same = resize(&map, (2, 2), Filter::Bicubic { antialias: true }).unwrap();
        assert_eq!(same.to_vec2::<f32>().unwrap(), [[1.0, 2.0], [3.0, 5.0]]);
        assert!(resize(&map, (0, 2), Filter::Area).is_err());
        assert!(resize(&map.get(0).unwrap(), (1, 2), Filter::Area).is_err());
    }
}
