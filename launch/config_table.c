/* The table of all keys. A key is here only if something reads it. */
#include <stddef.h>

#include "launch/config.h"

#define AT(field) offsetof(fz_config, field)
#define MOST 9e15 /* whole numbers up to here are exact in the double that ranges are kept in */

#define ROW(key, type, at, def, least, most, choices, change, help)                                \
    {                                                                                              \
        key, type, AT(at), def, least, most, choices, FZ_CHANGE_##change, help                     \
    }
#define INT(key, at, def, least, most, change, help)                                               \
    ROW(key, FZ_SET_INT, at, def, least, most, NULL, change, help)
#define FLOAT(key, at, def, least, most, change, help)                                             \
    ROW(key, FZ_SET_FLOAT, at, def, least, most, NULL, change, help)
#define TEXT(key, at, def, change, help) ROW(key, FZ_SET_TEXT, at, def, 0, 0, NULL, change, help)
#define LIST(key, at, def, change, help) ROW(key, FZ_SET_LIST, at, def, 0, 0, NULL, change, help)
#define CHOICE(key, at, def, choices, change, help)                                                \
    ROW(key, FZ_SET_CHOICE, at, def, 0, 0, choices, change, help)
/* Keys of model.<name> whose default is the variant's number. */
#define SIZE(name, least, most, help)                                                              \
    ROW("model." #name, FZ_SET_AUTO, model.name, "auto", least, most, NULL, NEVER, help)
#define RATE(name, most, change, help)                                                             \
    ROW("model." #name, FZ_SET_FLOAT_AUTO, model.name, "auto", 0, most, NULL, change, help)

static const fz_setting rows[] = {
    TEXT("run.dir", run.dir, "runs/florenz", FREE,
         "where config, log, metrics, checkpoints go; from the current folder"),
    INT("run.seed", run.seed, "44595", 0, MOST, REFUSED, "of weights, dropout and data order"),
    CHOICE("run.device", run.device, "auto", "auto|cpu", FREE, "what computes"),
    ROW("run.max_time", FZ_SET_TIME, run.max_time, "null", 0, 1e9, NULL, FREE,
        "save and leave with 75 after this time (90, 10m, 1:30:00, 2-00:00)"),
    INT("run.log_every", run.log_every, "10", 1, MOST, FREE, "steps between lines in a log file"),

    TEXT("model.variant", model.variant, "tiny-gemma", NEVER,
         "0.4b, 1.0b, 3.5b, 11.2b, tiny-bart, tiny-gemma; the keys below change its sizes"),
    ROW("model.image_size", FZ_SET_AUTO, model.image_size, "auto", 1, 4096, NULL, REFUSED,
        "side of the square the encoder sees, pixels"),
    LIST("model.vision_dims", model.vision_dims, "auto", NEVER, "channels of the 4 stages"),
    LIST("model.vision_depths", model.vision_depths, "auto", NEVER, "blocks of the 4 stages"),
    RATE(init_std, 1, FREE,
         "of a new run's normal initial values; small widths like more than 0.02"),
    RATE(drop_path, 1, ANNOUNCED, "rate of the last vision sub-block"),
    SIZE(enc_layers, 1, 1024, "encoder layers"),
    SIZE(enc_width, 1, 1 << 20, "encoder width"),
    SIZE(enc_heads, 1, 1 << 16, "encoder heads"),
    SIZE(enc_ffn, 1, 1 << 24, "encoder feed-forward width"),
    SIZE(enc_positions, 1, 1 << 24, "rows of the encoder's position table"),
    SIZE(enc_vocab, 1, 1 << 24, "ids of the prompt's vocabulary"),
    CHOICE("model.family", model.family, "auto", "auto|bart|gemma", NEVER, "kind of decoder"),
    SIZE(dec_layers, 1, 1024, "decoder layers"),
    SIZE(dec_width, 1, 1 << 20, "decoder width"),
    SIZE(dec_heads, 1, 1 << 16, "decoder query heads"),
    SIZE(dec_kv_heads, 1, 1 << 16, "decoder key/value heads"),
    SIZE(dec_head_dim, 1, 1 << 16, "width of a decoder head"),
    SIZE(dec_ffn, 1, 1 << 24, "decoder feed-forward width"),
    SIZE(dec_positions, 0, 1 << 24, "rows of the decoder's position table (bart)"),
    SIZE(dec_vocab, 1, 1 << 24, "ids of the output's vocabulary"),
    RATE(query_scalar, 1e6, NEVER, "attention scale is this^-0.5 (gemma)"),
    RATE(attn_softcap, 1e6, NEVER, "soft cap of attention scores (gemma); 0: none"),
    RATE(final_softcap, 1e6, NEVER, "soft cap of logits; 0: none"),
    SIZE(sliding_window, 0, 1 << 24, "window of even layers (gemma)"),
    RATE(rope_theta, 1e12, NEVER, "base of the rotary positions (gemma)"),
    SIZE(cross_every, 1, 1024, "layers between cross-attentions (gemma)"),
    RATE(dropout, 1, ANNOUNCED, "after embeddings and sub-layers (bart parts)"),
    RATE(attn_dropout, 1, ANNOUNCED, "of attention weights (bart parts)"),
    RATE(act_dropout, 1, ANNOUNCED, "inside feed-forward layers (bart parts)"),
    ROW("model.max_prompt", FZ_SET_AUTO, model.max_prompt, "auto", 1, 1 << 20, NULL, REFUSED,
        "longest prompt, tokens"),
    ROW("model.max_output", FZ_SET_AUTO, model.max_output, "auto", 1, 1 << 20, NULL, REFUSED,
        "longest output, tokens"),
    LIST("model.freeze", model.freeze, "auto", ANNOUNCED,
         "auto (the variant's), none, recipe, and patterns of tensor names"),
    ROW("model.frozen_dropout", FZ_SET_BOOL, model.frozen_dropout, "on", 0, 0, NULL, ANNOUNCED,
        "dropout stays active in frozen parts"),

    LIST("data.train", data.train, "null", FREE,
         "training shards: globs of tar files, from the folder of the config"),
    LIST("data.eval", data.eval, "null", FREE, "held-out shards likewise"),
    CHOICE("data.on_bad_sample", data.on_bad_sample, "stop", "stop|skip", FREE,
           "skip: replace it by another draw, on all ranks"),
    CHOICE("data.balance", data.balance, "task-lang", "task-lang|none", REFUSED,
           "classes that a global batch is balanced over"),
    INT("data.window", data.window, "8", 1, 1 << 20, REFUSED, "shards that images are mixed in"),
    TEXT("data.enc_tokenizer", data.enc_tokenizer, "null", FREE,
         "for prompts given as text: SentencePiece or BPE, file or folder, or word list"),
    TEXT("data.dec_tokenizer", data.dec_tokenizer, "null", FREE, "for outputs likewise"),
    INT("data.threads", data.threads, "1", 1, 256, FREE, "decoding threads of a rank"),
    INT("data.ahead", data.ahead, "2", 1, 64, FREE, "steps that are decoded ahead"),

    INT("train.steps", train.steps, "1000", 1, MOST, ANNOUNCED, "length of the schedule"),
    INT("train.global_batch", train.global_batch, "32", 1, 1 << 24, REFUSED, "samples of a step"),
    INT("train.loss_batch", train.loss_batch, "32", 1, 1 << 24, REFUSED,
        "samples whose tokens are averaged together; divides global_batch"),
    INT("train.micro_batch", train.micro_batch, "8", 1, 1 << 20, ANNOUNCED,
        "samples that are run at once; divides loss_batch"),
    FLOAT("train.clip", train.clip, "1.0", 0, 1e9, ANNOUNCED, "largest gradient norm; 0: any"),
    INT("train.eval_every", train.eval_every, "0", 0, MOST, FREE,
        "steps between held-out losses; 0: none"),
    INT("train.eval_samples", train.eval_samples, "512", 0, MOST, FREE,
        "held-out samples of each; 0: all"),

    FLOAT("optimizer.lr", optimizer.lr, "1e-4", 0, 1e3, ANNOUNCED, "highest learning rate"),
    INT("optimizer.warmup", optimizer.warmup, "100", 0, MOST, ANNOUNCED, "steps up to it"),
    CHOICE("optimizer.schedule", optimizer.schedule, "cosine", "cosine|linear|constant", ANNOUNCED,
           "after it"),
    FLOAT("optimizer.weight_decay", optimizer.weight_decay, "0.01", 0, 1e3, ANNOUNCED,
          "decoupled, times the learning rate"),
    CHOICE("optimizer.decay_mask", optimizer.decay_mask, "recipe", "recipe|matrices|all", ANNOUNCED,
           "recipe: all but biases and LayerNorm; matrices: two axes or more"),
    ROW("optimizer.betas", FZ_SET_FLOATS, optimizer.betas, "[0.9, 0.999]", 0, 2, NULL, ANNOUNCED,
        "of the two moments"),
    FLOAT("optimizer.eps", optimizer.eps, "1e-8", 1e-30, 1, ANNOUNCED, "of the second moment"),

    ROW("layout.tp", FZ_SET_AUTO, layout.tp, "1", 1, 4096, NULL, FREE, "tensor parallel ranks"),
    ROW("layout.pp", FZ_SET_AUTO, layout.pp, "1", 1, 4096, NULL, FREE, "pipeline stages"),
    ROW("layout.dp", FZ_SET_AUTO, layout.dp, "auto", 1, 1 << 20, NULL, FREE,
        "data parallel ranks; auto: what is left"),
    CHOICE("layout.schedule", layout.schedule, "1f1b", "afab|1f1b", FREE, "of the pipeline"),

    ROW("numerics.shards", FZ_SET_AUTO, numerics.shards, "auto", 1, 64, NULL, ANNOUNCED,
        "logical pieces of a tensor-parallel weight (S), a power of two"),
    ROW("numerics.lanes", FZ_SET_AUTO, numerics.lanes, "auto", 1, 4096, NULL, ANNOUNCED,
        "logical lanes of a step's micro-batches (K), a power of two"),

    INT("checkpoint.every", checkpoint.every, "0", 0, MOST, FREE,
        "steps between checkpoints; 0: only at the end"),
    INT("checkpoint.keep", checkpoint.keep, "3", 0, 1 << 20, FREE, "newest ones kept; 0: all"),
    INT("checkpoint.keep_every", checkpoint.keep_every, "0", 0, MOST, FREE,
        "steps that are multiples of this are kept for ever; 0: none"),
    ROW("checkpoint.async", FZ_SET_BOOL, checkpoint.async, "off", 0, 0, NULL, FREE,
        "write behind the training, from a copy in memory"),
    INT("checkpoint.max_failures", checkpoint.max_failures, "3", 1, MOST, FREE,
        "checkpoints in a row that may fail before the run ends"),
    CHOICE("checkpoint.io", checkpoint.io, "auto", "auto|direct|buffered", FREE,
           "how large files are written: past the page cache or not; auto: as a probe suggests"),
    TEXT("checkpoint.init_from", checkpoint.init_from, "null", FREE,
         "a step directory whose weights a new run starts from"),
    CHOICE("checkpoint.optimizer", checkpoint.optimizer, "keep", "keep|drop", ANNOUNCED,
           "drop: a run that was on keep continues once with AdamW's moments at zero"),
};

_Static_assert(sizeof rows / sizeof *rows <= FZ_CONFIG_KEYS, "every key has room for its line");
const fz_settings_table fz_config_table = {rows, sizeof rows / sizeof *rows};
