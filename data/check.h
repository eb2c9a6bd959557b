/* florenz data check: reads every member of every shard and says all that is wrong. Local. */
#ifndef FZ_DATA_CHECK_H
#define FZ_DATA_CHECK_H

#include <stdio.h>

#include "data/sample.h"

typedef struct fz_check_config {
    const char *pattern;   /* as for fz_index_build */
    fz_sample_rules rules; /* of the model; vocabularies 0 and tokenizers NULL where unknown: then
                              ids may be anything and text is only looked at */
    FILE *out;             /* one line a problem, then the totals */
    int64_t max_lines;     /* problems printed; the others are only counted; 0: all */
} fz_check_config;

typedef struct fz_check_totals {
    int64_t n_shards, n_images, n_annotations, n_problems;
    int64_t bytes;      /* of the shards */
    int64_t n_too_long; /* annotations that will be cut; no problem, but worth knowing */
} fz_check_totals;

/* FZ_ERR_FORMAT if there was any problem (the text: how many, and the first one); a shard that
 * cannot be read is a problem like others. Says every 10 s on out how far it is. */
fz_status fz_data_check(const fz_check_config *config, fz_check_totals *totals_p);

#endif
