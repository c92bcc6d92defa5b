//! S2: one tower at several scales. The picture, as large as the largest scale, is resized to each scale and cut into
//! tiles of the smallest; the tiles' features are put together again, pooled to the smallest map and concatenated along
//! the channels, smallest scale first.
//! Source: the algorithm of scaling_on_scales 3bbee37 (`core.py`, `utils.py`), as LLaVA-MORE 2460d39 calls it.

use candle_core::Tensor;

use crate::error::Result;
use crate::models::config::Config;
use crate::nn::resample::{Filter, resize};
use crate::nn::vit::{Positions, VitSpec};
use crate::{bail, error};

/// The scales: sides of square pictures in pixels, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scales(Vec<usize>);

/// The largest number of tiles along a side of the largest scale.
const MOST_TILES: usize = 16;

impl Scales {
    /// Scales in any order, for a tower.
    ///
    /// # Errors
    /// `Option` for no scales, a duplicate, or a scale that cannot be cut into tiles of a size the tower takes.
    pub fn new(mut sides: Vec<usize>, spec: &VitSpec) -> Result<Self> {
        sides.sort_unstable();
        let Some(&tile) = sides.first() else {
            return Err(error!(Option, "s2 has no scales").help("for example `s2: [336, 672, 1008]`"));
        };
        if tile == 0 {
            bail!(Option, "an s2 scale is 0");
        }
        if let Some(pair) = sides.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!(Option, "s2 has the scale {} twice", pair[0]);
        }
        if spec.positions == Positions::Fixed && tile != spec.image_size {
            return Err(error!(Option, "the smallest s2 scale is {tile}, the tower takes {} pixels", spec.image_size)
                .help("this tower's positions are not interpolated, so its own size is the smallest scale"));
        }
        let scales = Scales(sides);
        for &side in &scales.0 {
            let tiles = scales.tiles(side);
            if tiles > MOST_TILES {
                bail!(Option, "the s2 scale {side} would be cut into {tiles} x {tiles} tiles of {tile}");
            }
            if spec.positions == Positions::Fixed && !side.is_multiple_of(tile) {
                return Err(error!(Option, "the s2 scale {side} is not a multiple of the smallest, {tile}")
                    .help("this tower's positions are not interpolated, so every tile has its size"));
            }
            if !side.is_multiple_of(tiles) {
                bail!(Option, "the s2 scale {side} cannot be cut into {tiles} x {tiles} equal tiles");
            }
            spec.patches(side / tiles, side / tiles)?;
        }
        Ok(scales)
    }

    /// The scales, ascending.
    pub fn sides(&self) -> &[usize] {
        &self.0
    }

    /// The side of a tile in pixels, which is also the smallest scale.
    pub fn smallest(&self) -> usize {
        self.0.first().copied().unwrap_or_default()
    }

    /// The side of the input picture in pixels.
    pub fn largest(&self) -> usize {
        self.0.last().copied().unwrap_or_default()
    }

    /// The number of tiles along a side at this scale.
    fn tiles(&self, side: usize) -> usize {
        side.div_ceil(self.smallest().max(1))
    }

    /// Pixels (batch, channels, largest, largest) to features (batch, tokens, scales * width). `patches` computes the
    /// tower's patch features (batch, tokens, width) of a batch of tiles, without class token and registers.
    pub fn features(&self, pixels: &Tensor, patches: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let (.., height, width) = pixels.dims4()?;
        let largest = self.largest();
        if (height, width) != (largest, largest) {
            bail!(Shape, "the pixels are {width} x {height}, the largest s2 scale is {largest}");
        }
        let mut maps: Vec<Tensor> = Vec::with_capacity(self.0.len());
        for &side in &self.0 {
            let map = self.map(pixels, side, &patches)?; // (batch, width, grid, grid)
            let grid = maps.first().map_or_else(|| map.dim(2), |first| first.dim(2))?;
            maps.push(resize(&map, (grid, grid), Filter::Area)?);
        }
        // (batch, scales * width, grid, grid) -> (batch, grid * grid, scales * width)
        Ok(Tensor::cat(&maps, 1)?.flatten_from(2)?.transpose(1, 2)?.contiguous()?)
    }

    /// The feature map of one scale, (batch, width, grid, grid).
    fn map(&self, pixels: &Tensor, side: usize, patches: &impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let (batch, channels, ..) = pixels.dims4()?;
        let scaled = resize(pixels, (side, side), Filter::Bicubic { antialias: false })?;
        let tiles = self.tiles(side);
        let tile = side / tiles;
        let cut = scaled
            .reshape((batch, channels, tiles, tile, tiles, tile))?
            .permute((0, 2, 4, 1, 3, 5))?
            .reshape((batch * tiles * tiles, channels, tile, tile))?;
        let features = patches(&cut)?; // (batch * tiles * tiles, grid * grid, width)
        let (_, tokens, width) = features.dims3()?;
        let grid = tokens.isqrt();
        Ok(features.reshape((batch, tiles, tiles, grid, grid, width))?.permute((0, 5, 1, 3, 2, 4))?.reshape((
            batch,
            width,
            tiles * grid,
            tiles * grid,
        ))?)
    }
}

