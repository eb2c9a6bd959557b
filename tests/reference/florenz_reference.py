"""A Florenz model of either family, put together from the layers of `transformers`, to compare against.

    model = build(config, torch.float64)     config: a dict of the model.* keys, e.g. {"family": "gemma", ...}
    load(model, weights)                     weights: {name in Florenz's layout (F): tensor}
    result = run(model, samples)             streams after every block, logits, loss, gradients

What comes from the library: the DaViT backbone and the projector of its Florence-2, the whole BART encoder
and decoder, the whole Gemma-2 text model with its masks. What is written here because no library has it: the
gated cross-attention inside a Gemma-2 layer, the soft-cap on the head, the names.

Everything is in evaluation mode (no dropout, no drop-path), eager attention. Samples run one by one, so nothing
is padded and nothing is masked but causality and the sliding window.

The library rounds to float32 in some places (RMSNorm, Gemma's softmax, the rotary angles); within run() and
forward() of a float64 model these places are lifted to float64. Gemma's embedding scale stays the float32 value
of sqrt(width) on purpose: that is what Florenz multiplies by.
"""
import contextlib
import re

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import BartConfig, Florence2Config, Gemma2Config
from transformers.models.bart.modeling_bart import BartDecoder, BartEncoder
from transformers.models.florence2.modeling_florence2 import (Florence2MultiModalProjector,
                                                               Florence2VisionBackbone)
from transformers.models.gemma2.modeling_gemma2 import (Gemma2DecoderLayer, Gemma2Model,
                                                         Gemma2RMSNorm)

ENC_PAD, DEC_PAD = 1, 0  # rows of the embeddings that lookups give no gradient
START = 1  # first decoder id (Gemma's eos)


class InDouble(TorchFunctionMode):
    """Turns the library's own conversions to float32 into conversions to float64."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.float:
            return args[0].double()
        if kwargs.get("dtype") is torch.float32 and func in (torch.Tensor.to, torch.softmax,
                                                             nn.functional.softmax):
            kwargs["dtype"] = torch.float64
        return func(*args, **kwargs)


class CrossAttention(nn.Module):
    """Attention from decoder to encoder as in a Florenz layer: grouped heads, soft-capped scores, neither
    rotary positions nor a mask; keys and values are made from the encoder's width."""

    def __init__(self, width, enc_width, heads, kv_heads, head_dim, query_scalar, softcap):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim
        self.scale, self.softcap = query_scalar**-0.5, softcap
        self.q_proj = nn.Linear(width, heads * head_dim, bias=False)
        self.k_proj = nn.Linear(enc_width, kv_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(enc_width, kv_heads * head_dim, bias=False)
        self.o_proj = nn.Linear(heads * head_dim, width, bias=False)

    def forward(self, x, enc):
        batch, n, m = x.shape[0], x.shape[1], enc.shape[1]
        group = self.heads // self.kv_heads
        q = self.q_proj(x).view(batch, n, self.kv_heads, group, self.head_dim)
        k = self.k_proj(enc).view(batch, m, self.kv_heads, self.head_dim)
        v = self.v_proj(enc).view(batch, m, self.kv_heads, self.head_dim)
        scores = torch.einsum("bnkgh,bmkh->bkgnm", q, k) * self.scale
        if self.softcap:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        weights = torch.exp(scores - scores.amax(-1, keepdim=True))
        weights = weights / weights.sum(-1, keepdim=True)
        out = torch.einsum("bkgnm,bmkh->bnkgh", weights, v)
        return self.o_proj(out.reshape(batch, n, self.heads * self.head_dim))


class GatedGemmaLayer(Gemma2DecoderLayer):
    """Gemma-2's layer with x + tanh(gate) * norm(cross(x, enc)) between its two halves."""

    def __init__(self, config, layer, enc_width):
        super().__init__(config, layer)
        self.encoder_attn = CrossAttention(
            config.hidden_size, enc_width, config.num_attention_heads, config.num_key_value_heads,
            config.head_dim, config.query_pre_attn_scalar, config.attn_logit_softcapping)
        self.encoder_attn_gate = nn.Parameter(torch.zeros(1))
        self.post_encoder_attention_layernorm = Gemma2RMSNorm(config.hidden_size)

    def forward(self, hidden_states, encoder_hidden_states=None, **kwargs):
        x = hidden_states
        attended, _ = self.self_attn(hidden_states=self.input_layernorm(x), **kwargs)
        x = x + self.post_attention_layernorm(attended)
        crossed = self.post_encoder_attention_layernorm(
            self.encoder_attn(x, encoder_hidden_states))
        x = x + torch.tanh(self.encoder_attn_gate) * crossed
        return x + self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x)))


def _bart_config(c, side):
    layers, width = c[side + "_layers"], c[side + "_width"]
    return BartConfig(
        vocab_size=c[side + "_vocab"], max_position_embeddings=c[side + "_positions"] - 2,
        d_model=width, encoder_layers=layers, decoder_layers=layers,
        encoder_attention_heads=c[side + "_heads"], decoder_attention_heads=c[side + "_heads"],
        encoder_ffn_dim=c[side + "_ffn"], decoder_ffn_dim=c[side + "_ffn"],
        dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, activation_function="gelu",
        scale_embedding=False, pad_token_id=ENC_PAD if side == "enc" else DEC_PAD,
        use_cache=False, attn_implementation="eager")


