"""Vision towers with their processors, and whole LLaVA models, as transformers writes and opens them."""

import torch
import transformers
from PIL import Image

from . import harness
from .harness import PICTURE, TOKENIZER, Wrong, case, close, tensors
from .llms import FAMILIES, SMALL, randomize

SIZES = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=28, patch_size=7)
MLP = SIZES | dict(intermediate_size=48)
CLIP = dict(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
SQUARE = dict(size={"height": 28, "width": 28})
TOWERS = {
    "CLIP": ("CLIPVision", MLP, "CLIP", CLIP),
    "SigLIP": ("SiglipVision", MLP, "Siglip", SQUARE),
    "DINOv2": ("Dinov2", SIZES | dict(mlp_ratio=2), "Bit", CLIP),
    "DINOv2 with registers": ("Dinov2WithRegisters", SIZES | dict(mlp_ratio=2, num_register_tokens=3), "Bit", CLIP),
    "ViT": ("ViT", MLP, "ViT", SQUARE),
    "I-JEPA": ("IJepa", MLP, "ViT", SQUARE),
}


def tower_and_processor(name):
    kind, sizes, processor, options = TOWERS[name]
    model = randomize(getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**sizes)), 1)
    # Pillow's resampling is the reference; the default of 5.x goes through torchvision.
    pil = f"{processor}ImageProcessorPil"
    processor = getattr(transformers, pil, None) or getattr(transformers, f"{processor}ImageProcessor")
    return model, processor(**options)


def open_tower(folder, name):
    model, processor = tower_and_processor(name)
    model.save_pretrained(folder / "tower")
    processor.save_pretrained(folder / "tower")
    pixels = processor(Image.open(PICTURE).convert("RGB"), return_tensors="pt").pixel_values
    with torch.no_grad():
        states = model(pixel_values=pixels, output_hidden_states=True).hidden_states
    out = tensors(folder, f'''let e = encoder("tower"); let p = e.preprocess(image("{PICTURE}")); out["pixels"] = p;
        let h = e.hidden_states(p); for i in 0..h.len() {{ out[`h${{i}}`] = h[i]; }}''')
    close(out["pixels"], pixels[0], 1e-6)
    # The last entry has passed the final norm in some classes and not in others; every block before it is compared.
    return max((close(out[f"h{i}"], state[0]) for i, state in enumerate(states[:-1])), key=float)


for name in TOWERS:
    case("transformers, pillow", f"tower with its processor: {name}, pixels and hidden states", name=name)(open_tower)


@case("transformers, pillow", "CLIP and SigLIP with CLIPProcessor, SiglipProcessor: only processor_config.json")
def processor_config(folder):
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(TOKENIZER))
    for name, joint in [("CLIP", transformers.CLIPProcessor), ("SigLIP", transformers.SiglipProcessor)]:
        model, processor = tower_and_processor(name)
        model.save_pretrained(folder / name)
        joint(image_processor=processor, tokenizer=tokenizer).save_pretrained(folder / name)
        assert not (folder / name / "preprocessor_config.json").exists()
        pixels = processor(Image.open(PICTURE).convert("RGB"), return_tensors="pt").pixel_values[0]
        out = tensors(folder, f'out["p"] = encoder("{name}").preprocess(image("{PICTURE}"));')
        figure = close(out["p"], pixels, 1e-6)
    return figure


@case("transformers", "tower of another family: DINOv3", "refused", "dinov3")
def dinov3(folder):
    config = transformers.DINOv3ViTConfig(**MLP)
    transformers.DINOv3ViTModel(config).save_pretrained(folder / "tower")
    tower_and_processor("DINOv2")[1].save_pretrained(folder / "tower")
    tensors(folder, f'out["x"] = encoder("tower").encode(image("{PICTURE}"));')


