#!/usr/bin/env python3
"""Holds what florenz_reference.py writes itself against whole models of the library, in float64:

    the cross-attention                      T5Gemma's
    a Gemma decoder whose gates are shut     Gemma-2 with its own head and caps
    a BART model with one vocabulary         Florence-2 as it stands, image tokens in its own way
    gradients of whole models                slopes of the loss; with float32 left anywhere inside they are noise

Outputs and gradients must agree to 1e-12 (norms), slopes to 1e-7. Prints a line each; exit code 1 where one does not.
"""
import sys

import torch
from transformers import Florence2Config, Florence2ForConditionalGeneration, Gemma2ForCausalLM
from transformers.models.t5gemma.configuration_t5gemma import T5GemmaModuleConfig
from transformers.models.t5gemma.modeling_t5gemma import T5GemmaCrossAttention

import florenz_reference
import make_parity

failed = False


def agree(what, mine, library, limit=1e-12):
    """Pairs of tensors of equal names."""
    global failed
    assert mine and set(mine) == set(library), (what, set(mine) ^ set(library))
    floor = 1e-3 * max(t.norm() for t in library.values())
    worst, name = max(((mine[n] - t).norm().item() / max(t.norm().item(), floor.item()), n)
                      for n, t in library.items())
    ok = worst <= limit
    failed |= not ok
    print(f"{what}: {len(mine)} tensors, largest difference {worst:.1e} ({name})" + ("" if ok else "  FAILED"))


def random_inputs(seed, *shapes):
    return [make_parity.normal(f"{seed}/{i}", shape, 1.0) for i, shape in enumerate(shapes)]


def loaded(case, **changes):
    """The case's model with its weights, some keys of the config and some weights changed."""
    config = make_parity.CASES[case]["config"] | changes
    model = florenz_reference.build(config)
    shapes = florenz_reference.shapes(model)
    florenz_reference.load(model, {
        n: make_parity.weight(case, config["family"], n, s) for n, s in shapes.items()})
    return config, model


def cross_attention():
    config = T5GemmaModuleConfig(
        hidden_size=40, num_attention_heads=8, num_key_value_heads=2, head_dim=6, num_hidden_layers=1,
        query_pre_attn_scalar=9, attn_logit_softcapping=7.0, cross_attention_hidden_size=28,
        is_decoder=True, attn_implementation="eager")
    theirs = T5GemmaCrossAttention(config, 0).double()
    mine = florenz_reference.CrossAttention(40, 28, 8, 2, 6, 9, 7.0).double()
    with torch.no_grad():
        for name, p in mine.named_parameters():
            p.copy_(make_parity.normal("cross/" + name, p.shape, 0.4))
            theirs.get_parameter(name).copy_(p)
    x, enc, pull = random_inputs("cross", (2, 5, 40), (2, 9, 28), (2, 5, 40))
    found = []
    with florenz_reference.InDouble():
        for module, call in ((mine, lambda a, b: mine(a, b)), (theirs, lambda a, b: theirs(a, None, b)[0])):
            a, b = x.clone().requires_grad_(), enc.clone().requires_grad_()
            out = call(a, b)
            (out * pull).sum().backward()
            found.append({"out": out.detach(), "x.grad": a.grad, "enc.grad": b.grad}
                         | {n + ".grad": p.grad for n, p in module.named_parameters()})
    agree("cross-attention, T5Gemma", *found)


def shut_gates():
    config, model = loaded("gemma-a")
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("_gate"):
                p.zero_()
    gemma_config = florenz_reference._gemma_config(config)
    gemma_config.final_logit_softcapping = float(config["final_softcap"])
    gemma = Gemma2ForCausalLM(gemma_config).double().eval()
    gemma.model.rotary_emb.inv_freq = model.inverse_frequencies
    own = dict(model.decoder.named_parameters())
    with torch.no_grad():
        for name, p in gemma.model.named_parameters():
            p.copy_(own[name])
    ids = torch.arange(1, 15)[None] * 7 % config["dec_vocab"]
    enc, pull = random_inputs("shut", (1, 6, config["enc_width"]), (1, 14, config["dec_vocab"]))
    mine = model.logits(ids, enc)
    (mine * pull).sum().backward()
    with florenz_reference.InDouble():
        theirs = gemma(input_ids=ids).logits
        (theirs * pull).sum().backward()
    agree("gates shut, Gemma-2", {"logits": mine.detach()} | {n: own[n].grad for n, _ in gemma.model.named_parameters()},
          {"logits": theirs.detach()} | {n: p.grad for n, p in gemma.model.named_parameters()})


