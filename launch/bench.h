/* Parts of florenz bench. */
#ifndef FZ_LAUNCH_BENCH_H
#define FZ_LAUNCH_BENCH_H

#include "dist/mesh.h"
#include "parallel/trainer.h"

/* Sorts x. Local. */
double fz_bench_median(double *x, int64_t n);

typedef struct fz_bench_generation {
    const fz_world *world;        /* of one rank */
    const fz_program *program;    /* with room for n_tokens */
    const fz_train_config *train; /* micro_batch: texts made at once */
    const char *family;
    int64_t width, n_tokens, rounds;
    bool json;
} fz_bench_generation;

/* Texts of n_tokens tokens with the cache, without it, and by four beams with it, in turn so many
 * times, and prints tokens a second. Collective over the world. */
fz_status fz_bench_generate(const fz_bench_generation *bench);

#endif
