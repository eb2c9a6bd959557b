/* SentencePiece (C++) behind C: what data/tokenizer.c calls where FZ_HAVE_SENTENCEPIECE is 1. No
 * exception crosses this line. Local. */
#ifndef FZ_DATA_TOKENIZER_SP_H
#define FZ_DATA_TOKENIZER_SP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A processor, or NULL and the reason in error. */
void *fz_sp_load(const char *path, char *error, size_t error_bytes);
void fz_sp_destroy(void *processor);
int64_t fz_sp_vocab(const void *processor);
/* bos, eos, pad, unk; -1: the model has none. */
void fz_sp_specials(const void *processor, int32_t ids[4]);
/* Borrowed; id is in range. */
const char *fz_sp_piece(const void *processor, int32_t id);
/* Number of ids written, at most max; -1 on failure. Thread-safe. */
int64_t fz_sp_encode(const void *processor, const char *text, int32_t *ids, int64_t max);
/* 0, or -1. Text is cut to bytes - 1, at a whole character. */
int fz_sp_decode(const void *processor, const int32_t *ids, int64_t n, char *out, size_t bytes);
/* One sentence a line of the text. settings: {name, value} as spm_train's, ended by NULL, without
 * those that name files. 0, or -1 and the reason. */
int fz_sp_train(const char *text_path, const char *model_path, const char *const (*settings)[2],
                char *error, size_t error_bytes);

#ifdef __cplusplus
}
#endif

#endif
