/* Checkpoints tensor by tensor, for models that do not fit in memory: import, export and the tools.
 * Memory is a small multiple of the largest tensor.
 */
#ifndef FZ_CHECKPOINT_STREAM_H
#define FZ_CHECKPOINT_STREAM_H

#include "checkpoint/checkpoint.h"

/* Fills out with a whole tensor, row-major; tensor is an index into the list. Local. */
typedef fz_status fz_tensor_read(void *context, int tensor, float *out);

/* Writes step-<info.step> under dir with weights alone: trained tensors into the step, frozen ones
 * into its base, no moments (a load takes them as zero and says so). Every rank writes a share of
 * whole tensors and asks `read` for each of them once: the frozen ones, then the trained ones, both
 * in the list's order. Committed like any other, or nothing is left. Collective over world. */
fz_status fz_ckpt_save_tensors(const fz_group *world, const char *dir, int n_tensors,
                               const fz_state_tensor *tensors, fz_tensor_read *read, void *context,
                               const fz_ckpt_info *info, fz_ckpt_save_stats *stats);

/* A committed step directory opened for reading, without ranks. Local, one thread. */
typedef struct fz_ckpt_reader fz_ckpt_reader;
fz_status fz_ckpt_reader_open(const char *step_path, fz_ckpt_reader **reader_p);
void fz_ckpt_reader_close(fz_ckpt_reader **reader);
const fz_ckpt_info *fz_ckpt_reader_info(const fz_ckpt_reader *reader);
int fz_ckpt_reader_count(const fz_ckpt_reader *reader);
const fz_state_tensor *fz_ckpt_reader_tensor(const fz_ckpt_reader *reader, int tensor);
/* The whole tensor, row-major, wherever its pieces lie; block CRCs and its digest are checked.
 * MASTER and WEIGHT both give the weights, trained or frozen; moments that were not kept are zero,
 * as in a load. FZ_ERR_FORMAT names tensor, file and bytes. Holds up to 128 MiB of blocks. */
fz_status fz_ckpt_reader_read(fz_ckpt_reader *reader, int tensor, fz_state_kind kind, float *out);
/* The weights of a tensor; an fz_tensor_read with an fz_ckpt_reader as context. */
fz_status fz_ckpt_reader_weights(void *reader, int tensor, float *out);

#endif
