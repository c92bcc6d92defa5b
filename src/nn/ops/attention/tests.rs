//! Attention against its unfused form: shared heads, masks, prefixes, packed segments of many lengths.

use super::super::testing::{Check, values};
use super::*;
use candle_core::{DType, Device, Var};

fn spec(heads: usize, kv_heads: usize, head_dim: usize) -> Attention {
    let scale = 1.0 / (head_dim as f64).sqrt();
    Attention { heads, kv_heads, head_dim, scale, causal: true, softcap: None, window: None }
}

fn packed(lengths: &[usize]) -> Arc<[Segment]> {
    let ends = lengths.iter().scan(0, |end, len| {
        *end += len;
        Some(*end - len..*end)
    });
    ends.map(|range| Segment { q: range.clone(), prefix: 0..0, k: range }).collect()
}

fn check(spec: &Attention, tokens: usize, keys: usize, segments: &Arc<[Segment]>) {
    let (q, k) = ([tokens, spec.heads * spec.head_dim], [keys, spec.kv_heads * spec.head_dim]);
    Check::new("attention", &[&q, &k, &k]).scaled(2.0).run(
        |t| attention(&t[0], &t[1], &t[2], spec, segments),
        |t| attention_reference(&t[0], &t[1], &t[2], spec, segments),
    );
}

#[test]
fn packed_causal_sequences_agree_with_the_reference() {
    check(&spec(4, 2, 8), 150, 150, &packed(&[1, 70, 0, 79]));
    check(&spec(2, 2, 5), 7, 7, &packed(&[3, 4]));
    check(&spec(3, 1, 16), 90, 90, &packed(&[90]));
}

#[test]
fn bidirectional_sequences_agree_with_the_reference() {
    check(&Attention { causal: false, ..spec(2, 2, 8) }, 100, 100, &packed(&[66, 34]));
    // Cross attention: as many keys as wanted.
    let segments = Arc::from([Segment { q: 0..3, prefix: 0..0, k: 5..12 }, Segment { q: 3..9, prefix: 0..0, k: 0..5 }]);
    check(&Attention { causal: false, ..spec(2, 1, 8) }, 9, 12, &segments);
}

#[test]
fn softcap_and_window_agree_with_the_reference() {
    check(&Attention { softcap: Some(0.75), ..spec(4, 2, 8) }, 80, 80, &packed(&[70, 10]));
    check(&Attention { window: Some(3), ..spec(2, 1, 8) }, 140, 140, &packed(&[130, 10]));
    check(&Attention { window: Some(70), softcap: Some(2.0), ..spec(2, 1, 8) }, 140, 140, &packed(&[140]));
    // More keys than queries: the queries are the last ones.
    let segments = Arc::from([Segment { q: 0..4, prefix: 0..0, k: 0..10 }]);
    check(&Attention { window: Some(6), ..spec(2, 1, 8) }, 4, 10, &segments);
}

/// Decoding from a cache gives the rows of the full pass.
#[test]
fn a_prefix_stands_for_earlier_keys() -> Result<()> {
    for spec in [spec(4, 2, 8), Attention { window: Some(5), softcap: Some(1.5), ..spec(4, 2, 8) }] {
        let (tokens, width, kv_width) = (90, 32, 16);
        let make = |w: usize, seed| {
            Tensor::from_vec(values(tokens * w, seed), (tokens, w), &Device::Cpu)?.to_dtype(DType::F32)
        };
        let (q, k, v) = (make(width, 1)?, make(kv_width, 2)?, make(kv_width, 3)?);
        let full = attention(&q, &k, &v, &spec, &packed(&[tokens]))?;
        for (start, count) in [(89, 1), (60, 1), (20, 70), (88, 2)] {
            // The cache lies after the new keys, with a row of something else between.
            let order = Tensor::cat(
                &[
                    Tensor::arange(start as u32, (start + count) as u32, &Device::Cpu)?,
                    Tensor::arange(0, start as u32, &Device::Cpu)?,
                ],
                0,
            )?;
            let (k, v) = (k.index_select(&order, 0)?, v.index_select(&order, 0)?);
            let segments: Arc<[Segment]> =
                Arc::from([Segment { q: 1..1 + count, prefix: count..count + start, k: 0..count }]);
            let q = Tensor::cat(&[q.narrow(0, 0, 1)?, q.narrow(0, start, count)?], 0)?;
            let result = attention(&q, &k, &v, &spec, &segments)?;
            let reference = attention_reference(&q, &k, &v, &spec, &segments)?;
            let difference = |a: &Tensor, b: &Tensor| (a - b)?.abs()?.max_all()?.to_scalar::<f32>();
            assert!(difference(&result.narrow(0, 1, count)?, &full.narrow(0, start, count)?)? < 2e-6);
            assert!(difference(&result, &reference)? < 2e-6);
            assert_eq!(result.get(0)?.to_vec1::<f32>()?, vec![0.0; width]);
        }
    }
    Ok(())
}

