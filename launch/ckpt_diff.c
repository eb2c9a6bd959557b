/* florenz ckpt diff: what two checkpoints do not share, whatever their layouts. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint/compare.h"
#include "core/memory.h"
#include "launch/ckpt_tools.h"
#include "launch/json.h"

static const fz_option options_table[] = {
    {"--deep", NULL, "read what differs: how many elements, the first ones, the largest distance",
     false},
    {"--json", NULL, "one object on standard output", false},
};
static const fz_command command = {
    .usage = "florenz ckpt diff A B [OPTION]...",
    .about = "Compares two steps (a directory stands for its newest) by the digests in their\n"
             "indices, tensor by tensor; layouts do not matter and no payload is read. Exit code\n"
             "0: equal; 1: different.",
    .least_args = 2,
    .most_args = 2,
    .options = options_table,
    .n_options = sizeof options_table / sizeof *options_table,
};

typedef struct differ {
    char path[2][FZ_PATH_BYTES];
    fz_source source[2];
    fz_ckpt_reader *reader[2]; /* owned; deep alone */
    int64_t n_differences;
    json_t *list; /* NULL: lines */
} differ;

static const char *kind_name(const fz_difference *d)
{
    return d->kind == FZ_STATE_MASTER ? "weights" : FZ_KIND_NAMES[d->kind];
}

static void shape_text(const fz_state_tensor *tensor, char *text, size_t bytes)
{
    size_t n = (size_t)snprintf(text, bytes, "(");
    for (int axis = 0; axis < tensor->ndim && n < bytes; axis++)
        n += (size_t)snprintf(text + n, bytes - n, axis ? ", %lld" : "%lld",
                              (long long)tensor->shape[axis]);
    if (n < bytes) snprintf(text + n, bytes - n, ")");
}

static void describe(const differ *d, const fz_difference *difference, char *text, size_t bytes)
{
    const fz_state_tensor *a =
        difference->a >= 0 ? &d->source[0].index.tensors[difference->a] : NULL;
    const fz_state_tensor *b =
        difference->b >= 0 ? &d->source[1].index.tensors[difference->b] : NULL;
    const bool is_a = difference->what == FZ_DIFFERS_ONLY_A;
    char shape_a[128], shape_b[128];

    switch (difference->what) {
    case FZ_DIFFERS_ONLY_A:
    case FZ_DIFFERS_ONLY_B:
        if (a && b)
            snprintf(text, bytes, "only %s has it", is_a ? "A" : "B");
        else
            snprintf(text, bytes, "only %s has the tensor", is_a ? "A" : "B");
        return;
    case FZ_DIFFERS_SHAPE:
        shape_text(a, shape_a, sizeof shape_a);
        shape_text(b, shape_b, sizeof shape_b);
        snprintf(text, bytes, "shape %s in A, %s in B", shape_a, shape_b);
        return;
    case FZ_DIFFERS_TRAINED:
        snprintf(text, bytes, "%s in A, %s in B", a->trainable ? "trained" : "frozen",
                 b->trainable ? "trained" : "frozen");
        return;
    case FZ_DIFFERS_BITS:
        snprintf(text, bytes, "differs");
        return;
    }
}

/* ---- values ---- */

static fz_status read_both(differ *d, const fz_difference *difference, int64_t n, float **x)
{
    const int tensors[2] = {difference->a, difference->b};

    for (int side = 0; side < 2; side++) {
        FZ_TRY(FZ_NEW(&x[side], n));
        FZ_TRY(fz_ckpt_reader_read(d->reader[side], tensors[side], difference->kind, x[side]));
    }
    return FZ_OK;
}

static void say_values(const differ *d, const fz_state_tensor *tensor,
                       const fz_values_difference *v, json_t *object)
{
    const fz_box whole = fz_box_of_tensor(tensor);

    if (d->list) {
        json_t *first = json_array();
        for (int i = 0; i < v->n_first; i++)
            json_array_append_new(first,
                                  json_pack("{s:I, s:o, s:o}", "element", (json_int_t)v->first[i],
                                            "a", fz_json_real((double)v->a[i]), "b",
                                            fz_json_real((double)v->b[i])));
        json_object_set_new(object, "n", json_integer(v->n));
        json_object_set_new(object, "n_elements", json_integer(v->n_elements));
        json_object_set_new(object, "n_nan", json_integer(v->n_nan));
        json_object_set_new(object, "max_abs", fz_json_real(v->max_abs));
        json_object_set_new(object, "first", first);
        return;
    }
    printf("  %lld of %lld elements, at most %.9g apart", (long long)v->n, (long long)v->n_elements,
           v->max_abs);
    if (v->n_nan > 0) printf(", %lld with a NaN", (long long)v->n_nan);
    printf("\n");
    for (int i = 0; i < v->n_first; i++) {
        int64_t at[FZ_MAX_AXES], rest = v->first[i];
        for (int axis = FZ_MAX_AXES - 1; axis >= 0; axis--) {
            at[axis] = rest % whole.hi[axis];
            rest /= whole.hi[axis];
        }
        printf("  [");
        for (int axis = 0; axis < tensor->ndim; axis++)
            printf(axis ? ", %lld" : "%lld", (long long)at[axis]);
        printf("] %.9g, %.9g\n", (double)v->a[i], (double)v->b[i]);
    }
}

