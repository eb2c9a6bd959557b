#include "checkpoint/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"

typedef struct name { /* of b, sorted */
    const char *text;
    int tensor;
} name;

static int by_text(const void *x, const void *y)
{
    return strcmp(((const name *)x)->text, ((const name *)y)->text);
}

typedef struct comparison {
    const fz_index *a, *b;
    fz_compare_say *say;
    void *context;
    name *names;   /* owned: [b->n_tensors] */
    bool *is_seen; /* owned: [b->n_tensors] */
    int64_t n_same;
} comparison;

static bool has_moments(const fz_index *index, int tensor)
{
    return index->tensors[tensor].trainable && !index->info.has_weights_alone;
}

static uint64_t digest_of(const fz_index *index, int tensor, int kind)
{
    if (kind == FZ_STATE_MASTER && !index->tensors[tensor].trainable) kind = FZ_STATE_WEIGHT;
    return index->sums[(int64_t)kind * index->n_tensors + tensor][0];
}

static bool has_kind(const fz_index *index, int tensor, int kind)
{
    return kind == FZ_STATE_MASTER || has_moments(index, tensor);
}

static fz_status say(comparison *c, fz_difference_kind what, int a, int b, int kind)
{
    const fz_difference difference = {.what = what, .a = a, .b = b, .kind = (fz_state_kind)kind};
    return c->say(c->context, &difference);
}

static fz_status compare_kinds(comparison *c, int a, int b)
{
    for (int kind = FZ_STATE_MASTER; kind < FZ_STATE_WEIGHT; kind++) {
        const bool in_a = has_kind(c->a, a, kind), in_b = has_kind(c->b, b, kind);
        if (!in_a && !in_b) continue;
        if (in_a != in_b) {
            FZ_TRY(say(c, in_a ? FZ_DIFFERS_ONLY_A : FZ_DIFFERS_ONLY_B, a, b, kind));
            continue;
        }
        if (digest_of(c->a, a, kind) == digest_of(c->b, b, kind))
            c->n_same++;
        else
            FZ_TRY(say(c, FZ_DIFFERS_BITS, a, b, kind));
    }
    return FZ_OK;
}

static fz_status compare_pair(comparison *c, int a, int b)
{
    const fz_state_tensor *ta = &c->a->tensors[a], *tb = &c->b->tensors[b];
    const fz_box whole_a = fz_box_of_tensor(ta), whole_b = fz_box_of_tensor(tb);

    if (ta->ndim != tb->ndim || memcmp(&whole_a, &whole_b, sizeof whole_a) != 0)
        return say(c, FZ_DIFFERS_SHAPE, a, b, FZ_STATE_MASTER);
    if (ta->trainable != tb->trainable) FZ_TRY(say(c, FZ_DIFFERS_TRAINED, a, b, FZ_STATE_MASTER));
    return compare_kinds(c, a, b);
}

static fz_status compare_all(comparison *c)
{
    for (int b = 0; b < c->b->n_tensors; b++)
        c->names[b] = (name){.text = c->b->tensors[b].name, .tensor = b};
    if (c->b->n_tensors > 1) qsort(c->names, (size_t)c->b->n_tensors, sizeof *c->names, by_text);
    for (int a = 0; a < c->a->n_tensors; a++) {
        const name key = {.text = c->a->tensors[a].name};
        const name *found = c->b->n_tensors > 0 ? bsearch(&key, c->names, (size_t)c->b->n_tensors,
                                                          sizeof key, by_text)
                                                : NULL;
        if (!found) {
            FZ_TRY(say(c, FZ_DIFFERS_ONLY_A, a, -1, FZ_STATE_MASTER));
            continue;
        }
        c->is_seen[found->tensor] = true;
        FZ_TRY(compare_pair(c, a, found->tensor));
    }
    for (int b = 0; b < c->b->n_tensors; b++)
        if (!c->is_seen[b]) FZ_TRY(say(c, FZ_DIFFERS_ONLY_B, -1, b, FZ_STATE_MASTER));
    return FZ_OK;
}

fz_status fz_compare(const fz_index *a, const fz_index *b, fz_compare_say *say_it, void *context,
                     int64_t *n_same_p)
{
    comparison c = {.a = a, .b = b, .say = say_it, .context = context};

    fz_status status = FZ_NEW(&c.names, b->n_tensors);
    if (status == FZ_OK) status = FZ_NEW(&c.is_seen, b->n_tensors);
    if (status == FZ_OK) status = compare_all(&c);
    fz_free(&c.names);
    fz_free(&c.is_seen);
    if (status == FZ_OK) *n_same_p = c.n_same;
    return status;
}

/* values */

fz_values_difference fz_compare_values(const float *a, const float *b, int64_t n)
{
    fz_values_difference d = {.n_elements = n};

    for (int64_t i = 0; i < n; i++) {
        if (memcmp(&a[i], &b[i], sizeof *a) == 0) continue;
        if (d.n_first < FZ_FIRST_DIFFERENCES) {
            d.first[d.n_first] = i;
            d.a[d.n_first] = a[i];
            d.b[d.n_first++] = b[i];
        }
        d.n++;
        const double distance = fabs((double)a[i] - (double)b[i]);
        if (isnan(a[i]) || isnan(b[i]))
            d.n_nan++;
        else if (distance > d.max_abs)
            d.max_abs = distance;
    }
    return d;
}
