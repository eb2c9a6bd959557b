#include "launch/share.h"

#include <stdio.h>

#include "core/memory.h"

fz_status fz_share_bytes(const fz_group *group, fz_status mine, void **bytes_p, size_t *n_p,
                         const char *what)
{
    struct {
        int64_t n;
        int status;
        char text[sizeof fz_last_error()->text];
    } head = {.n = 0};
    if (!group || fz_group_size(group) == 1) return mine;

    const bool is_root = fz_group_rank(group) == 0;
    if (is_root) {
        head.status = (int)mine;
        head.n = mine == FZ_OK ? (int64_t)*n_p : 0;
        if (mine != FZ_OK) snprintf(head.text, sizeof head.text, "%s", fz_last_error()->text);
    }
    FZ_TRY(fz_broadcast(group, &head, sizeof head, 0));
    FZ_CHECK(head.status == FZ_OK, (fz_status)head.status, "%s", head.text);

    void *bytes = is_root ? *bytes_p : NULL;
    FZ_TRY(fz_agree(group, is_root ? FZ_OK : fz_alloc(&bytes, (size_t)head.n, what)));
    const fz_status status = fz_broadcast(group, bytes, (size_t)head.n, 0);
    if (status != FZ_OK && !is_root) fz_free(&bytes);
    FZ_TRY(status);
    *bytes_p = bytes;
    *n_p = (size_t)head.n;
    return FZ_OK;
}

fz_status fz_share_status(const fz_group *group, fz_status mine)
{
    /* Largest code, and largest of the negated codes: minus the smallest. */
    int64_t codes[2] = {(int64_t)mine, -(int64_t)mine};
    if (!group || fz_group_size(group) == 1) return mine;
    FZ_TRY(fz_allreduce_max_int(group, codes, 2));
    if (codes[0] == FZ_OK) return FZ_OK;
    if (-codes[1] == codes[0]) return mine;
    return fz_agree(group, mine);
}