#[test]
fn backward_refuses_what_is_for_inference() -> Result<()> {
    let spec = spec(1, 1, 2);
    let q = Var::from_tensor(&Tensor::ones((2, 2), DType::F32, &Device::Cpu)?)?;
    let k = Tensor::ones((3, 2), DType::F32, &Device::Cpu)?;
    let message = |segments: &[Segment]| -> Result<String> {
        let result = attention(&q, &k, &k, &spec, &Arc::from(segments))?;
        Ok(result.sum_all()?.backward().unwrap_err().to_string())
    };
    let prefix = message(&[Segment { q: 0..2, prefix: 0..1, k: 1..3 }])?;
    assert!(prefix.contains("no backward through a prefix"), "{prefix}");
    for segment in [Segment { q: 0..2, prefix: 0..0, k: 0..2 }, Segment { q: 0..1, prefix: 0..0, k: 0..3 }] {
        let partial = message(&[segment])?;
        assert!(partial.contains("do not cover each of 2 queries and 3 keys once"), "{partial}");
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_named() -> Result<()> {
    let zeros = |rows, width| Tensor::zeros((rows, width), DType::F32, &Device::Cpu);
    let (q, k) = (zeros(4, 8)?, zeros(4, 4)?);
    let message = |q: &Tensor, k: &Tensor, v: &Tensor, spec: &Attention, segments: &[Segment]| {
        attention(q, k, v, spec, &Arc::from(segments)).unwrap_err().to_string()
    };
    let segment = |q: Range<usize>, k: Range<usize>| Segment { q, prefix: 0..0, k };
    let spec = spec(2, 1, 4);
    let all = [segment(0..4, 0..4)];
    assert!(message(&k, &q, &q, &spec, &all).contains("q [4, 4] and k [4, 8] do not fit 2 heads and 1 key heads of 4"));
    assert!(message(&q, &k, &q, &spec, &all).contains("k [4, 4] and v [4, 8] have different shapes"));
    assert!(message(&q, &k, &k, &spec, &[segment(0..4, 0..5)]).contains("is outside 4 queries and 4 keys"));
    assert!(message(&q, &k, &k, &spec, &[segment(0..4, 0..3)]).contains("fewer keys than queries"));
    assert!(message(&q, &k, &k, &spec, &[segment(0..2, 0..2), segment(1..4, 1..4)]).contains("share queries"));
    let window = Attention { causal: false, window: Some(2), ..spec.clone() };
    assert!(message(&q, &k, &k, &window, &all).contains("needs causal attention"));
    let odd = Attention { heads: 3, kv_heads: 2, ..spec };
    assert!(message(&q, &k, &k, &odd, &all).contains("3 heads of 4 cannot share 2 key heads"));
    Ok(())
}

/// The probabilities of the last rows, applied to the values, are what attention gives these rows.
#[test]
fn weights_are_those_of_the_fused_pass() -> Result<()> {
    for spec in [
        spec(4, 2, 8),
        Attention { window: Some(5), softcap: Some(1.5), ..spec(4, 2, 8) },
        Attention { causal: false, ..spec(2, 2, 16) },
    ] {
        let (tokens, last) = (40, 3);
        let make = |heads: usize, seed| {
            let width = heads * spec.head_dim;
            Tensor::from_vec(values(tokens * width, seed), (tokens, width), &Device::Cpu)?.to_dtype(DType::F32)
        };
        let (q, k, v) = (make(spec.heads, 1)?, make(spec.kv_heads, 2)?, make(spec.kv_heads, 3)?);
        let weights = attention_weights(&q.narrow(0, tokens - last, last)?, &k, &spec)?;
        assert_eq!(weights.dims(), [spec.heads, last, tokens]);
        for sum in weights.sum(2)?.flatten_all()?.to_vec1::<f32>()? {
            assert!((sum - 1.0).abs() < 1e-5, "{sum}");
        }
        // (tokens, heads, head_dim), each key head repeated for its group.
        let group = spec.heads / spec.kv_heads;
        let values = v.reshape((tokens, spec.kv_heads, 1, spec.head_dim))?;
        let values = values.broadcast_as((tokens, spec.kv_heads, group, spec.head_dim))?;
        let values = values.reshape((tokens, spec.heads, spec.head_dim))?.transpose(0, 1)?.contiguous()?;
        let mixed = weights.matmul(&values)?.transpose(0, 1)?.reshape((last, spec.heads * spec.head_dim))?;
        let fused = attention(&q, &k, &v, &spec, &packed(&[tokens]))?.narrow(0, tokens - last, last)?;
        let difference = (mixed - fused)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(difference < 1e-5, "{difference}");
    }
    Ok(())
}
