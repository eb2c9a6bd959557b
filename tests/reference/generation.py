"""generate() of `transformers` over any function from decoder ids to logits.

    texts = generate(logits, enc, vocab, settings, prefix)    one sample; [(ids, log_prob, score)], best first

logits(decoder_ids (B, T), enc (B, m, width)) -> (B, T, vocab). settings: a dict of beams, length_penalty,
early_stopping (False, True or "never"), no_repeat_ngram, min_tokens, max_tokens, and possibly forced_first and
forced_last, ids that stand at a text's first place (without a prefix) and at its last possible one. prefix: decoder ids behind the
start id. ids are what was generated behind the prefix, eos included; score is log_prob / len(ids)^length_penalty.
"""
import torch
from transformers import GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput
from transformers.utils import logging

START, EOS, PAD = 1, 1, 0
logging.set_verbosity_error()  # of settings that one beam does not read


class _Config(PretrainedConfig):
    model_type = "florenz-reference"


class _Wrapped(PreTrainedModel, GenerationMixin):
    config_class = _Config

    def __init__(self, logits, vocab):
        super().__init__(_Config(is_encoder_decoder=True, vocab_size=vocab, pad_token_id=PAD,
                                 eos_token_id=EOS, decoder_start_token_id=START))
        self.logits = logits
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    def get_encoder(self, *_, **__):
        return self

    def prepare_inputs_for_generation(self, ids, encoder_outputs=None, **_):
        return {"decoder_input_ids": ids, "encoder_outputs": encoder_outputs}

    def forward(self, decoder_input_ids=None, encoder_outputs=None, **_):
        return Seq2SeqLMOutput(logits=self.logits(decoder_input_ids,
                                                  encoder_outputs.last_hidden_state))


def _log_prob(logits, enc, prefix, ids, settings):
    """Of ids behind [START, prefix...]; what is forced costs nothing."""
    text = torch.tensor([[START, *prefix, *ids]])
    table = torch.log_softmax(logits(text[:, :-1], enc)[0].float(), -1)
    rows = torch.arange(len(prefix), text.shape[1] - 1)
    terms = table[rows, text[0, 1:][rows]].double()
    if "forced_first" in settings and not prefix:
        terms[0] = 0
    if "forced_last" in settings and len(ids) == settings["max_tokens"]:
        terms[-1] = 0
    return float(terms.sum())


@torch.no_grad()
def generate(logits, enc, vocab, settings, prefix=(), n_texts=1):
    beams = settings["beams"]
    config = GenerationConfig(
        num_beams=beams, do_sample=False, use_cache=False, pad_token_id=PAD, eos_token_id=EOS,
        decoder_start_token_id=START, length_penalty=settings["length_penalty"],
        early_stopping=settings["early_stopping"],
        no_repeat_ngram_size=settings["no_repeat_ngram"], min_new_tokens=settings["min_tokens"],
        max_new_tokens=settings["max_tokens"], num_return_sequences=n_texts, max_length=None,
        forced_bos_token_id=settings.get("forced_first"), forced_eos_token_id=settings.get("forced_last"),
        return_dict_in_generate=True, output_scores=True)
    out = _Wrapped(logits, vocab).generate(
        encoder_outputs=BaseModelOutput(last_hidden_state=enc), generation_config=config,
        decoder_input_ids=torch.tensor([[START, *prefix]]))
    texts = []
    for i, sequence in enumerate(out.sequences.tolist()):
        ids = sequence[1 + len(prefix):]
        ids = ids[:ids.index(EOS) + 1] if EOS in ids else ids[:settings["max_tokens"]]
        log_prob = _log_prob(logits, enc, prefix, ids, settings)
        score = log_prob / len(ids)**settings["length_penalty"]
        if beams > 1:  # the library's own, so that its idea of length is what is compared
            assert abs(float(out.sequences_scores[i]) - score) < 1e-4 * max(1, abs(score))
            score = float(out.sequences_scores[i])
        texts.append((ids, log_prob, score))
    return texts
