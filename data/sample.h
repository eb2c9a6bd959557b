/* One annotation of a sample's JSON as the ids of model.md 6.3, without padding. Local.
 *
 * - "prompt_ids": encoder ids as in the public data set, with their <s> and </s>, taken as they are
 * - "prompt": text, whose macros become sentences (data/prompt.h); [<s>, tokens, </s>]
 * - "output_ids": labels as in the public data set, with their bos and eos
 * - "output": text; [bos, tokens, eos]
 *
 * All are cut at the right, at max_prompt and max_output.
 * Ids win where both are there. A cut end keeps no eos, so a cut output does not teach to stop.
 */
#ifndef FZ_DATA_SAMPLE_H
#define FZ_DATA_SAMPLE_H

#include "core/status.h"
#include "data/tokenizer.h"

/* Special ids of the two tokenizers (model.md 10): what fz_tokenizer_check holds them to. */
enum { FZ_ENC_BOS = 0, FZ_ENC_PAD = 1, FZ_ENC_EOS = 2 };
enum { FZ_DEC_PAD = 0, FZ_DEC_EOS = 1, FZ_DEC_BOS = 2 };

typedef struct fz_sample_rules {
    int64_t max_prompt, max_output;
    int64_t enc_vocab, dec_vocab; /* 0: any id */
    int32_t dec_eos;
    const fz_tokenizer *enc_tokenizer, *dec_tokenizer; /* borrowed; NULL: ids only */
} fz_sample_rules;

typedef struct fz_sample_ids {
    int32_t *prompt;            /* borrowed (max_prompt) */
    int32_t *labels;            /* borrowed (max_output) */
    int64_t n_prompt, n_labels; /* both at least 1 */
} fz_sample_ids;

/* JSON text of a sample (not terminated), annotation number -> ids. FZ_ERR_FORMAT says what is
 * wrong with it, without naming the file: "annotation 3: output_ids[7]: id 99999 is beyond the
 * decoder's vocabulary of 512". */
fz_status fz_sample_read(const void *json, size_t n, int32_t annotation,
                         const fz_sample_rules *rules, fz_sample_ids *ids);

/* What data check wants to know of one annotation. */
typedef struct fz_sample_facts {
    int64_t number;
    const char *type, *lang; /* borrowed for the call; NULL if missing (then it is bad) */
    bool is_cut;             /* longer than a limit */
} fz_sample_facts;

/* Calls seen for every annotation of the JSON; with a status that is not FZ_OK the thread's last
 * error says what is wrong with it. Fails only if there is no list to go through. Text is only
 * looked at where rules has no tokenizer. ids is scratch. */
fz_status
fz_sample_each(const void *json, size_t n, const fz_sample_rules *rules, fz_sample_ids *ids,
               void (*seen)(void *context, const fz_sample_facts *facts, fz_status status),
               void *context);

#endif
