//! Weights in float8, with and without the scales beside them.

use super::*;

/// The value of a byte by the definition of its format, and not by a table.
fn float8(byte: u8, dtype: Dtype) -> f32 {
    let (bits, bias) = if dtype == Dtype::F8_E5M2 { (2, 15) } else { (3, 7) };
    let (exponent, fraction) =
        (i32::from(byte & 0x7f) >> bits, f32::from(byte & ((1 << bits) - 1)) / f32::from(1u8 << bits));
    let size = match exponent {
        0 => fraction * 2f32.powi(1 - bias),
        _ => (1.0 + fraction) * 2f32.powi(exponent - bias),
    };
    if byte & 0x80 == 0 { size } else { -size }
}

/// Every linear layer as float8 with scales for blocks, and the same in f32.
fn in_float8(dtype: Dtype, block: impl Fn(&[usize]) -> [usize; 2], end: &str, scale: Dtype, flat: bool) -> [Sample; 2] {
    let (mut eight, mut plain) = (Sample::new(), Sample::new());
    // The largest finite byte of either format stands for the largest value of a block.
    let top = float8(if dtype == Dtype::F8_E5M2 { 0x7b } else { 0x7e }, dtype);
    let nearest = |value: f32| {
        let all = (0u8..=0x7b).map(|byte| (byte, (float8(byte, dtype) - value.abs()).abs()));
        let byte = all.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0;
        if value < 0.0 { byte | 0x80 } else { byte }
    };
    for name in plain.linears() {
        let values: Vec<Vec<f32>> = plain.get(&name).to_vec2().unwrap();
        let (rows, columns) = (values.len(), values[0].len());
        let [high, wide] = block(&[rows, columns]);
        let (down, across) = (rows.div_ceil(high), columns.div_ceil(wide));
        let (mut scales, mut bytes, mut widened) = (Vec::new(), vec![0u8; rows * columns], vec![0f32; rows * columns]);
        for place in 0..down * across {
            let inside = |row: usize, column: usize| row / high * across + column / wide == place;
            let cells: Vec<(usize, usize)> =
                (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))).filter(|(r, c)| inside(*r, *c)).collect();
            let largest = cells.iter().map(|(r, c)| values[*r][*c].abs()).fold(0f32, f32::max);
            // A power of two is exact in every type of scale.
            let by = (largest / top).log2().ceil().exp2();
            scales.push(by);
            for (r, c) in cells {
                bytes[r * columns + c] = nearest(values[r][c] / by);
                widened[r * columns + c] = float8(bytes[r * columns + c], dtype) * by;
            }
        }
        let scales: Vec<u8> = match scale {
            Dtype::F32 => scales.iter().flat_map(|scale| scale.to_le_bytes()).collect(),
            Dtype::BF16 => scales.iter().flat_map(|scale| ((scale.to_bits() >> 16) as u16).to_le_bytes()).collect(),
            _ => scales.iter().map(|scale| (scale.log2() as i32 + 127) as u8).collect(),
        };
        let shape = if flat { vec![] } else { vec![down, across] };
        eight.raw(&name, dtype, &[rows, columns], bytes);
        eight.raw(&name.replace(".weight", end), scale, &shape, scales);
        plain.put(&name, &Tensor::from_vec(widened, (rows, columns), &Device::Cpu).unwrap());
    }
    [eight, plain]
}

