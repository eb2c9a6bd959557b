/* A run that goes on from a checkpoint: what of the config may differ (design.md 9). Local, the
 * same on every rank.
 *
 *   free       nothing is said
 *   announced  one line for each key
 *   refused    FZ_ERR_USAGE unless the key is in accept
 *   never      FZ_ERR_USAGE
 *
 * A step 0 that was imported has seen no data: all but never is free there.
 */
#ifndef FZ_LAUNCH_CONTINUE_H
#define FZ_LAUNCH_CONTINUE_H

#include "checkpoint/checkpoint.h"
#include "launch/config.h"

/* FZ_ERR_USAGE for a name that is no key, or a key that no flag makes acceptable. */
fz_status fz_continue_check_accept(const char *const *accept, int n_accept);

/* config: resolved. Says what changed, the arithmetic too. Before anything is loaded. */
fz_status fz_continue_check_config(const fz_config *config, const fz_ckpt_info *info,
                                   const char *arithmetic_id, const char *const *accept,
                                   int n_accept);
/* Whether the load shall make the moments zero: the config says drop, and what wrote the checkpoint
 * did not, so that a run which is continued again and again drops them once. */
fz_status fz_continue_drops_moments(const fz_config *config, const fz_ckpt_info *info,
                                    bool *drops_p);
/* fingerprint: of the data now. Other data counts as the key data.train, refused. */
fz_status fz_continue_check_data(const fz_config *config, const fz_ckpt_info *info,
                                 uint64_t fingerprint, const char *const *accept, int n_accept);

#endif