/// The scales in a LLaVA-MORE config: `s2`, and `s2_scales` as text (`"336,672,1008"`, the default).
///
/// # Errors
/// `Decode` for scales that are not numbers.
pub fn from_config(config: &Config) -> Result<Option<Vec<usize>>> {
    if !config.bool("s2", false)? {
        return Ok(None);
    }
    let text = config.string("s2_scales", "336,672,1008")?;
    let sides = text.split(',').map(|side| side.trim().parse::<usize>()).collect::<std::result::Result<Vec<_>, _>>();
    match sides {
        Ok(sides) => Ok(Some(sides)),
        Err(_) => Err(config.unsupported("s2_scales", &text, "integers separated by commas")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use serde_json::json;

    fn spec(model_type: &str) -> VitSpec {
        let config = json!({ "model_type": model_type, "image_size": 16, "patch_size": 4 });
        crate::models::registry::encoder_spec(&Config::new(config, "config")).unwrap()
    }

    #[test]
    fn scales_that_cannot_be_are_named() {
        let cases: [(&str, &[usize], &str); 8] = [
            ("clip", &[], "s2 has no scales"),
            ("clip", &[32, 16, 32], "the scale 32 twice"),
            ("clip", &[32, 64], "the smallest s2 scale is 32, the tower takes 16 pixels"),
            ("siglip", &[40, 16], "the s2 scale 40 is not a multiple of the smallest, 16"),
            ("clip", &[16, 1600], "100 x 100 tiles"),
            ("dinov2", &[16, 31], "the s2 scale 31 cannot be cut into 2 x 2 equal tiles"),
            ("dinov2", &[2, 16], "less than one patch"),
            ("dinov2", &[0, 16], "an s2 scale is 0"),
        ];
        for (model_type, sides, message) in cases {
            let error = Scales::new(sides.to_vec(), &spec(model_type)).unwrap_err();
            assert!(error.to_string().contains(message), "{sides:?}: {error}");
        }
        assert_eq!(Scales::new(vec![48, 16, 32], &spec("clip")).unwrap().sides(), [16, 32, 48]);
        assert!(Scales::new(vec![12, 20], &spec("dinov2")).is_ok());
    }

    /// The mean of a tile stands in for a tower: features of a picture whose pixels are its tiles' numbers.
    #[test]
    fn tiles_come_back_to_their_place() {
        let scales = Scales::new(vec![16, 32], &spec("clip")).unwrap();
        let plane: Vec<f32> = (0..32 * 32).map(|i| ((i / 32 / 16) * 2 + (i % 32) / 16) as f32).collect();
        let pixels = Tensor::from_vec(plane, (1, 1, 32, 32), &Device::Cpu).unwrap();
        let features = scales.features(&pixels, |tiles| {
            let tokens = resize(tiles, (2, 2), Filter::Area)?;
            Ok(tokens.flatten_from(2)?.transpose(1, 2)?)
        });
        let features = features.unwrap();
        assert_eq!(features.dims(), [1, 4, 2]);
        let fine = features.narrow(2, 1, 1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(fine, [0.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn a_config_s_text_is_read() {
        let read = |value| from_config(&Config::new(value, "config"));
        assert_eq!(read(json!({ "s2_scales": "1,2" })).unwrap(), None);
        assert_eq!(read(json!({ "s2": true })).unwrap(), Some(vec![336, 672, 1008]));
        assert_eq!(read(json!({ "s2": true, "s2_scales": "384, 768" })).unwrap(), Some(vec![384, 768]));
        assert!(read(json!({ "s2": true, "s2_scales": "384;768" })).is_err());
    }
}
