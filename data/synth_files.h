/* The folder that `florenz data synth` fills, shards apart. Local. */
#ifndef FZ_DATA_SYNTH_FILES_H
#define FZ_DATA_SYNTH_FILES_H

#include "data/synth.h"
#include "data/synth_text.h"

enum { FZ_SYNTH_PATH_BYTES = 1024 };

typedef struct fz_synth_summary {
    int64_t n_train, n_eval, enc_vocab, dec_vocab;
    fz_synth_lengths longest;
} fz_synth_summary;

/* Creates the folder. One that holds anything is refused (FZ_ERR_USAGE) unless force, which removes
 * the files of an earlier run and leaves all others. */
fz_status fz_synth_folder(const fz_synth_config *config);
/* out/name into path; FZ_ERR_USAGE if it is too long. */
fz_status fz_synth_path(const fz_synth_config *config, const char *name,
                        char path[FZ_SYNTH_PATH_BYTES]);
/* "enc.model" or "enc.words", by what this program was built with. */
const char *fz_synth_tokenizer_name(bool is_encoder);
/* Trains both tokenizers on the text of the first scenes of this seed. */
fz_status fz_synth_train_tokenizers(const fz_synth_config *config);
/* README, then config.yaml: what says that the folder is complete. */
fz_status fz_synth_write_notes(const fz_synth_config *config, const fz_synth_summary *summary);

#endif
