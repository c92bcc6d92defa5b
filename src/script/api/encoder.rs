//! Encoders: facts, preprocessing, features.

use candle_core::Tensor;
use rhai::plugin::*;
use rhai::{Array, Map};

use super::Fallible;
use crate::device::device_name;
use crate::error;
use crate::error::Result;
use crate::image::{Aspect, Image};
use crate::script::convert::{Options, shown};
use crate::script::handles::{EncoderHandle, ImageHandle, TensorHandle, dtype_name};
use crate::script::options::PREPROCESS;

/// Pixels (1, 3, height, width) of a picture, by `preprocess`, or of a pixel tensor.
fn pixels(value: &Dynamic, preprocess: impl Fn(&Image) -> Result<Tensor>) -> Result<Tensor> {
    if let Some(image) = value.clone().try_cast::<ImageHandle>() {
        return Ok(preprocess(&image.get()?)?.unsqueeze(0)?);
    }
    match value.clone().try_cast::<TensorHandle>() {
        Some(tensor) if tensor.0.rank() == 3 => Ok(tensor.0.unsqueeze(0)?),
        Some(tensor) => Err(error!(Shape, "pixels have shape {:?}, expected (3, height, width)", tensor.0.dims())),
        None => Err(error!(Type, "expected an Image or a Tensor of pixels, got {}", shown(value))),
    }
}

#[export_module]
pub mod encoder {
    /// The preset id or folder it was opened by.
    ///
    /// ```rhai
    /// print(encoder("tiny-clip").id);
    /// ```
    #[rhai_fn(get = "id", pure)]
    pub fn id(e: &mut EncoderHandle) -> String {
        e.0.id.clone()
    }

    /// Width of the features.
    #[rhai_fn(get = "width", pure)]
    pub fn width(e: &mut EncoderHandle) -> i64 {
        e.0.width() as i64
    }

    /// Visual tokens per picture.
    #[rhai_fn(get = "tokens", pure)]
    pub fn tokens(e: &mut EncoderHandle) -> i64 {
        e.0.tokens() as i64
    }

    /// Side of the pixels it takes, with `s2` the largest scale.
    #[rhai_fn(get = "image_size", pure)]
    pub fn image_size(e: &mut EncoderHandle) -> i64 {
        e.0.image_size() as i64
    }

    /// Blocks in the checkpoint.
    #[rhai_fn(get = "layers", pure)]
    pub fn layers(e: &mut EncoderHandle) -> i64 {
        e.0.tower.spec().layers as i64
    }

    /// Number of weights.
    #[rhai_fn(get = "params", pure)]
    pub fn params(e: &mut EncoderHandle) -> i64 {
        e.0.count() as i64
    }

    /// The dtype it computes in.
    #[rhai_fn(get = "dtype", pure)]
    pub fn dtype(e: &mut EncoderHandle) -> String {
        dtype_name(e.0.target().dtype).to_string()
    }

    /// Where it computes.
    #[rhai_fn(get = "device", pure)]
    pub fn device(e: &mut EncoderHandle) -> String {
        device_name(&e.0.target().device)
    }

    /// Names of the checkpoint's tensors that no layer uses; `save` keeps them.
    ///
    /// ```rhai
    /// print(encoder("tiny-clip").unused.len());
    /// ```
    #[rhai_fn(get = "unused", pure)]
    pub fn unused(e: &mut EncoderHandle) -> Array {
        e.0.unused.iter().map(|(name, _)| Dynamic::from(name.clone())).collect()
    }

    /// Pixels (3, H, W) as the reference image processor gives them. A processor that pads (`do_pad` of
    /// LlavaImageProcessor) pads here as well.
    ///
    /// ```rhai
    /// let x = encoder("tiny-clip").preprocess(image("tests/fixtures/images/red-circle.png"));
    /// print(x.shape);  // [3, 64, 64]
    /// ```
    #[rhai_fn(name = "preprocess", return_raw)]
    pub fn preprocess(e: EncoderHandle, image: ImageHandle) -> Fallible<TensorHandle> {
        Ok(TensorHandle(e.0.preprocess(&image.get()?, e.0.own_aspect())?))
    }

    /// The same with options.
    ///
    /// ```rhai
    /// let x = encoder("tiny-clip").preprocess(image("tests/fixtures/images/wide-640x11.png"), #{ image: "pad" });
    /// ```
    #[rhai_fn(name = "preprocess", return_raw)]
    pub fn preprocess_with(e: EncoderHandle, image: ImageHandle, options: Map) -> Fallible<TensorHandle> {
        let options = Options::new(options, &PREPROCESS)?;
        let aspect =
            options.get::<Option<String>>("image")?.map_or(Ok(e.0.own_aspect()), |name| Aspect::parse(&name))?;
        Ok(TensorHandle(e.0.preprocess(&image.get()?, aspect)?))
    }

    /// All hidden states of the tower, each (sequence, width): `[0]` are the embeddings, `[i]` is the output of block i.
    /// Pixels may have any size the tower takes: DINOv2, ViT and I-JEPA interpolate their positions, CLIP and SigLIP do not.
    ///
    /// ```rhai
    /// let states = encoder("tiny-clip").hidden_states(image("tests/fixtures/images/red-circle.png"));
    /// print(states.len());  // 6
    /// ```
    #[rhai_fn(name = "hidden_states", return_raw)]
    pub fn hidden_states(e: EncoderHandle, image: Dynamic) -> Fallible<Array> {
        let pixels = pixels(&image, |image| e.0.tower_pixels(image, e.0.own_aspect()))?;
        let states = e.0.hidden_states(&pixels)?;
        let mut array = Array::with_capacity(states.len());
        for state in states {
            array.push(Dynamic::from(TensorHandle(state.squeeze(0).map_err(crate::error::Error::from)?)));
        }
        Ok(array)
    }

    /// Features (tokens, width) after layer and token selection.
    ///
    /// ```rhai
    /// let x = encoder("tiny-clip").encode(image("tests/fixtures/images/red-circle.png"));
    /// print(x.shape);  // [64, 96]
    /// ```
    #[rhai_fn(name = "encode", return_raw)]
    pub fn encode(e: EncoderHandle, image: Dynamic) -> Fallible<TensorHandle> {
        let features = e.0.encode(&pixels(&image, |image| e.0.preprocess(image, e.0.own_aspect()))?)?;
        Ok(TensorHandle(features.squeeze(0).map_err(crate::error::Error::from)?))
    }
}
