/* The configuration: one struct, one table of keys (core/settings.h), and what the other folders
 * get from it. Local.
 *
 * Every key remembers where it was set, so that an error found much later ("layout.tp: 3 does not
 * divide 4 shards") still says config.yaml:14.
 */
#ifndef FZ_LAUNCH_CONFIG_H
#define FZ_LAUNCH_CONFIG_H

#include "core/settings.h"
#include "model/config.h"
#include "model/program.h"
#include "parallel/config.h"

enum { FZ_CONFIG_KEYS = 96, FZ_CONFIG_DEFAULT = 0, FZ_CONFIG_SET = -1 };

typedef enum fz_bad_sample { FZ_BAD_STOP, FZ_BAD_SKIP } fz_bad_sample;

/* What a continuation does with stored moments. */
typedef enum fz_optimizer_state { FZ_OPTIMIZER_KEEP, FZ_OPTIMIZER_DROP } fz_optimizer_state;

typedef struct fz_config {
    struct {
        char dir[FZ_TEXT_BYTES];
        int64_t seed;
        int device;
        double max_time;
        int64_t log_every;
    } run;
    struct { /* FZ_AUTO, FZ_AUTO_FLOAT, family 0, "auto": the variant's number */
        char variant[FZ_TEXT_BYTES];
        int64_t image_size;
        fz_text_list vision_dims, vision_depths;
        double drop_path, init_std;
        int64_t enc_layers, enc_width, enc_heads, enc_ffn, enc_positions, enc_vocab;
        int family; /* auto, then fz_decoder_family */
        int64_t dec_layers, dec_width, dec_heads, dec_kv_heads, dec_head_dim, dec_ffn;
        int64_t dec_positions, dec_vocab;
        double query_scalar, attn_softcap, final_softcap;
        int64_t sliding_window;
        double rope_theta;
        int64_t cross_every;
        double dropout, attn_dropout, act_dropout;
        int64_t max_prompt, max_output;
        fz_text_list freeze; /* "auto", "none", "recipe" and name patterns */
        bool frozen_dropout;
    } model;
    struct {
        fz_text_list train, eval;
        int on_bad_sample; /* fz_bad_sample */
        int balance;       /* fz_balance */
        int64_t window;
        char enc_tokenizer[FZ_TEXT_BYTES], dec_tokenizer[FZ_TEXT_BYTES];
        int64_t threads, ahead;
    } data;
    struct {
        int64_t steps, global_batch, loss_batch, micro_batch;
        double clip;
        int64_t eval_every, eval_samples;
    } train;
    struct {
        double lr;
        int64_t warmup;
        int schedule; /* fz_lr_kind */
        double weight_decay;
        int decay_mask; /* fz_decay */
        double betas[2];
        double eps;
    } optimizer;
    struct {
        int64_t tp, pp, dp;
        int schedule; /* fz_schedule_kind */
    } layout;
    struct {
        int64_t shards, lanes;
    } numerics;
    struct {
        int64_t every, keep, keep_every, max_failures;
        bool async;
        int io; /* fz_io */
        char init_from[FZ_TEXT_BYTES];
        int optimizer; /* fz_optimizer_state */
    } checkpoint;
    /* where each key was set, by its row in the table: a line of the file, or one of the two */
    char path[FZ_TEXT_BYTES];
    int line[FZ_CONFIG_KEYS];
} fz_config;

extern const fz_settings_table fz_config_table;

/* Defaults; path names the file in later messages. */
void fz_config_init(fz_config *config, const char *path);
/* One value from line `line` (FZ_CONFIG_SET: the command line). FZ_ERR_USAGE with the place. */
fz_status fz_config_apply(fz_config *config, const char *key, const char *const *values, int n,
                          bool is_list, int line);
/* "key=value" of --set. */
fz_status fz_config_set(fz_config *config, const char *assignment);
/* Makes the relative paths of data.* absolute: those of the file from its folder, those of --set
 * from the current one. So the effective config means the same wherever it is read again. */
fz_status fz_config_anchor(fz_config *config, const char *folder, const char *current);
/* If the last error's text begins with one of the keys, puts the place where it was set before it:
 * "config.yaml:14 layout.tp: ...". Returns status. */
fz_status fz_config_blame(const fz_config *config, fz_status status);

/* The variant with what is overridden by hand, checked. */
fz_status fz_config_model(const fz_config *config, fz_model_config *model);
void fz_config_train(const fz_config *config, fz_train_config *train);
/* Replaces every auto of model, numerics by its number: what is written down as the effective
 * config. layout keeps its autos: it is not a property of the run. */
fz_status fz_config_resolve(fz_config *config);
/* dp auto: world / (tp pp); tp or pp auto: the best legal layout (launch/layouts.h). */
fz_status fz_config_layout(const fz_config *config, const fz_program *program, int n_ranks,
                           fz_layout_config *layout);
/* S and K as numbers. */
fz_status fz_config_numerics(const fz_config *config, const fz_model_config *model,
                             int64_t *n_shards, int64_t *n_lanes);

/* The list as one comma list of globs, as data/ wants it. Returns out. */
char *fz_config_pattern(const fz_text_list *list, char *out, size_t bytes);

#endif
