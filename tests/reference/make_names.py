"""Names and shapes of every tensor of two public models, as the transformers library builds them.

    python tests/reference/make_names.py [OUT]

Writes names-native-base.txt (Florence-2-base) and names-gemma-2-2b.txt, a line "name size size ..."
for each tensor, into OUT (fixtures/ beside this file). Nothing is allocated.
"""

import pathlib
import sys

import torch
from transformers import (
    Florence2Config,
    Florence2ForConditionalGeneration,
    Gemma2Config,
    Gemma2ForCausalLM,
)


def florence_2_base():
    vision = {
        "embed_dim": [128, 256, 512, 1024],
        "num_heads": [4, 8, 16, 32],
        "num_groups": [4, 8, 16, 32],
        "depths": [1, 1, 9, 1],
        "projection_dim": 768,
    }
    text = {
        "model_type": "bart",
        "vocab_size": 51328,
        "d_model": 768,
        "encoder_layers": 6,
        "decoder_layers": 6,
        "encoder_attention_heads": 12,
        "decoder_attention_heads": 12,
        "encoder_ffn_dim": 3072,
        "decoder_ffn_dim": 3072,
        "max_position_embeddings": 1024,
    }
    return Florence2ForConditionalGeneration(
        Florence2Config(vision_config=vision, text_config=text)
    )


def gemma_2_2b():
    return Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=256000,
            hidden_size=2304,
            intermediate_size=9216,
            num_hidden_layers=26,
            num_attention_heads=8,
            num_key_value_heads=4,
            head_dim=256,
        )
    )


def main():
    here = pathlib.Path(__file__).resolve().parent
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here / "fixtures"
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    with torch.device("meta"):
        models = {"native-base": florence_2_base(), "gemma-2-2b": gemma_2_2b()}
    for name, model in models.items():
        lines = [
            " ".join([tensor, *map(str, value.shape)])
            for tensor, value in model.state_dict().items()
        ]
        (out / f"names-{name}.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
