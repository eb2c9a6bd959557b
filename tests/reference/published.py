"""What published.sh runs: one model folder through `florenz` and through a public implementation.

    published.py --florenz PROGRAM --model FOLDER --pictures FOLDER --work FOLDER [--authors FOLDER]
                 [--tokenizer FILE] [--side P] [--pictures-most N] [--bound X]

Exit code 0: within the bound; 10: beyond it; any other: this model cannot be compared here. Prints one line of the table.

Implementations, by what the folder's config.json says:
    authors     a Florenz model and --authors: their model code from a checkout of their repository
    reference   a Florenz model without --authors, or an original Florence-2: florenz_reference.py
    port        a Florence-2 in the layout of `transformers`: that library's own model
Both sides get the same pixels (make_images.py: Pillow's bicubic), prompt ids and decoder ids, which begin with id 1
whatever the model. The text is what the public side finds greedily; `florenz score` then says, at every place of
it, which tokens are most likely: equal log-probabilities there mean equal logits up to a constant, and the public
side's token on top at every place means that both write the same caption.
"""
import argparse
import glob
import json
import os
import subprocess
import sys

import numpy
import torch
from PIL import Image
from safetensors import safe_open

import make_images  # florenz_reference only where it is used: it wants a newer `transformers` than the authors' code

START, EOS = 1, 1
PROMPT = "What does the image describe?"


class Unusable(Exception):
    pass


# ---- the model folder ----


def model_keys(config):
    """The model.* keys of a config file from a public config.json; and what kind of folder it is."""
    vision, text = config["vision_config"], config["text_config"]
    gemma = text.get("gemma_config")
    own = bool(text.get("use_encoder_tokenizer")) or gemma is not None
    dims = vision.get("dim_embed") or vision.get("embed_dim")
    positions = text["max_position_embeddings"] + 2
    keys = {
        "variant": "11.2b" if gemma else "0.4b", "vision_dims": dims, "vision_depths": vision["depths"],
        "enc_layers": text["encoder_layers"], "enc_width": text["d_model"],
        "enc_heads": text["encoder_attention_heads"], "enc_ffn": text["encoder_ffn_dim"], "enc_positions": positions,
        "enc_vocab": text["encoder_vocab_size"] if own else text["vocab_size"]}
    if gemma:
        keys |= {
            "family": "gemma", "dec_layers": gemma["num_hidden_layers"], "dec_width": gemma["hidden_size"],
            "dec_heads": gemma["num_attention_heads"], "dec_kv_heads": gemma["num_key_value_heads"],
            "dec_head_dim": gemma["head_dim"], "dec_ffn": gemma["intermediate_size"],
            "dec_vocab": gemma["vocab_size"], "query_scalar": gemma["query_pre_attn_scalar"],
            "attn_softcap": gemma["attn_logit_softcapping"] or 0,
            "final_softcap": gemma["final_logit_softcapping"] or 0, "sliding_window": gemma["sliding_window"],
            "rope_theta": gemma.get("rope_theta", 10000.0), "cross_every": gemma.get("encoder_attn_every_x_layers", 1)}
    else:
        heads = text["decoder_attention_heads"]
        keys |= {
            "family": "bart", "dec_layers": text["decoder_layers"], "dec_width": text["d_model"], "dec_heads": heads,
            "dec_kv_heads": heads, "dec_head_dim": text["d_model"] // heads, "dec_ffn": text["decoder_ffn_dim"],
            "dec_positions": positions, "dec_vocab": text["vocab_size"], "final_softcap": 30 if own else 0}
    return keys, "florenz" if own else "florence-2"


def tensors_of(folder):
    """{name: tensor in float32} of all safetensors files of a folder."""
    out = {}
    for path in sorted(glob.glob(os.path.join(folder, "*.safetensors"))):
        with safe_open(path, "pt") as file:
            for name in file.keys():
                out[name] = file.get_tensor(name).float()
    if not out:
        raise Unusable("no *.safetensors in " + folder)
    return out


# ---- public implementations: logits(pixels (P, P, 3), prompt ids, decoder ids) -> (T, V) float32 ----