def _florence_config(c):
    heads = [width // 32 for width in c["vision_dims"]]
    vision = {"embed_dim": c["vision_dims"], "depths": c["vision_depths"], "num_heads": heads,
              "num_groups": heads, "drop_path_rate": 0.0, "projection_dim": c["enc_width"]}
    config = Florence2Config(vision_config=vision, text_config=_bart_config(c, "enc").to_dict(),
                             attn_implementation="eager")
    config.vision_config._attn_implementation = "eager"
    return config


def _gemma_config(c):
    return Gemma2Config(
        vocab_size=c["dec_vocab"], hidden_size=c["dec_width"], intermediate_size=c["dec_ffn"],
        num_hidden_layers=c["dec_layers"], num_attention_heads=c["dec_heads"],
        num_key_value_heads=c["dec_kv_heads"], head_dim=c["dec_head_dim"],
        query_pre_attn_scalar=c["query_scalar"], sliding_window=c["sliding_window"],
        rope_parameters={"rope_type": "default", "rope_theta": float(c["rope_theta"])},
        attn_logit_softcapping=float(c["attn_softcap"]) or None, pad_token_id=DEC_PAD,
        use_cache=False, attn_implementation="eager")


class Florenz(nn.Module):
    def __init__(self, config):
        super().__init__()
        c = self.config = dict(config)
        florence = _florence_config(c)
        self.vision = Florence2VisionBackbone(florence.vision_config)
        self.projector = Florence2MultiModalProjector(florence)
        self.encoder = BartEncoder(_bart_config(c, "enc"))
        if c["family"] == "bart":
            self.decoder = BartDecoder(_bart_config(c, "dec"))
        else:
            gemma = _gemma_config(c)
            self.decoder = Gemma2Model(gemma)
            for layer in range(0, c["dec_layers"], c["cross_every"]):
                self.decoder.layers[layer] = GatedGemmaLayer(gemma, layer, c["enc_width"])
            half = torch.arange(0, c["dec_head_dim"], 2, dtype=torch.float64)
            self.inverse_frequencies = c["rope_theta"] ** -(half / c["dec_head_dim"])

    def precision(self):
        double = next(self.parameters()).dtype is torch.float64
        return InDouble() if double else contextlib.nullcontext()

    def encode(self, pixels, prompt_ids):
        """pixels (B, P, P, 3), prompt_ids (B, n) of equal length -> encoder output (B, image tokens + n, width)."""
        with self.precision():
            features = self.vision(pixels.permute(0, 3, 1, 2)).last_hidden_state
            tokens = torch.cat([self.projector(features), self.encoder.embed_tokens(prompt_ids)], 1)
            return self.encoder(inputs_embeds=tokens).last_hidden_state

    def logits(self, decoder_ids, enc):
        """decoder_ids (B, T), from START on; enc (B, m, width) -> soft-capped logits (B, T, dec_vocab)."""
        with self.precision():
            hidden = self.decoder(input_ids=decoder_ids, encoder_hidden_states=enc,
                                  use_cache=False).last_hidden_state
            logits = hidden @ self.decoder.embed_tokens.weight.T
            cap = self.config["final_softcap"]
            return cap * torch.tanh(logits / cap) if cap else logits

    def forward(self, pixels, prompt_ids, decoder_ids):
        return self.logits(decoder_ids, self.encode(pixels, prompt_ids))


# ---- names ----

_VISION = [  # of a sub-block: the library's name, Florenz's
    (r"conv(\d)\.", r"conv\1.fn.dw."), (r"norm1\.", "{attn}.norm."), (r"norm2\.", "ffn.norm."),
    (r"(window_attn|channel_attn)\.", r"\1.fn."), (r"ffn\.(fc\d)\.", r"ffn.fn.net.\1."),
]


def florenz_name(name):
    """Name of a parameter of Florenz (the class) in layout F."""
    part, rest = name.split(".", 1)
    if part == "projector":
        return {"image_projection.weight": "image_projection"}.get(
            rest, rest.replace("image_position_embed", "image_pos_embed"))
    if part in ("encoder", "decoder"):
        return "language_model.model." + name
    if rest.startswith("convs."):
        return "vision_tower." + rest.replace(".conv.", ".proj.")
    at, block, inner = re.fullmatch(r"(blocks\.\d+\.\d+)\.(\w+_block)\.(.*)", rest).groups()
    attention = "window_attn" if block == "spatial_block" else "channel_attn"
    for pattern, to in _VISION:
        inner, found = re.subn("^" + pattern, to.format(attn=attention), inner)
        if found:
            return f"vision_tower.{at}.{block}.{inner}"
    raise KeyError(name)


def parameters(model):
    """{F name: parameter} in the order of the model. image_projection has F's axes transposed: see of_florenz."""
    return {florenz_name(name): p for name, p in model.named_parameters()}


def of_florenz(name, tensor):
    """From layout F to the library's axes, and back: the projection is applied as u @ W in F."""
    return tensor.T.contiguous() if name == "image_projection" else tensor


def shapes(model):
    """{F name: shape in layout F}"""
    return {n: tuple(of_florenz(n, p.detach()).shape) for n, p in parameters(model).items()}


def build(config, dtype=torch.float64):
    model = Florenz(config).to(dtype).eval()
    if dtype is torch.float64 and config["family"] == "gemma":  # .to() has widened rounded ones
        model.decoder.rotary_emb.inv_freq = model.inverse_frequencies
    return model


def load(model, weights):
    """Every parameter must be there, nothing else may be."""
    mine = parameters(model)
    if set(mine) != set(weights):
        raise KeyError(f"names differ: {sorted(set(mine) ^ set(weights))[:8]}")
    with torch.no_grad():
        for name, p in mine.items():
            p.copy_(of_florenz(name, weights[name].to(p.dtype)))


# ---- a run ----

def blocks(model):
    """(block name, module whose output is the stream that the block leaves)"""
    for s, (conv, stage) in enumerate(zip(model.vision.convs, model.vision.blocks)):
        yield f"vision.patch[{s}]", conv
        for d, block in enumerate(stage):
            yield f"vision.spatial[{s}.{d}]", block.spatial_block
            yield f"vision.channel[{s}.{d}]", block.channel_block
    yield "projector", model.projector
    for side, stack in (("encoder", model.encoder), ("decoder", model.decoder)):
        yield f"{side}.embed", getattr(stack, "layernorm_embedding", stack.embed_tokens)
        for l, layer in enumerate(stack.layers):
            yield f"{side}.layer[{l}]", layer


def _rows(name, output):
    output = (output[0] if isinstance(output, tuple) else output).detach()
    if name.startswith("vision."):
        output = output.permute(0, 2, 3, 1)
    return output.reshape(-1, output.shape[-1])


def decoder_ids(labels):
    return torch.cat([torch.tensor([START]), labels[:-1]])


def run(model, samples, grads=True, streams=True):
    """samples: list of (pixels (P, P, 3), prompt_ids (n), labels (m)). Gives a dict: streams {block: (rows, width),
    sample after sample}, logits (labels, V), loss (mean over all labels), grads {F name: tensor in layout F}."""
    dtype = next(model.parameters()).dtype
    caught = {}
    hooks = [module.register_forward_hook(
        lambda _, __, out, name=name: caught.setdefault(name, []).append(_rows(name, out)))
        for name, module in blocks(model) if streams]
    model.zero_grad(set_to_none=True)
    n_labels = sum(len(labels) for _, _, labels in samples)
    logits, loss = [], 0.0
    for pixels, prompt, labels in samples:
        with torch.set_grad_enabled(grads):
            out = model(pixels.to(dtype)[None], prompt[None], decoder_ids(labels)[None])[0]
            part = nn.functional.cross_entropy(out, labels, reduction="sum") / n_labels
        if grads:
            part.backward()
        logits.append(out.detach())
        loss += part.detach()
    for hook in hooks:
        hook.remove()
    result = {"streams": {k: torch.cat(v) for k, v in caught.items()}, "logits": torch.cat(logits),
              "loss": loss}
    if grads:
        result["grads"] = {
            name: of_florenz(name, torch.zeros_like(p) if p.grad is None else p.grad.clone())
            for name, p in parameters(model).items()}
    return result


def with_adamw(model, samples, adamw):
    """Changes of all weights {F name: tensor} after adamw["steps"] steps on the same samples: norm of all gradients
    clipped, warm-up and cosine, decay of all but biases and LayerNorms (decay mask "recipe")."""
    import math
    mine = parameters(model)
    undecayed = {f"{n}.{leaf}" if n else leaf for n, m in model.named_modules()
                 for leaf in ("weight", "bias")
                 if leaf == "bias" or isinstance(m, nn.LayerNorm)}
    groups = [{"params": [p for n, p in model.named_parameters() if (n in undecayed) == skip],
               "weight_decay": 0.0 if skip else adamw["weight_decay"]} for skip in (False, True)]
    optimizer = torch.optim.AdamW(groups, betas=(adamw["beta1"], adamw["beta2"]), eps=adamw["eps"])
    before = {n: p.detach().clone() for n, p in mine.items()}
    norms = []
    for step in range(adamw["steps"]):
        rate = adamw["lr"] * (step + 1) / adamw["warmup"]
        if step >= adamw["warmup"]:
            x = (step - adamw["warmup"]) / (adamw["steps"] - adamw["warmup"])
            rate = adamw["lr"] * 0.5 * (1 + math.cos(math.pi * x))
        for group in optimizer.param_groups:
            group["lr"] = rate
        run(model, samples, streams=False)
        norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), adamw["clip"])))
        optimizer.step()
    change = {n: of_florenz(n, p.detach() - before[n]) for n, p in mine.items()}
    with torch.no_grad():
        for name, p in mine.items():
            p.copy_(before[name])
    return change, norms
