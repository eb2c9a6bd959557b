/* Names of tensors in the files of others (model.md 7) and the parameters they are.
 *
 * A parameter's own name is Florenz' (F). O is Microsoft's Florence-2, N the port of it inside the
 * transformers library, Gemma-2 the language model alone. Local.
 */
#ifndef FZ_MODEL_NAMES_H
#define FZ_MODEL_NAMES_H

#include <stdbool.h>

#include "core/state_view.h"
#include "core/status.h"

typedef enum fz_names {
    FZ_NAMES_FLORENZ,
    FZ_NAMES_ORIGINAL,
    FZ_NAMES_NATIVE,
    FZ_NAMES_GEMMA,
    FZ_N_NAMES
} fz_names;
extern const char *const FZ_NAMES_WORDS[FZ_N_NAMES];  /* "florenz", "original", ... */
extern const char *const FZ_NAMES_MODELS[FZ_N_NAMES]; /* "a Florenz model", ... */

typedef enum fz_name_role {
    FZ_NAME_PARAM,      /* holds the parameter as it is                                      */
    FZ_NAME_TRANSPOSED, /* holds it with rows and columns exchanged                          */
    FZ_NAME_TABLE,      /* O, N: the token table that encoder, decoder and head have in
                           common; param is FZ_NAME_SHARED, under any of its four names      */
    FZ_NAME_BUFFER,     /* follows from other numbers: not read                              */
    FZ_NAME_STRANGE,    /* no name of this layout                                            */
} fz_name_role;
#define FZ_NAME_SHARED "language_model.model.shared.weight"
#define FZ_NAME_ENC_TABLE "language_model.model.encoder.embed_tokens.weight"
#define FZ_NAME_DEC_TABLE "language_model.model.decoder.embed_tokens.weight"
#define FZ_NAME_DECODER "language_model.model.decoder."

/* What the tensor `name` of a layout is. param: the parameter's name, which the model need not
 * have. The head of F and Gemma-2 is the decoder's table, under a second name. */
fz_name_role fz_name_read(fz_names layout, const char *name, char param[FZ_NAME_BYTES]);

/* The parameter's name in a layout: the opposite of fz_name_read. false: it has none there (O and
 * N have FZ_NAME_SHARED for both tables). */
bool fz_name_write(fz_names layout, const char *param, char name[FZ_NAME_BYTES]);

/* Which layout these names are; false: none of them. */
bool fz_names_detect(int n, const char *const *names, fz_names *layout_p);

#endif
