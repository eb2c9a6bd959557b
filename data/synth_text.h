/* What is written about a scene: the annotations of its JSON member. Local.
 *
 * Training pictures have captions in English and German only, and translations from English into
 * the five others: the paper's intentionally incomplete coverage (Florenz, arXiv:2503.09443,
 * section 3). Held-out pictures have captions in all six.
 */
#ifndef FZ_DATA_SYNTH_TEXT_H
#define FZ_DATA_SYNTH_TEXT_H

#include "core/status.h"
#include "data/synth_grammar.h"
#include "data/synth_scene.h"
#include "data/tokenizer.h"

enum {
    FZ_CAPTIONS_EACH = 2, /* of a training picture, in each of the two languages */
    FZ_MAX_ANNOTATIONS = 12,
    FZ_PROMPT_BYTES = FZ_SENTENCE_BYTES + 96
};

typedef struct fz_annotation {
    bool is_translation;
    fz_language_id language; /* of the output */
    char prompt[FZ_PROMPT_BYTES], output[FZ_SENTENCE_BYTES];
} fz_annotation;

/* A pure function of (seed, split, n). */
fz_status fz_synth_annotate(const fz_scene *scene, uint64_t seed, fz_split split, uint64_t n,
                            fz_annotation out[FZ_MAX_ANNOTATIONS], int *n_p);

typedef struct fz_synth_lengths {
    int64_t prompt, output; /* longest, in ids, with their two specials each */
} fz_synth_lengths;

/* The annotations as a JSON list (compact, UTF-8), ids included; memory is the caller's (fz_free).
 * Prompts are <s>=0 ids </s>=2, outputs bos=2 ids eos=1. Raises longest. */
fz_status fz_synth_json(const fz_annotation *annotations, int n, const fz_tokenizer *enc,
                        const fz_tokenizer *dec, fz_synth_lengths *longest, char **json_p,
                        size_t *bytes_p);

#endif
