/* florenz data synth: WebDataset shards of rendered scenes with captions and translations. Local.
 */
#ifndef FZ_DATA_SYNTH_H
#define FZ_DATA_SYNTH_H

#include <stdint.h>

#include "core/status.h"

typedef struct fz_synth_config {
    const char *out;  /* directory; created; refused if it holds other files unless force */
    int64_t n_images; /* training images; held-out ones: max(32, n/20) more */
    uint64_t seed;
    int image_size; /* pixels of the JPEG */
    int images_per_shard;
    int n_threads;
    bool force;
} fz_synth_config;

/* Writes train-%05d.tar, eval-%05d.tar, enc.model, dec.model (or .words), config.yaml, README. Same
 * (n, seed, size): the same bytes. Beside every shard its index SHARD.idx. Prints what it does at
 * least every 10 s. */
fz_status fz_synth_run(const fz_synth_config *config);

#endif
