#include "launch/import_plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"

/* What the padding of a vocabulary may add: Florence-2 has 51,289 ids, the port of it 51,328. */
enum { PADDING = 128 };

typedef struct planner {
    const fz_program *program;
    int n_sources;
    const fz_import_source *sources;
    bool rebuild;
    fz_import_plan *plan;
    int florence, gemma;  /* sources; -1: none */
    fz_import_item table; /* O and N: the table in common */
} planner;

static fz_status complain(planner *p, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static fz_status complain(planner *p, const char *format, ...)
{
    fz_import_plan *plan = p->plan;
    char text[640];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    FZ_TRY(fz_realloc((void **)&plan->complaints,
                      (size_t)(plan->n_complaints + 1) * sizeof *plan->complaints, "complaints"));
    FZ_TRY(fz_strdup(&plan->complaints[plan->n_complaints], text));
    plan->n_complaints++;
    return FZ_OK;
}

/* ---- which folders make which model ---- */

static fz_status check_sources(planner *p)
{
    const bool is_gemma = p->program->config.family == FZ_DECODER_GEMMA;
    int florenz = -1;
    p->florence = p->gemma = -1;
    for (int s = 0; s < p->n_sources; s++) {
        const fz_names layout = p->sources[s].layout;
        int *slot = layout == FZ_NAMES_FLORENZ ? &florenz
                    : layout == FZ_NAMES_GEMMA ? &p->gemma
                                               : &p->florence;
        FZ_CHECK(*slot < 0, FZ_ERR_USAGE, "--from: %s is %s like %s; give one of them",
                 p->sources[s].path, FZ_NAMES_MODELS[layout], p->sources[*slot].path);
        *slot = s;
    }
    FZ_CHECK(florenz < 0 || p->n_sources == 1, FZ_ERR_USAGE,
             "--from: %s is a whole Florenz model; leave the other folder out",
             p->sources[florenz].path);
    FZ_CHECK(!p->rebuild || (florenz < 0 && !is_gemma), FZ_ERR_USAGE,
             "--vocabulary rebuild: is for a Florence-2 folder and a model with its decoder "
             "(model.family bart); leave it out");
    if (florenz >= 0) return FZ_OK;
    FZ_CHECK(is_gemma || p->gemma < 0, FZ_ERR_USAGE,
             "--from: %s is a Gemma-2 model, but the config's decoder is Florence-2's; use "
             "model.variant 3.5b or 11.2b, or leave it out",
             p->sources[p->gemma].path);
    FZ_CHECK(p->florence >= 0, FZ_ERR_USAGE,
             "--from: %s is a Gemma-2 model alone; add --from with a Florence-2 folder for "
             "vision and encoder",
             p->sources[p->gemma].path);
    FZ_CHECK(!is_gemma || p->gemma >= 0, FZ_ERR_USAGE,
             "--from: %s is a Florence-2 model alone, but the config's decoder is Gemma-2; add "
             "--from with a Gemma-2 folder",
             p->sources[p->florence].path);
    return FZ_OK;
}

/* ---- shapes ---- */

static char *shape_text(char out[96], int ndim, const int64_t *shape)
{
    int used = snprintf(out, 96, "(");
    for (int a = 0; a < ndim && used < 80; a++)
        used +=
            snprintf(out + used, (size_t)(96 - used), "%s%lld", a ? ", " : "", (long long)shape[a]);
    snprintf(out + used, (size_t)(96 - used), ")");
    return out;
}

/* The config's key that sets the rows of a table. */
static const char *rows_key(const char *param)
{
    static const char *const keys[][2] = {
        {FZ_NAME_ENC_TABLE, "enc_vocab"},
        {FZ_NAME_DEC_TABLE, "dec_vocab"},
        {"language_model.model.encoder.embed_positions.weight", "enc_positions"},
        {"language_model.model.decoder.embed_positions.weight", "dec_positions"},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(keys[i][0], param) == 0) return keys[i][1];
    return NULL;
}

static fz_status complain_shape(planner *p, const fz_param *param, const char *path,
                                const fz_safetensor *tensor)
{
    char has[96], wants[96], fix[160] = "";
    const char *key = rows_key(param->name);
    const bool rows_only = key && tensor->ndim == 2 && tensor->shape[1] == param->shape[1];
    if (rows_only)
        snprintf(fix, sizeof fix, "; add --set model.%s=%lld", key, (long long)tensor->shape[0]);
    if (rows_only && p->florence >= 0 && !p->rebuild && strcmp(key, "dec_vocab") == 0)
        strcat(fix, ", or --vocabulary rebuild for another tokenizer");
    return complain(p, "%s: %s has shape %s, the config's %s is %s%s", path, tensor->name,
                    shape_text(has, tensor->ndim, tensor->shape), param->name,
                    shape_text(wants, param->ndim, param->shape), fix);
}

static bool is_float(const fz_safetensor *tensor)
{
    return tensor->dtype == FZ_DTYPE_F64 || tensor->dtype == FZ_DTYPE_F32 ||
           tensor->dtype == FZ_DTYPE_F16 || tensor->dtype == FZ_DTYPE_BF16;
}

static bool same_shape(const fz_param *param, const fz_safetensor *tensor, bool transposed)
{
    if (tensor->ndim != param->ndim) return false;
    for (int a = 0; a < param->ndim; a++)
        if (tensor->shape[a] != param->shape[transposed ? 1 - a : a]) return false;
    return true;
}

static fz_status check_type(planner *p, const char *path, const fz_safetensor *tensor)
{
    if (is_float(tensor)) return FZ_OK;
    return complain(p, "%s: %s is of type %s, no floating-point numbers", path, tensor->name,
                    FZ_DTYPE_NAMES[tensor->dtype]);
}

/* ---- names ---- */

static int find_param(const fz_program *program, const char *name)
{
    for (int i = 0; i < program->n_params; i++)
        if (strcmp(program->params[i].name, name) == 0) return i;
    return -1;
}

/* One more name of the same tensor. Two folders never have one in common: they are of two layouts,
 * and what both could hold is dropped from Florence-2's. */
static fz_status add_alias(planner *p, fz_import_item *item, int source,
                           const fz_safetensor *tensor)
{
    const char *path = p->sources[source].path;
    FZ_TRY(check_type(p, path, tensor));
    if (tensor->ndim != item->tensor->ndim ||
        memcmp(tensor->shape, item->tensor->shape, (size_t)tensor->ndim * sizeof(int64_t)) != 0 ||
        item->n_aliases == FZ_IMPORT_ALIASES)
        return complain(p, "%s: %s and %s are one tensor, but their shapes differ", path,
                        item->tensor->name, tensor->name);
    item->alias[item->n_aliases++] = tensor;
    return FZ_OK;
}

static fz_status place(planner *p, int source, const fz_safetensor *tensor, const char *name,
                       bool transposed)
{
    const char *path = p->sources[source].path;
    const int i = find_param(p->program, name);
    if (i < 0)
        return complain(p, "%s: %s: the config's model has no such tensor", path, tensor->name);
    const fz_param *param = &p->program->params[i];
    fz_import_item *item = &p->plan->items[i];
    if (item->tensor) return add_alias(p, item, source, tensor);
    item->how = transposed ? FZ_IMPORT_TRANSPOSE : FZ_IMPORT_TAKE;
    item->source = source;
    item->tensor = tensor;
    FZ_TRY(check_type(p, path, tensor));
    if (!same_shape(param, tensor, transposed)) return complain_shape(p, param, path, tensor);
    return FZ_OK;
}

static fz_status place_one(planner *p, int source, const fz_safetensor *tensor)
{
    const fz_import_source *from = &p->sources[source];
    char name[FZ_NAME_BYTES];
    const fz_name_role role = fz_name_read(from->layout, tensor->name, name);
    /* An assembly replaces Florence-2's decoder by Gemma-2. */
    const bool is_replaced = source == p->florence && p->gemma >= 0 &&
                             strncmp(name, FZ_NAME_DECODER, strlen(FZ_NAME_DECODER)) == 0;
    if (role == FZ_NAME_BUFFER || (role == FZ_NAME_PARAM && is_replaced)) {
        p->plan->n_dropped++;
        return FZ_OK;
    }
    if (role == FZ_NAME_STRANGE)
        return complain(p, "%s: %s is no tensor of %s", from->path, tensor->name,
                        FZ_NAMES_MODELS[from->layout]);
    if (role != FZ_NAME_TABLE) return place(p, source, tensor, name, role == FZ_NAME_TRANSPOSED);
    if (p->table.tensor) return add_alias(p, &p->table, source, tensor);
    p->table.source = source;
    p->table.tensor = tensor;
    return check_type(p, from->path, tensor);
}

/* ---- the table that Florence-2 has once and Florenz twice ---- */

static fz_status place_table(planner *p, const char *name)
{
    const int i = find_param(p->program, name);
    const bool is_encoder = strcmp(name, FZ_NAME_ENC_TABLE) == 0;
    if (i < 0 || !p->table.tensor) return FZ_OK; /* a missing one is told later */
    const fz_param *param = &p->program->params[i];
    const fz_safetensor *tensor = p->table.tensor;
    fz_import_item *item = &p->plan->items[i];
    const fz_import_source *from = &p->sources[p->florence];
    item->how = FZ_IMPORT_TAKE;
    item->source = p->florence;
    item->tensor = tensor;
    if (is_encoder) { /* which compares the names of it */
        item->n_aliases = p->table.n_aliases;
        memcpy(item->alias, p->table.alias, sizeof item->alias);
    }
    if (same_shape(param, tensor, false) && (is_encoder || !p->rebuild)) return FZ_OK;
    const bool fits = tensor->ndim == 2 && tensor->shape[1] == param->shape[1];
    const int64_t more = fits ? param->shape[0] - tensor->shape[0] : 0;
    if (fits && !is_encoder && p->rebuild) {
        item->how = FZ_IMPORT_REBUILD;
        return FZ_OK;
    }
    if (fits && is_encoder && more > 0 && more < PADDING) {
        item->how = FZ_IMPORT_ROWS;
        return FZ_OK;
    }
    /* Rows that the port adds behind the original's. */
    if (fits && is_encoder && more < 0 && more > -PADDING && from->layout == FZ_NAMES_NATIVE)
        return FZ_OK;
    return complain_shape(p, param, from->path, tensor);
}

/* ---- what no folder holds ---- */

static fz_status fill_gap(planner *p, int i)
{
    static const char post[] = ".post_encoder_attention_layernorm.weight";
    const fz_param *param = &p->program->params[i];
    fz_import_item *item = &p->plan->items[i];
    const char *at = strstr(param->name, post);
    if (p->gemma >= 0 && at) {
        char name[FZ_NAME_BYTES];
        snprintf(name, sizeof name, "%.*s.post_attention_layernorm.weight", (int)(at - param->name),
                 param->name);
        const int same = find_param(p->program, name);
        if (same >= 0 && p->plan->items[same].tensor) {
            *item = p->plan->items[same];
            return FZ_OK;
        }
    }
    if (p->gemma >= 0 && strstr(param->name, ".encoder_attn")) return FZ_OK; /* initialised */
    return complain(p, "%s is in no folder that was given", param->name);
}

fz_status fz_import_plan_make(const fz_program *program, int n_sources,
                              const fz_import_source *sources, bool rebuild, fz_import_plan *plan)
{
    planner p = {.program = program,
                 .n_sources = n_sources,
                 .sources = sources,
                 .rebuild = rebuild,
                 .plan = plan};
    memset(plan, 0, sizeof *plan);
    FZ_CHECK(n_sources > 0, FZ_ERR_USAGE, "--from: a folder with safetensors files is needed");
    FZ_TRY(check_sources(&p));
    FZ_TRY(FZ_NEW(&plan->items, program->n_params));
    plan->n_items = program->n_params;
    for (int i = 0; i < plan->n_items; i++)
        plan->items[i] = (fz_import_item){.how = FZ_IMPORT_INIT, .source = -1};
    fz_status status = FZ_OK;
    for (int s = 0; s < n_sources && status == FZ_OK; s++)
        for (int t = 0; t < sources[s].n && status == FZ_OK; t++)
            status = place_one(&p, s, sources[s].tensors[t]);
    if (status == FZ_OK) status = place_table(&p, FZ_NAME_ENC_TABLE);
    if (status == FZ_OK && p.gemma < 0) status = place_table(&p, FZ_NAME_DEC_TABLE);
    for (int i = 0; i < plan->n_items && status == FZ_OK; i++)
        if (!plan->items[i].tensor) status = fill_gap(&p, i);
    if (status != FZ_OK) fz_import_plan_reset(plan);
    return status;
}

fz_status fz_import_plan_check(const fz_import_plan *plan)
{
    FZ_CHECK(plan->n_complaints == 0, FZ_ERR_FORMAT,
             "the folders and the config's model do not fit (%d %s); nothing was written; the "
             "first: %s",
             plan->n_complaints, plan->n_complaints == 1 ? "tensor" : "tensors",
             plan->complaints[0]);
    return FZ_OK;
}

void fz_import_plan_reset(fz_import_plan *plan)
{
    for (int i = 0; i < plan->n_complaints; i++)
        fz_free(&plan->complaints[i]);
    fz_free(&plan->complaints);
    fz_free(&plan->items);
    memset(plan, 0, sizeof *plan);
}