def florence():
    config, model = loaded("bart-a", enc_vocab=127, dec_positions=20, dec_ffn=44, final_softcap=0)
    text = florenz_reference._bart_config(config, "enc").to_dict()
    whole = Florence2ForConditionalGeneration(Florence2Config(
        vision_config=florenz_reference._florence_config(config).vision_config.to_dict(), text_config=text,
        image_token_id=126, attn_implementation="eager")).double().eval()
    with torch.no_grad():
        model.decoder.embed_tokens.weight.copy_(model.encoder.embed_tokens.weight)
    parts = {"vision.": "model.vision_tower.", "projector.": "model.multi_modal_projector.",
             "encoder.": "model.language_model.encoder.", "decoder.": "model.language_model.decoder."}
    pairs, theirs = [], dict(whole.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, p in model.named_parameters():
            part = next(part for part in parts if name.startswith(part))
            other = theirs[parts[part] + name.removeprefix(part)]
            other.copy_(p)
            pairs.append((name, p, other))
    n_image = 1 + 2 * 2
    prompt = torch.tensor([[0, 9, 33, 5, 21, 2]])
    ids = torch.tensor([[1, 2, 7, 100, 64, 13, 8]])
    pixels, pull = random_inputs("florence", (1, 44, 44, 3), (1, 7, 127))
    mine = model(pixels, prompt, ids)
    (mine * pull).sum().backward()
    slots = torch.full((1, n_image), 126)
    out = whole(input_ids=torch.cat([slots, prompt], 1), pixel_values=pixels.permute(0, 3, 1, 2),
                decoder_input_ids=ids, use_cache=False).logits
    (out * pull).sum().backward()
    # One matrix there, two here: only the sum of their gradients can be compared.
    pairs = [(n, p.grad, q.grad) for n, p, q in pairs if "embed_tokens" not in n]
    shared = sum(side.embed_tokens.weight.grad for side in (model.encoder, model.decoder))
    rows = [r for r in range(126) if r != 1]  # 1: padding there, but the decoder's start id here
    pairs.append(("shared", shared[rows], whole.get_input_embeddings().weight.grad[rows]))
    agree("one vocabulary, Florence-2", {"logits": mine.detach()} | {n: a for n, a, _ in pairs},
          {"logits": out.detach()} | {n: b for n, _, b in pairs})


def slopes(case):
    """Along one random direction through all weights: the gradient's against the loss's, by differences."""
    config, model = loaded(case)
    samples = make_parity.samples_of(make_parity.inputs(case, config, make_parity.CASES[case]["samples"]))
    grads = florenz_reference.run(model, samples, streams=False)["grads"]
    way = {n: make_parity.normal("slope/" + n, g.shape, 1.0) for n, g in grads.items()}
    for side, pad in (("encoder", florenz_reference.ENC_PAD), ("decoder", florenz_reference.DEC_PAD)):
        way[f"language_model.model.{side}.embed_tokens.weight"][pad] = 0  # no gradient by decree
    expected = sum((grads[n] * way[n]).sum() for n in grads)
    start = {n: florenz_reference.of_florenz(n, p.detach()).clone()
             for n, p in florenz_reference.parameters(model).items()}
    loss, step = {}, 1e-5
    for k in (-2, -1, 1, 2):
        florenz_reference.load(model, {n: start[n] + k * step * way[n] for n in start})
        loss[k] = florenz_reference.run(model, samples, grads=False, streams=False)["loss"]
    slope = (8 * (loss[1] - loss[-1]) - (loss[2] - loss[-2])) / (12 * step)
    agree(f"slope of {case}", {"loss": expected}, {"loss": slope}, 1e-7)


if __name__ == "__main__":
    torch.set_num_threads(1)
    cross_attention()
    shut_gates()
    florence()
    slopes("gemma-b")
    slopes("bart-b")
    sys.exit(failed)