class Authors:
    name = "authors"

    def __init__(self, folder, keys, checkout):
        sys.path.insert(0, os.path.join(checkout, "src"))
        if keys["family"] == "gemma":
            from caption_via_translation.models.gemma2 import FlorenceGemma2ForConditionalGeneration as Model
        else:
            from caption_via_translation.models.florence2 import Florence2ForConditionalGeneration as Model
        self.model = Model.from_pretrained(folder, torch_dtype=torch.float32, attn_implementation="eager").eval()

    def logits(self, pixels, prompt, decoder):
        return self.model(input_ids=prompt[None], attention_mask=torch.ones_like(prompt)[None],
                          pixel_values=pixels.permute(2, 0, 1)[None], decoder_input_ids=decoder[None],
                          use_cache=False).logits[0]


class Port:
    name = "port"

    def __init__(self, folder, keys, _):
        from transformers import Florence2ForConditionalGeneration
        self.model = Florence2ForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager").eval()
        self.image = self.model.config.image_token_id

    def logits(self, pixels, prompt, decoder):
        pixels = pixels.permute(2, 0, 1)[None]
        side = pixels.shape[-1]
        for stride in (4, 2, 2, 2):
            side = -(-side // stride)
        n = 1 + side * side
        ids = torch.cat([torch.full((n,), self.image), prompt])[None]
        return self.model(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels,
                          decoder_input_ids=decoder[None], use_cache=False).logits[0]


class Reference:
    name = "reference"

    def __init__(self, folder, keys, _):
        import florenz_reference
        self.model = florenz_reference.build(keys, torch.float32)
        mine = florenz_reference.shapes(self.model)
        weights = tensors_of(folder)
        shared = next((weights[n] for n in ("language_model.model.shared.weight", "language_model.lm_head.weight")
                       if n in weights), None)
        for side in ("encoder", "decoder"):
            name = f"language_model.model.{side}.embed_tokens.weight"
            if name not in weights and shared is not None:
                weights[name] = shared
        florenz_reference.load(self.model, {n: weights[n] for n in mine if n in weights})

    def logits(self, pixels, prompt, decoder):
        return self.model(pixels[None], prompt[None], decoder[None])[0]


def implementation(folder, kind, keys, authors):
    if kind == "florenz":
        return (Authors if authors else Reference)(folder, keys, authors)
    names = []
    for path in glob.glob(os.path.join(folder, "*.safetensors")):
        with safe_open(path, "pt") as file:
            names += file.keys()
    return (Port if any("multi_modal_projector" in name for name in names) else Reference)(folder, keys, authors)


def greedy(model, pixels, prompt, most):
    """Token ids up to eos, which is kept."""
    ids = []
    while len(ids) < most and (not ids or ids[-1] != EOS):
        ids.append(int(model.logits(pixels, prompt, torch.tensor([START] + ids))[-1].argmax()))
    return ids


# ---- our side ----


def yaml_of(keys, side, prompt_most, output_most, run):
    lines = ["run:", f"  dir: {json.dumps(run)}", "model:", f"  image_size: {side}", f"  max_prompt: {prompt_most}",
             f"  max_output: {output_most}", "  freeze: none"]
    lines += [f"  {key}: {value}" for key, value in keys.items()]
    return "\n".join(lines + ["train: {global_batch: 1, loss_batch: 1, micro_batch: 1}", ""])


def florenz(command, *arguments):
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise Unusable(f"florenz {' '.join(arguments[:2])}: exit code {done.returncode}: {done.stderr.strip()[-400:]}")
    return done.stdout


# ---- comparison ----


def pixels_of(path, side):
    small = make_images.resized(Image.open(path).convert("RGB"), side)
    values = (numpy.asarray(small).astype(numpy.float32) / numpy.float32(255) - make_images.MEAN) / make_images.STD
    return torch.from_numpy(values)


def prompt_ids(tokenizer, vocab):
    if not tokenizer:
        return [0] + [5 + 7 * i % (vocab - 5) for i in range(4)] + [2]
    from tokenizers import Tokenizer
    return Tokenizer.from_file(tokenizer).encode(PROMPT).ids


class Tally:
    """Differences over all places of all texts."""

    def __init__(self):
        self.places = self.same_top = self.captions = self.same_captions = self.numbers = 0
        self.worst = self.total = self.worst_sum = 0.0

    def add(self, line, logits, ids, bound):
        log_probs = torch.log_softmax(logits.double(), -1)
        equal = True
        for at, best in enumerate(line["top"]):
            theirs = log_probs[at]
            off = [abs(p - float(theirs[i])) for i, p in best]
            self.worst, self.total = max([self.worst, *off]), self.total + sum(off)
            self.numbers += len(off)
            # Two tokens that are nearly equally likely may change places.
            gap = float(theirs.max() - theirs[best[0][0]])
            self.same_top += best[0][0] == int(theirs.argmax())
            equal = equal and gap <= 2 * bound
            self.places += 1
        ours = sum(float(log_probs[at, i]) for at, i in enumerate(ids))
        self.worst_sum = max(self.worst_sum, abs(line["log_prob"] - ours) / len(ids))
        self.captions += 1
        self.same_captions += equal


def compare(args):
    with open(os.path.join(args.model, "config.json")) as file:
        keys, kind = model_keys(json.load(file))
    pictures = sorted(p for p in glob.glob(os.path.join(args.pictures, "*"))
                      if p.lower().endswith((".jpg", ".jpeg", ".png", ".webp")))[:args.most]
    if not pictures:
        raise Unusable("no pictures in " + args.pictures)
    os.makedirs(args.work, exist_ok=True)
    prompt = prompt_ids(args.tokenizer, keys["enc_vocab"])
    config_path, lines_path = os.path.join(args.work, "config.yaml"), os.path.join(args.work, "lines.jsonl")
    with open(config_path, "w") as file:
        file.write(yaml_of(keys, args.side, len(prompt), args.tokens, os.path.join(args.work, "run")))
    florenz(args.florenz, "ckpt", "import", config_path, "--from", args.model)

    model = implementation(args.model, kind, keys, args.authors)
    texts = []
    with torch.no_grad(), open(lines_path, "w") as file:
        for path in pictures:
            pixels = pixels_of(path, args.side)
            ids = greedy(model, pixels, torch.tensor(prompt), args.tokens)
            texts.append((ids, model.logits(pixels, torch.tensor(prompt), torch.tensor([START] + ids[:-1]))))
            file.write(json.dumps({"image": path, "prompt_ids": prompt, "output_ids": ids}) + "\n")

    tally = Tally()
    scored = florenz(args.florenz, "score", config_path, lines_path, "--top", str(min(args.top, keys["dec_vocab"])))
    lines = [json.loads(line) for line in scored.splitlines()]
    if len(lines) != len(texts):
        raise Unusable(f"florenz score gave {len(lines)} lines for {len(texts)} pictures")
    for line, (ids, logits) in zip(lines, texts):
        if line["ids"] != ids:
            raise Unusable("florenz score has other ids than it was given")
        tally.add(line, logits, ids, args.bound)
    return model.name, tally


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--florenz", required=True, type=str.split, help="program, with a launcher before it if wanted")
    parser.add_argument("--model", required=True)
    parser.add_argument("--pictures", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--authors", default="")
    parser.add_argument("--tokenizer", default="")
    parser.add_argument("--side", type=int, default=768)
    parser.add_argument("--most", type=int, default=20, help="pictures")
    parser.add_argument("--tokens", type=int, default=40, help="of a caption")
    parser.add_argument("--top", type=int, default=50, help="tokens compared at every place")
    parser.add_argument("--bound", type=float, default=2e-3, help="largest difference of a logit")
    args = parser.parse_args()
    name = os.path.basename(os.path.normpath(args.model))
    try:
        by, t = compare(args)
    except Exception as problem:  # whatever it is: the table goes on
        print(f"{name:<32} not compared: {type(problem).__name__}: {problem}")
        sys.exit(2)
    good = t.worst <= args.bound and t.worst_sum <= args.bound and t.same_captions == t.captions
    print(f"{name:<32} {by:<10} {t.captions:>8} {t.places:>8} {t.worst:>12.2e} {t.total / t.numbers:>12.2e} "
          f"{t.worst_sum:>12.2e} {t.same_top:>5}/{t.places:<5} {t.same_captions:>3}/{t.captions:<3} "
          f"{'ok' if good else 'BEYOND'}")
    sys.exit(0 if good else 10)


if __name__ == "__main__":
    main()
