/* florenz data tokenizers: two tokenizers from the text of a CSV (columns as in csv_build.h), and a
 * config.yaml that trains on the shards beside them. Local.
 */
#ifndef FZ_DATA_CSV_TOKENIZERS_H
#define FZ_DATA_CSV_TOKENIZERS_H

#include <stdint.h>

#include "core/status.h"

typedef struct fz_csv_tokenizers_config {
    const char *csv, *out; /* file; folder that exists */
    int vocab;             /* wanted ids of each; less where the text is too small for that */
} fz_csv_tokenizers_config;

typedef struct fz_csv_tokenizers_totals {
    int64_t enc_vocab, dec_vocab;   /* what they really have */
    int64_t max_prompt, max_output; /* longest text in ids, specials included */
    bool wrote_config;              /* false: out/config.yaml was there and is left alone */
} fz_csv_tokenizers_totals;

/* Writes out/enc.model over the prompts (their macros expanded: data/prompt.h), out/dec.model over
 * the outputs. */
fz_status fz_csv_tokenizers(const fz_csv_tokenizers_config *config,
                            fz_csv_tokenizers_totals *totals_p);

#endif