static fz_status compare_deep(differ *d, const fz_difference *difference, json_t *object)
{
    const fz_state_tensor *tensor = &d->source[0].index.tensors[difference->a];
    const fz_box whole = fz_box_of_tensor(tensor);
    const int64_t n = fz_box_elements(&whole);
    float *x[2] = {NULL, NULL};

    const fz_status status = read_both(d, difference, n, x);
    if (status == FZ_OK) {
        const fz_values_difference v = fz_compare_values(x[0], x[1], n);
        say_values(d, tensor, &v, object);
    }
    fz_free(&x[0]);
    fz_free(&x[1]);
    return status;
}

/* ---- the list ---- */

static fz_status say(void *context, const fz_difference *difference)
{
    differ *d = context;
    const bool has_values = difference->what == FZ_DIFFERS_BITS && d->reader[0];
    const bool has_kind =
        difference->what == FZ_DIFFERS_BITS ||
        (difference->a >= 0 && difference->b >= 0 &&
         (difference->what == FZ_DIFFERS_ONLY_A || difference->what == FZ_DIFFERS_ONLY_B));
    const char *name = difference->a >= 0 ? d->source[0].index.tensors[difference->a].name
                                          : d->source[1].index.tensors[difference->b].name;
    char text[400];
    json_t *object = NULL;

    d->n_differences++;
    describe(d, difference, text, sizeof text);
    if (d->list) {
        object =
            json_pack("{s:o, s:o, s:s}", "tensor", fz_json_text(name), "kind",
                      has_kind ? json_string(kind_name(difference)) : json_null(), "what", text);
        json_array_append_new(d->list, object);
    } else {
        printf("%s%s%s: %s\n", has_kind ? kind_name(difference) : "", has_kind ? " of " : "", name,
               text);
    }
    return has_values ? compare_deep(d, difference, object) : FZ_OK;
}

static fz_status open_side(differ *d, int side, const char *argument, bool is_deep)
{
    FZ_TRY(fz_ckpt_step(argument, d->path[side]));
    FZ_TRY(fz_source_open_here(d->path[side], "step", &d->source[side]));
    return is_deep ? fz_ckpt_reader_open(d->path[side], &d->reader[side]) : FZ_OK;
}

static fz_status compare(differ *d, const fz_options *options, int *code)
{
    const bool is_deep = fz_options_get(options, "--deep") != NULL;
    int64_t n_same = 0;

    for (int side = 0; side < 2; side++)
        FZ_TRY(open_side(d, side, options->arg[side], is_deep));
    if (fz_options_get(options, "--json")) d->list = json_array();
    FZ_TRY(fz_compare(&d->source[0].index, &d->source[1].index, say, d, &n_same));
    *code = d->n_differences > 0;
    if (d->list)
        fz_json_print(json_pack("{s:o, s:o, s:b, s:I, s:o}", "a", fz_json_text(d->path[0]), "b",
                                fz_json_text(d->path[1]), "equal", d->n_differences == 0, "n_same",
                                (json_int_t)n_same, "differences", d->list));
    else
        printf("%s: %lld equal, %lld %s\n", d->n_differences > 0 ? "different" : "equal",
               (long long)n_same, (long long)d->n_differences,
               d->n_differences == 1 ? "difference" : "differences");
    return FZ_OK;
}

static fz_status run(const fz_options *options, int *code)
{
    differ *d = NULL;

    FZ_TRY(FZ_NEW(&d, 1));
    const fz_status status = compare(d, options, code);
    for (int side = 0; side < 2; side++) {
        fz_ckpt_reader_close(&d->reader[side]);
        fz_source_reset(&d->source[side]);
    }
    if (status != FZ_OK) json_decref(d->list);
    fz_free(&d);
    return status;
}

int fz_ckpt_diff(int argc, char **argv)
{
    return fz_ckpt_tool(&command, argc, argv, run);
}
