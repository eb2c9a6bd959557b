#!/usr/bin/env python3
"""Models that the transformers library saved come in, and what goes out opens there again.

    tests/reference/.env/bin/python tests/reference/check_exchange.py --program FLORENZ

Florence-2 and Gemma-2, tiny and random, are written by save_pretrained, in several files. The program
imports and exports them; names and values are then compared with the library's modules, by a mapping of
this file's own, and the exported tensors are loaded into fresh modules, nothing missing, nothing left over.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file
from transformers import (Florence2Config, Florence2ForConditionalGeneration, Gemma2Config,
                          Gemma2ForCausalLM, PretrainedConfig)

torch.set_num_threads(1)
VISION = {"embed_dim": [32, 64, 96, 128], "num_heads": [1, 2, 3, 4], "num_groups": [1, 2, 3, 4],
          "depths": [1, 1, 2, 1], "projection_dim": 64}
TEXT = {"model_type": "bart", "vocab_size": 509, "d_model": 64, "encoder_layers": 2,
        "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "encoder_ffn_dim": 148, "decoder_ffn_dim": 148, "max_position_embeddings": 128}
GEMMA = {"vocab_size": 509, "hidden_size": 96, "intermediate_size": 180, "num_hidden_layers": 3,
         "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 16,
         "query_pre_attn_scalar": 24, "sliding_window": 8}
DECODER = "language_model.model.decoder."


def scramble(model):
    """Values that no initialiser gives: norms are not 1, biases not 0."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.1)
    return model


def published(name):
    """The published model's name of a tensor of the library's Florence-2."""
    name = re.sub(r"^model\.language_model\.", "language_model.model.", name)
    name = re.sub(r"^model\.multi_modal_projector\.", "", name)
    name = re.sub(r"^model\.", "", name)
    if name == "image_projection.weight":
        return "image_projection"
    name = name.replace("image_position_embed.", "image_pos_embed.")
    name = re.sub(r"^(vision_tower\.convs\.\d+)\.conv\.", r"\1.proj.", name)
    block = re.match(r"vision_tower\.blocks\.\d+\.\d+\.(spatial|channel)_block\.", name)
    if block:
        attention = "window_attn" if block[1] == "spatial" else "channel_attn"
        head, tail = name[:block.end()], name[block.end():]
        for theirs, ours in (("conv1.", "conv1.fn.dw."), ("conv2.", "conv2.fn.dw."),
                             ("norm1.", attention + ".norm."), ("norm2.", "ffn.norm."),
                             (attention + ".", attention + ".fn."), ("ffn.fc", "ffn.fn.net.fc")):
            if tail.startswith(theirs):
                return head + ours + tail[len(theirs):]
    return name


def run(program, *arguments):
    done = subprocess.run([program, "ckpt", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, arguments))}: {done.returncode}\n{done.stderr}")


def read(folder):
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        part = load_file(file)
        assert not tensors.keys() & part.keys()
        tensors.update(part)
    return tensors


def through(program, folder, variant, dtype, *sources):
    """Tensors and config after an import and an export."""
    config = folder / f"{variant}.yaml"
    config.write_text(f"model:\n  variant: {variant}\nrun:\n  dir: {folder / ('run-' + variant + dtype)}\n")
    out = folder / f"out-{variant}-{dtype}"
    run(program, "import", config, *(word for source in sources for word in ("--from", source)))
    run(program, "export", config, "--to", out, "--dtype", dtype, "--max-file-bytes", "1MB")
    description, _ = PretrainedConfig.get_config_dict(out)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    tensors = read(out)
    assert tensors.keys() == index["weight_map"].keys()
    return tensors, description


def same(got, want, name):
    assert name in got, f"{name} is missing"
    assert torch.equal(got[name], want.to(got[name].dtype)), f"{name} differs"


def load_back(florence, gemma, got, family):
    """Into fresh modules, by the names that the library wants."""
    wanted = florence.state_dict()
    tables = {"model.language_model.shared.weight": DECODER + "embed_tokens.weight",
              "lm_head.weight": DECODER + "embed_tokens.weight"}
    state = {name: got[tables.get(name, published(name))] for name in wanted
             if family == "bart" or (".decoder." not in name and name not in tables)}
    state["model.multi_modal_projector.image_projection.weight"] = got["image_projection"].T
    fresh = Florence2ForConditionalGeneration(florence.config)
    result = fresh.load_state_dict(state, strict=family == "bart")
    assert not result.unexpected_keys
    if family == "bart":
        return
    names = gemma.state_dict().keys()
    Gemma2ForCausalLM(gemma.config).load_state_dict(
        {name: got[DECODER + ("embed_tokens.weight" if name == "lm_head.weight" else
                              name.removeprefix("model."))] for name in names}, strict=True)


def check(program, folder, florence, gemma, variant, dtype):
    family = variant.removeprefix("tiny-")
    sources = [folder / "florence"] + ([folder / "gemma"] if family == "gemma" else [])
    got, description = through(program, folder, variant, dtype, *sources)
    buffer = "visual_temporal_embed.pos_idx_to_embed"
    left = set(got)
    for name, value in florence.state_dict().items():
        theirs = published(name)
        if theirs in ("language_model.model.shared.weight", "lm_head.weight"):
            continue
        if family == "gemma" and theirs.startswith(DECODER):
            continue
        if theirs == buffer:
            assert torch.allclose(got[theirs].float(), value, atol=1e-2 if dtype != "f32" else 3e-5)
        else:
            same(got, value.T if theirs == "image_projection" else value, theirs)
        left.discard(theirs)
    if family == "gemma":
        for name, value in gemma.state_dict().items():
            if name == "lm_head.weight":
                continue
            same(got, value, DECODER + name.removeprefix("model."))
            left.discard(DECODER + name.removeprefix("model."))
            if "post_attention_layernorm" in name:
                twin = DECODER + name.removeprefix("model.").replace("post_attention", "post_encoder_attention")
                same(got, value, twin)
                left.discard(twin)
        assert all(".encoder_attn" in name for name in left), left
        assert len(left) == 5 * 3
        assert description["text_config"]["gemma_config"]["num_key_value_heads"] == 2
    else:
        assert not left, left
    assert description["torch_dtype"] == {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}[dtype]
    assert description["text_config"]["max_position_embeddings"] == 128
    if dtype == "f32":
        load_back(florence, gemma, got, family)
    print(f"{variant} as {dtype}: {len(got)} tensors are the library's")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True)
    program = parser.parse_args().program
    torch.manual_seed(4)
    florence = scramble(Florence2ForConditionalGeneration(
        Florence2Config(vision_config=VISION, text_config=TEXT)))
    gemma = scramble(Gemma2ForCausalLM(Gemma2Config(**GEMMA)))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        florence.save_pretrained(folder / "florence", max_shard_size="2MB")
        gemma.save_pretrained(folder / "gemma", max_shard_size="300KB")
        for variant in ("tiny-bart", "tiny-gemma"):
            for dtype in ("f32", "f16", "bf16"):
                check(program, folder, florence, gemma, variant, dtype)


if __name__ == "__main__":
    main()
