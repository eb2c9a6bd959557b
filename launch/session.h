/* What train, eval and generate begin with: environment, ranks, config, model, plan, trainer.
 *
 * One object, filled from the top; fz_session_stop takes down whatever there is. Functions are
 * Collective over the world, and their errors are the same on every rank.
 */
#ifndef FZ_LAUNCH_SESSION_H
#define FZ_LAUNCH_SESSION_H

#include "checkpoint/checkpoint.h"
#include "data/index.h"
#include "data/tokenizer.h"
#include "dist/mesh.h"
#include "launch/config.h"
#include "launch/environment.h"
#include "launch/options.h"
#include "parallel/trainer.h"

typedef struct fz_session {
    fz_environment environment;
    fz_world world;
    fz_config config;
    fz_model_config model;
    fz_train_config train;
    fz_layout_config layout;
    fz_program *program; /* owned */
    fz_plan *plan;       /* owned */
    fz_mesh mesh;
    fz_trainer *trainer;                         /* owned */
    fz_tokenizer *enc_tokenizer, *dec_tokenizer; /* owned; NULL where the config names none */
    char checkpoints[FZ_TEXT_BYTES + 32];        /* run.dir/checkpoints */
    bool can_continue; /* a committed checkpoint exists: a failing system is worth another start */
} fz_session;

typedef enum fz_purpose {
    FZ_FOR_TRAINING, /* the config's layout                                                   */
    FZ_FOR_EVAL,     /* the config's where it fits the ranks, else the best legal one         */
    FZ_FOR_ONE_LANE, /* likewise with dp 1                                                    */
} fz_purpose;

/* Ranks and config: arg[0] of the options is CONFIG, --set as often as wanted. */
fz_status fz_session_start(fz_session *session, const fz_options *options);
/* Program, layout, mesh, plan, trainer: all memory of this rank. Only for training with gradients.
 */
fz_status fz_session_build(fz_session *session, fz_purpose purpose);
/* Newest checkpoint of run.dir; *found_p false when there is none. FZ_ERR_FORMAT when there are
 * some and none can be used. */
fz_status fz_session_find(fz_session *session, bool *found_p, fz_ckpt_info *info);
/* What was found into the trainer. Where its payload is damaged, an older one, which info then is.
 */
fz_status fz_session_load(fz_session *session, fz_ckpt_info *info);
/* Both, for commands that cannot do without. FZ_ERR_USAGE when there is none. */
fz_status fz_session_load_newest(fz_session *session, fz_ckpt_info *info);
/* The tokenizer of a config key (data.enc_tokenizer), held to what the model needs; path "" leaves
 * *tokenizer_p. Local. */
fz_status fz_session_tokenizer(const char *key, const char *path, bool is_encoder, int64_t vocab,
                               fz_tokenizer **tokenizer_p);
/* The index of a list of shards: rank 0 reads, all receive. key: for the error. */
fz_status fz_session_index(fz_session *session, const char *key, const fz_text_list *list,
                           fz_index **index_p);
fz_status fz_session_tokenizers(fz_session *session);
/* run.device as the ops that run on it. */
const fz_ops *fz_session_ops(const fz_session *session);
/* A new run's name: the date and a number, of rank 0. */
fz_status fz_session_name(const fz_session *session, char run_id[64]);
/* The effective config as text, on every rank: it goes into the checkpoint. The caller frees. */
fz_status fz_session_print(const fz_session *session, char **text_p);
void fz_session_stop(fz_session *session);
/* Stops, reports a failure by rank 0, returns the exit code. FZ_ERR_COMM ends all ranks at once. */
int fz_session_exit(fz_session *session, fz_status status);

/* The --set values given. Returns their number. */
int fz_session_sets(const fz_options *options, const char *set[FZ_OPTION_ARGS]);

#endif