#[test]
fn float8_weights_are_their_values_times_their_scales() {
    let (e4, e5) = (Dtype::F8_E4M3, Dtype::F8_E5M2);
    let blocks = |size| move |_: &[usize]| size;
    let (row, whole) = (|shape: &[usize]| [1, shape[1]], |shape: &[usize]| [shape[0], shape[1]]);
    let (inverse, plain) = (".weight_scale_inv", ".weight_scale");
    let fp8 = |size: Json| json!({ "quant_method": "fp8", "weight_block_size": size });
    let packed = json!({ "quant_method": "compressed-tensors", "format": "float-quantized" });
    let nested = json!({ "quant_method": "compressed-tensors", "config_groups": { "group_0": {
        "format": "float-quantized", "weights": { "strategy": "block", "block_structure": [16, 16] } } } });
    let cases = [
        ("block", in_float8(e4, blocks([128, 128]), inverse, Dtype::F32, false), fp8(json!([128, 128]))),
        ("small-block", in_float8(e4, blocks([16, 32]), inverse, Dtype::F32, false), fp8(json!([16, 32]))),
        ("e5m2", in_float8(e5, blocks([32, 32]), inverse, Dtype::BF16, false), fp8(json!([32, 32]))),
        ("e8m0", in_float8(e4, blocks([32, 32]), inverse, Dtype::F8_E8M0, false), fp8(json!([32, 32]))),
        ("tensor", in_float8(e4, whole, inverse, Dtype::F32, true), fp8(Json::Null)),
        ("packed", in_float8(e4, whole, plain, Dtype::BF16, false), packed.clone()),
        ("rows", in_float8(e4, row, plain, Dtype::F32, false), packed),
        ("nested", in_float8(e4, blocks([16, 16]), plain, Dtype::F32, false), nested),
        ("fbgemm", in_float8(e5, row, plain, Dtype::F32, false), json!({ "quant_method": "fbgemm_fp8" })),
        ("unsaid", in_float8(e4, row, plain, Dtype::BF16, false), Json::Null),
    ];
    for (name, [mut eight, plain], config) in cases {
        // What is for activations changes nothing.
        eight.raw("model.layers.0.mlp.up_proj.input_scale", Dtype::F32, &[], 3f32.to_le_bytes().to_vec());
        let (eight, plain) = (eight.with("quantization_config", config), plain.write(&format!("{name}-f32")));
        let (ours, theirs) = (open(&eight.write(name)), open(&plain));
        assert_eq!(worst(&logits(&ours), &logits(&theirs)), 0.0, "{name}");
        assert!(ours.unused.is_empty() && notes(&ours).contains("float8 and computed as value times scale"), "{name}");
        // As blocks of eight bits, too.
        assert!(open_with(&scratch_path(name), Some("q8_0")).is_ok(), "{name}");
    }
    // The same of another hand: DeepSeek's way, and in f32 by torch.
    let of = |name: &str| logits(&open(&Path::new(CASES).join(name)));
    assert!(worst(&of("fp8-block"), &of("fp8-block-as-f32")) < 1e-4);
}

#[test]
fn float8_without_a_scale_is_said_and_half_a_set_of_scales_refused() {
    let blocks = |_: &[usize]| [1024, 1024];
    let [eight, _] = in_float8(Dtype::F8_E4M3, blocks, ".weight_scale", Dtype::F32, false);
    let mut bare = Sample::new();
    bare.raw(UP, Dtype::F8_E4M3, bare.get(UP).dims(), vec![0x38; bare.get(UP).elem_count()]);
    let llm = open(&bare.write("bare"));
    assert!(notes(&llm).contains(&format!("1 weights are float8 without a scale, as `{UP}`")), "{}", notes(&llm));
    let up = llm.params.iter().find(|param| param.name() == UP).unwrap().tensor().unwrap();
    assert_eq!(up.max_all().unwrap().to_scalar::<f32>().unwrap(), 1.0);
    let half = eight.without("model.layers.0.mlp.up_proj.weight_scale").write("half");
    assert!(refused(&half).contains(&format!("have no scale beside them, the first is `{UP}`")), "{}", refused(&half));
    let config = json!({ "quant_method": "fp8", "weight_block_size": [128, 128] });
    let text = notes(&open(&Sample::new().with("quantization_config", config).write("floats")));
    assert!(text.contains("`quant_method` of config.json is `fp8`, but no weight is float8"), "{text}");
}