def llava(folder, tower, family):
    """A LlavaForConditionalGeneration with its processor, in `folder/model`."""
    kind, changes = FAMILIES[family]
    vision, processor = tower_and_processor(tower)
    text = getattr(transformers, f"{kind}Config")(**{**SMALL, **changes, "vocab_size": 289})
    config = transformers.LlavaConfig(
        vision_config=vision.config, text_config=text, image_token_index=288, image_seq_length=16,
        vision_feature_select_strategy="full" if tower == "SigLIP" else "default", vision_feature_layer=-2,
    )
    config._attn_implementation = "eager"
    model = randomize(transformers.LlavaForConditionalGeneration(config), 2)
    model.save_pretrained(folder / "model")
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(TOKENIZER))
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    transformers.LlavaProcessor(
        processor, tokenizer, patch_size=7, num_additional_image_tokens=int(tower != "SigLIP"),
        vision_feature_select_strategy=config.vision_feature_select_strategy,
    ).save_pretrained(folder / "model")
    return model


TURNS = '[#{ from: "human", value: "<image>\\nWhat is it?" }, #{ from: "gpt", value: "red" }]'

def their_logits(model, out_ids, pixels):
    """transformers' logits for llmore's ids, the mark replaced by the picture's tokens."""
    ids = [token for one in out_ids for token in ([288] * 16 if one == -200 else [one])]
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), pixel_values=pixels[None]).logits[0]


def ask(folder, name):
    """llmore's logits, ids and pixels for the model in a folder."""
    script = f'''let m = load("{name}", #{{ template: "tiny" }}); let pic = image("{PICTURE}"); let turns = {TURNS};
        out["logits"] = m.logits(pic, turns); out["pixels"] = m.encoder.preprocess(pic);'''
    out = tensors(folder, script)
    ids = harness.llmore(folder, f'print(template("tiny").render(tokenizer("{name}"), {TURNS}).ids);')
    return out, [int(x) for x in ids.strip(" []\n").split(",")]


def open_llava(folder, tower, family):
    model = llava(folder, tower, family)
    out, ids = ask(folder, "model")
    theirs = their_logits(model, ids, out["pixels"])
    width = min(theirs.shape[1], out["logits"].shape[1])
    return close(out["logits"][:, :width], theirs[:, :width])


def save_llava(folder, tower, family):
    """Opened, saved in both layouts, opened again by llmore and by transformers."""
    llava(folder, tower, family)
    harness.llmore(folder, '''let m = load("model", #{ template: "tiny" });
        m.save("ours", #{ layout: "llava-more" }); m.save("theirs", #{ layout: "transformers" });''')
    before, ids = ask(folder, "model")
    ours, theirs = ask(folder, "ours")[0], ask(folder, "theirs")[0]
    figures = [close(ours["logits"], before["logits"]), close(theirs["logits"], before["logits"])]
    model, info = transformers.LlavaForConditionalGeneration.from_pretrained(
        folder / "theirs", output_loading_info=True, attn_implementation="eager", dtype=torch.float32
    )
    if info["missing_keys"] or info["mismatched_keys"]:
        raise Wrong(f"missing {info['missing_keys']}, mismatched {info['mismatched_keys']}")
    again = their_logits(model.eval(), ids, before["pixels"])
    width = min(again.shape[1], before["logits"].shape[1])
    return max(figures + [close(before["logits"][:, :width], again[:, :width])], key=float)


for tower, family in [("CLIP", "Llama"), ("SigLIP", "Qwen 2, tied"), ("CLIP", "Gemma 2"), ("CLIP", "Phi-3, longrope"),
                      ("CLIP", "Gemma 3, two ropes"), ("DINOv2", "Mistral with a window")]:
    case("transformers", f"LLaVA folder: {tower} and {family}", tower=tower, family=family)(open_llava)
for tower, family in [("CLIP", "Llama, llama3 rope, tied"), ("CLIP", "Gemma 2"), ("CLIP", "Gemma 3, two ropes"),
                      ("SigLIP", "Phi-3, longrope")]:
    case("transformers", f"LLaVA saved by llmore in both layouts, opened by both: {tower} and {family}",
         tower=tower, family=family)(save_llava)
