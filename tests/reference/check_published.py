#!/usr/bin/env python3
"""The mechanics of published.sh on tiny random models instead of published ones.

    check_published.py --program FLORENZ

gemma and bart: the weights of parity cases, imported and exported again by `florenz ckpt`, so that config.json is
ours; florence-2: made and saved by the library's own Florence-2; three of tests/data/golden/images. Equal models
must be within the bound, one changed row of a matrix beyond it, a truncated file told apart from both.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file
from transformers import BartConfig, Florence2Config, Florence2ForConditionalGeneration

import florenz_reference
import make_parity
import published

HERE = os.path.dirname(os.path.abspath(__file__))
PICTURES = ["exif-rotated.jpg", "palette.png", "lossy-alpha.webp"]


def florenz_model(folder, case, program):
    """With the tables that captions of 12 tokens need."""
    config = make_parity.CASES[case]["config"] | {"enc_positions": 40}
    if config["family"] == "bart":
        config["dec_positions"] = 40  # one number in a public config
    model = florenz_reference.build(config, torch.float32)
    weights = {name: make_parity.weight(case, config["family"], name, shape).float().contiguous()
               for name, shape in florenz_reference.shapes(model).items()}
    plain = folder + ".plain"
    os.makedirs(plain)
    save_file(weights, os.path.join(plain, "model.safetensors"))
    keys = {k: v for k, v in config.items() if k not in ("image_size", "max_prompt", "max_output")}
    keys["variant"] = "11.2b" if config["family"] == "gemma" else "0.4b"
    path = os.path.join(plain, "config.yaml")
    with open(path, "w") as file:
        file.write(published.yaml_of(keys, config["image_size"], 8, 12, os.path.join(plain, "run")))
    subprocess.run([program, "ckpt", "import", path, "--from", plain], check=True)
    subprocess.run([program, "ckpt", "export", path, "--to", folder], check=True)
    shutil.rmtree(plain)


def florence_model(folder):
    torch.manual_seed(2)
    text = BartConfig(vocab_size=120, max_position_embeddings=38, d_model=32, encoder_layers=2, decoder_layers=2,
                      encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48,
                      pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2)
    vision = {"embed_dim": [32, 32, 32, 64], "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 2],
              "num_groups": [1, 1, 1, 2], "projection_dim": 32}
    model = Florence2ForConditionalGeneration(
        Florence2Config(vision_config=vision, text_config=text.to_dict(), image_token_id=119))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    model.save_pretrained(folder)


def make(folder, program):
    models = os.path.join(folder, "models")
    os.makedirs(os.path.join(folder, "pictures"))
    for name in PICTURES:
        shutil.copy(os.path.join(HERE, "../data/golden/images", name), os.path.join(folder, "pictures"))
    os.makedirs(models)
    florenz_model(os.path.join(models, "gemma"), "gemma-a", program)
    florenz_model(os.path.join(models, "bart"), "bart-a", program)
    florence_model(os.path.join(models, "florence-2"))
    return models


def compare(folder, program, expected, *rows):
    """Runs published.sh; its exit code must be the expected one, each pattern a line of its table."""
    done = subprocess.run([os.path.join(HERE, "published.sh"), folder, "--side", "56", "--tokens", "8"],
                          env=os.environ | {"FLORENZ": program, "PYTHON": sys.executable},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout)
    missing = [row for row in rows if not re.search(f"^{row}$", done.stdout, re.M)]
    if done.returncode != expected or missing:
        sys.exit(f"exit code {done.returncode}, {expected} expected; lines that are missing: {missing}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    program = parser.parse_args().program
    with tempfile.TemporaryDirectory() as top:
        models = make(os.path.join(top, "all"), program)
        good = r" +3 .* 3/3 +ok"
        compare(os.path.join(top, "all"), program, 0, "bart +reference" + good, "gemma +reference" + good,
                "florence-2 +port" + good)

        # A program that reads another folder than it is told.
        shutil.rmtree(os.path.join(models, "bart"))
        shutil.rmtree(os.path.join(models, "florence-2"))
        other = shutil.copytree(models, os.path.join(top, "other"))
        path = os.path.join(other, "gemma", "model.safetensors")
        tensors = load_file(path)
        tensors["language_model.model.decoder.layers.1.encoder_attn.v_proj.weight"][3] *= 1.1
        save_file(tensors, path)
        wrong = os.path.join(top, "florenz")
        with open(wrong, "w") as file:
            file.write(f'#!/usr/bin/env bash\nexec "{program}" "${{@/all\\/models/other}}"\n')
        os.chmod(wrong, 0o755)
        compare(os.path.join(top, "all"), wrong, 1, "gemma .*BEYOND")

        with open(os.path.join(models, "gemma", "model.safetensors"), "r+b") as file:
            file.truncate(os.path.getsize(file.name) - 8)
        compare(os.path.join(top, "all"), program, 2, "gemma .*not compared.*")


if __name__ == "__main__":
    main()
