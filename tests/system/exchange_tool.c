/* Makes folders of random weights in the names of public models and compares folders: what the
 * tests of florenz ckpt import and export stand on.
 *
 *   make LAYOUT VARIANT FOLDER [--dtype T] [--rows N] [--max-file-bytes N] [--head] [--nan NAME]
 *        [--inf NAME] [--large NAME] [--drop NAME] [--add NAME] [--rename FROM TO] [--untie] [--set
 * KEY=VALUE] equal A B [TYPE]              the same names and bits; or B is A rounded to TYPE
 *   assembled FOLDER FLORENCE GEMMA
 *   loads TOKENIZER               whether this build reads it
 *   rebuilt FOLDER FLORENCE ENC_TOKENIZER DEC_TOKENIZER
 *
 * A value depends on the parameter's name and the element alone: two layouts of a model agree.
 */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/safetensors.h"
#include "core/memory.h"
#include "core/rng.h"
#include "data/tokenizer.h"
#include "launch/config.h"
#include "model/names.h"
#include "model/program.h"

enum { MOST = 2000, CHUNK = 1 << 20, MOST_ROW = 1 << 16 };

static void need(bool held, const char *what, const char *more)
{
    if (held) return;
    fprintf(stderr, "exchange_tool: %s %s\n", what, more);
    exit(1);
}

static void must(fz_status status)
{
    need(status == FZ_OK, "error:", fz_last_error()->text);
}

/* ---- make ---- */

typedef struct maker {
    fz_names layout;
    fz_program *program;
    fz_dtype dtype;
    int64_t rows, max_file_bytes;
    const char *nan, *inf, *large, *drop, *add, *rename[2];
    bool has_head, is_untied;
    int n;
    fz_safetensor tensors[MOST];
    char names[MOST][FZ_NAME_BYTES], params[MOST][FZ_NAME_BYTES];
    bool transposed[MOST];
} maker;

static fz_safetensor *add(maker *m, const char *name, const char *param, int ndim,
                          const int64_t *shape)
{
    fz_safetensor *tensor = &m->tensors[m->n];
    need(m->n < MOST, "too many tensors", name);
    if (m->drop && strcmp(name, m->drop) == 0) return NULL;
    if (m->rename[0] && strcmp(name, m->rename[0]) == 0) name = m->rename[1];
    snprintf(m->names[m->n], FZ_NAME_BYTES, "%s", name);
    snprintf(m->params[m->n], FZ_NAME_BYTES, "%s", param);
    *tensor =
        (fz_safetensor){.name = m->names[m->n], .dtype = m->dtype, .ndim = ndim, .elements = 1};
    for (int a = 0; a < ndim; a++) {
        tensor->shape[a] = shape[a];
        tensor->elements *= shape[a];
    }
    m->n++;
    return tensor;
}

static bool is_table(const char *name)
{
    return strcmp(name, FZ_NAME_ENC_TABLE) == 0 || strcmp(name, FZ_NAME_DEC_TABLE) == 0;
}

static void list_tensors(maker *m)
{
    const fz_program *p = m->program;
    const bool is_florence = m->layout == FZ_NAMES_ORIGINAL || m->layout == FZ_NAMES_NATIVE;
    const int64_t table[2] = {m->rows, p->config.enc_width};
    char name[FZ_NAME_BYTES], back[FZ_NAME_BYTES];
    for (int i = 0; i < p->n_params; i++) {
        const fz_param *param = &p->params[i];
        int64_t shape[FZ_MAX_AXES];
        if ((is_florence && is_table(param->name)) || !fz_name_write(m->layout, param->name, name))
            continue;
        memcpy(shape, param->shape, sizeof shape);
        const bool turn = fz_name_read(m->layout, name, back) == FZ_NAME_TRANSPOSED;
        if (turn) {
            shape[0] = param->shape[1];
            shape[1] = param->shape[0];
        }
        m->transposed[m->n] = turn;
        add(m, name, param->name, param->ndim, shape);
    }
    if (is_florence) {
        must(fz_name_write(m->layout, FZ_NAME_SHARED, name) ? FZ_OK : FZ_ERR_ARG);
        add(m, name, FZ_NAME_SHARED, 2, table);
    }
    if (m->layout == FZ_NAMES_ORIGINAL)
        add(m, "language_model.final_logits_bias", "bias", 2, (const int64_t[]){1, m->rows});
    if (m->has_head) {
        const int64_t own[2] = {p->config.dec_vocab, p->config.dec_width};
        add(m,
            m->layout == FZ_NAMES_FLORENZ || m->layout == FZ_NAMES_ORIGINAL
                ? "language_model.lm_head.weight"
                : "lm_head.weight",
            m->is_untied  ? "another table"
            : is_florence ? FZ_NAME_SHARED
                          : FZ_NAME_DEC_TABLE,
            2, is_florence ? table : own);
    }
    if (m->add) add(m, m->add, m->add, 1, (const int64_t[]){4});
}

/* Values of the parameter at flat positions of the stored tensor. */
static void values(const maker *m, int i, int64_t first, int64_t n, float *x)
{
    const fz_safetensor *tensor = &m->tensors[i];
    const uint64_t key = fz_hash_text(m->params[i]);
    if (!m->transposed[i])
        fz_rng_normal(x, key, first, n);
    else /* (r, c) of the stored one is (c, r) of the parameter */
        for (int64_t k = 0; k < n; k++) {
            const int64_t r = (first + k) / tensor->shape[1], c = (first + k) % tensor->shape[1];
            fz_rng_normal(x + k, key, c * tensor->shape[0] + r, 1);
        }
    for (int64_t k = 0; k < n; k++)
        x[k] *= 0.02f;
    if (first == 0 && m->nan && strcmp(m->names[i], m->nan) == 0) x[n / 2] = x[0] = NAN;
    if (first == 0 && m->inf && strcmp(m->names[i], m->inf) == 0) x[n - 1] = INFINITY;
    if (first == 0 && m->large && strcmp(m->names[i], m->large) == 0) {
        x[0] = 65519.0f; /* the largest that is still rounded to a finite F16 */
        x[1] = -65520.0f;
        x[2] = 3e38f;
    }
}

static void write_folder(maker *m, const char *folder)
{
    static const char *const metadata[][2] = {{"format", "pt"}, {NULL, NULL}};
    fz_safetensors_writer *writer = NULL;
    float *x = NULL;
    must(FZ_NEW(&x, CHUNK));
    must(fz_safetensors_writer_create(folder, m->n, m->tensors, m->max_file_bytes, metadata,
                                      &writer));
    must(fz_safetensors_writer_start(writer));
    for (int i = 0; i < m->n; i++)
        for (int64_t at = 0, n; at < m->tensors[i].elements; at += n) {
            n = m->tensors[i].elements - at < CHUNK ? m->tensors[i].elements - at : CHUNK;
            values(m, i, at, n, x);
            must(fz_safetensors_write(writer, i, at, n, x));
        }
    must(fz_safetensors_writer_sync(writer));
    must(fz_safetensors_writer_commit(writer));
    fz_safetensors_writer_destroy(&writer);
    fz_free(&x);
}

static int word_index(const char *const *words, int n, const char *word)
{
    for (int i = 0; i < n; i++)
        if (strcmp(words[i], word) == 0) return i;
    need(false, "unknown word", word);
    return 0;
}

static int make(int argc, char **argv)
{
    static maker m;
    static fz_config config;
    fz_model_config model;
    char set[128];
    need(argc >= 5, "usage:", "make LAYOUT VARIANT FOLDER [OPTION]...");
    m.layout = (fz_names)word_index(FZ_NAMES_WORDS, FZ_N_NAMES, argv[2]);
    m.dtype = FZ_DTYPE_F32;
    m.max_file_bytes = INT64_C(5000000000);
    fz_config_init(&config, "-");
    snprintf(set, sizeof set, "model.variant=%s", argv[3]);
    must(fz_config_set(&config, set));
    for (int i = 5; i < argc; i++) {
        const char *option = argv[i];
        if (strcmp(option, "--head") == 0 || strcmp(option, "--untie") == 0) {
            m.has_head = true;
            m.is_untied = m.is_untied || strcmp(option, "--untie") == 0;
            continue;
        }
        need(i + 1 < argc, "a value is missing for", option);
        const char *value = argv[++i];
        if (strcmp(option, "--dtype") == 0)
            m.dtype = (fz_dtype)word_index(FZ_DTYPE_NAMES, FZ_N_DTYPES, value);
        else if (strcmp(option, "--rows") == 0)
            m.rows = strtoll(value, NULL, 10);
        else if (strcmp(option, "--max-file-bytes") == 0)
            m.max_file_bytes = strtoll(value, NULL, 10);
        else if (strcmp(option, "--nan") == 0)
            m.nan = value;
        else if (strcmp(option, "--inf") == 0)
            m.inf = value;
        else if (strcmp(option, "--large") == 0)
            m.large = value;
        else if (strcmp(option, "--drop") == 0)
            m.drop = value;
        else if (strcmp(option, "--add") == 0)
            m.add = value;
        else if (strcmp(option, "--set") == 0)
            must(fz_config_set(&config, value));
        else if (strcmp(option, "--rename") == 0 && i + 1 < argc) {
            m.rename[0] = value;
            m.rename[1] = argv[++i];
        } else
            need(false, "unknown option", option);
    }
    must(fz_config_model(&config, &model));
    must(fz_program_create(&model, fz_model_auto_shards(&model), &m.program));
    if (m.rows == 0) m.rows = model.enc_vocab;
    list_tensors(&m);
    write_folder(&m, argv[4]);
    fz_program_destroy(&m.program);
    return 0;
}

/* ---- comparing ---- */

static fz_safetensors *open_folder(const char *path)
{
    fz_safetensors *folder = NULL;
    must(fz_safetensors_open(path, &folder));
    return folder;
}

static const fz_safetensor *get(const fz_safetensors *folder, const char *name)
{
    const fz_safetensor *tensor = fz_safetensors_find(folder, name);
    need(tensor != NULL, "no tensor", name);
    return tensor;
}

static float *read_floats(const fz_safetensors *folder, const fz_safetensor *tensor, int64_t first,
                          int64_t n)
{
    float *x = NULL;
    must(FZ_NEW(&x, n));
    must(fz_safetensors_read_float(folder, tensor, first, n, x));
    return x;
}

/* Through a type and back. */
static void round_to(fz_dtype dtype, float *x, int64_t n)
{
    uint16_t *narrow = NULL;
    if (dtype == FZ_DTYPE_F32) return;
    must(FZ_NEW(&narrow, n));
    if (dtype == FZ_DTYPE_F16) {
        fz_narrow_f16(narrow, x, n);
        fz_widen_f16(x, narrow, n);
    } else {
        fz_narrow_bf16(narrow, x, n);
        fz_widen_bf16(x, narrow, n);
    }
    fz_free(&narrow);
}

/* The first n elements of both, where one may begin elsewhere. */
static void same(const fz_safetensors *a, const fz_safetensor *ta, int64_t first,
                 const fz_safetensors *b, const fz_safetensor *tb, int64_t n, fz_dtype dtype)
{
    for (int64_t at = 0; at < n; at += CHUNK) {
        const int64_t part = n - at < CHUNK ? n - at : CHUNK;
        float *x = read_floats(a, ta, first + at, part), *y = read_floats(b, tb, at, part);
        round_to(dtype, x, part);
        need(memcmp(x, y, (size_t)part * sizeof *x) == 0, "differs:", tb->name);
        fz_free(&x);
        fz_free(&y);
    }
}

static bool is_same_shape(const fz_safetensor *a, const fz_safetensor *b)
{
    return a->ndim == b->ndim &&
           memcmp(a->shape, b->shape, (size_t)a->ndim * sizeof a->shape[0]) == 0;
}

static int equal(const char *path_a, const char *path_b, const char *type)
{
    fz_safetensors *a = open_folder(path_a), *b = open_folder(path_b);
    const fz_dtype dtype =
        type ? (fz_dtype)word_index(FZ_DTYPE_NAMES, FZ_N_DTYPES, type) : FZ_DTYPE_F32;
    int n = 0;
    for (int i = 0; i < fz_safetensors_count(b); i++) {
        const fz_safetensor *tb = fz_safetensors_get(b, i);
        if (strcmp(tb->name, "visual_temporal_embed.pos_idx_to_embed") == 0) continue;
        const fz_safetensor *ta = get(a, tb->name);
        need(is_same_shape(ta, tb), "another shape:", tb->name);
        need(tb->dtype == dtype, "another type:", tb->name);
        same(a, ta, 0, b, tb, tb->elements, dtype);
        n++;
    }
    for (int i = 0; i < fz_safetensors_count(a); i++) {
        const char *name = fz_safetensors_get(a, i)->name;
        if (strcmp(name, "visual_temporal_embed.pos_idx_to_embed") != 0 &&
            strcmp(name, "language_model.lm_head.weight") != 0)
            get(b, name);
    }
    printf("%d tensors are equal\n", n);
    fz_safetensors_close(&a);
    fz_safetensors_close(&b);
    return n > 0 ? 0 : 1;
}

static bool has(const char *name, const char *part)
{
    return strstr(name, part) != NULL;
}

/* The tensor of `from` that is the parameter; NULL: none. */
static const fz_safetensor *source_of(const fz_safetensors *from, fz_names layout,
                                      const char *param)
{
    char name[FZ_NAME_BYTES];
    const fz_safetensor *tensor = NULL;
    if (strcmp(param, FZ_NAME_ENC_TABLE) == 0 && layout != FZ_NAMES_GEMMA) param = FZ_NAME_SHARED;
    if (fz_name_write(layout, param, name)) tensor = fz_safetensors_find(from, name);
    return tensor;
}

static fz_names layout_of(const fz_safetensors *folder)
{
    const char *names[MOST];
    fz_names layout = FZ_NAMES_FLORENZ;
    const int n = fz_safetensors_count(folder);
    for (int i = 0; i < n && i < MOST; i++)
        names[i] = fz_safetensors_get(folder, i)->name;
    need(n <= MOST && fz_names_detect(n, names, &layout), "unknown", "layout");
    return layout;
}

/* Mean 0 and standard deviation 0.02, to four standard errors; a gate is 0. */
static void check_new(const fz_safetensors *folder, const fz_safetensor *tensor)
{
    float *x = read_floats(folder, tensor, 0, tensor->elements);
    const double n = (double)tensor->elements;
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < tensor->elements; i++) {
        sum += (double)x[i];
        squares += (double)x[i] * (double)x[i];
    }
    if (has(tensor->name, "_gate"))
        need(squares == 0 && n == 1, "is not 0:", tensor->name);
    else
        need(fabs(sum / n) < 4 * 0.02 / sqrt(n) && fabs(sqrt(squares / n) / 0.02 - 1) < 4 / sqrt(n),
             "is not normal:", tensor->name);
    fz_free(&x);
}

static int assembled(const char *path, const char *florence_path, const char *gemma_path)
{
    fz_safetensors *made = open_folder(path), *florence = open_folder(florence_path),
                   *gemma = open_folder(gemma_path);
    const fz_names layout = layout_of(florence);
    static const char post[] = ".post_encoder_attention_layernorm";
    int n_new = 0, n_copied = 0;
    for (int i = 0; i < fz_safetensors_count(made); i++) {
        const fz_safetensor *tensor = fz_safetensors_get(made, i);
        char twin[FZ_NAME_BYTES];
        const char *param = tensor->name, *at = strstr(tensor->name, post);
        if (has(tensor->name, "visual_temporal_embed")) continue;
        if (at) {
            snprintf(twin, sizeof twin, "%.*s.post_attention_layernorm%s", (int)(at - tensor->name),
                     tensor->name, at + strlen(post));
            param = twin;
            n_copied++;
        }
        const bool in_decoder = has(param, FZ_NAME_DECODER);
        const fz_safetensors *from = in_decoder ? gemma : florence;
        const fz_safetensor *source = source_of(from, in_decoder ? FZ_NAMES_GEMMA : layout, param);
        if (source && !(layout == FZ_NAMES_NATIVE && has(param, "image_projection"))) {
            same(from, source, 0, made, tensor, tensor->elements, FZ_DTYPE_F32);
        } else if (source) { /* transposed */
            float *x = read_floats(from, source, 0, source->elements),
                  *y = read_floats(made, tensor, 0, tensor->elements);
            for (int64_t r = 0; r < tensor->shape[0]; r++)
                for (int64_t c = 0; c < tensor->shape[1]; c++)
                    need(y[r * tensor->shape[1] + c] == x[c * tensor->shape[0] + r],
                         "is not transposed:", tensor->name);
            fz_free(&x);
            fz_free(&y);
        } else {
            need(has(tensor->name, ".encoder_attn"), "comes from nowhere:", tensor->name);
            check_new(made, tensor);
            n_new++;
        }
    }
    need(n_new == 5 * n_copied && n_new > 0, "not five new tensors", "a layer");
    printf("%d tensors: %d new, %d copied\n", fz_safetensors_count(made), n_new, n_copied);
    fz_safetensors_close(&made);
    fz_safetensors_close(&florence);
    fz_safetensors_close(&gemma);
    return 0;
}

/* The row that an id of the decoder's tokenizer must have; false: it has no text. */
static bool wanted_row(const fz_tokenizer *enc, const fz_tokenizer *dec, int32_t id,
                       const float *table, int64_t width, float *row)
{
    static const int32_t special[] = {1, 2, 0, 3};
    char text[1024], *from = text;
    int32_t parts[1024] = {0};
    int64_t n = 1;
    size_t bytes = 0;
    must(fz_tokenizer_piece(dec, id, text, sizeof text, &bytes));
    if (strncmp(text, "\xE2\x96\x81", 3) == 0) {
        from = text + 2;
        *from = ' ';
    }
    if (id < 4)
        parts[0] = special[id];
    else
        must(fz_tokenizer_encode(enc, from, parts, 1024, &n));
    for (int64_t c = 0; c < width; c++) {
        double sum = 0;
        for (int64_t k = 0; k < n; k++)
            sum += (double)table[parts[k] * width + c];
        row[c] = (float)(sum / (double)n);
    }
    return n > 0;
}

static int rebuilt(char **argv)
{
    fz_safetensors *made = open_folder(argv[2]), *florence = open_folder(argv[3]);
    const fz_safetensor *old = source_of(florence, layout_of(florence), FZ_NAME_ENC_TABLE),
                        *enc_table = get(made, FZ_NAME_ENC_TABLE),
                        *dec_table = get(made, FZ_NAME_DEC_TABLE);
    fz_tokenizer *enc = NULL, *dec = NULL;
    static float row[MOST_ROW];
    const int64_t width = old->shape[1];
    need(width <= MOST_ROW, "too wide", "");
    must(fz_tokenizer_load(argv[4], &enc));
    must(fz_tokenizer_load(argv[5], &dec));
    same(florence, old, 0, made, enc_table, old->elements, FZ_DTYPE_F32);
    float *table = read_floats(florence, old, 0, old->elements);
    float *x = read_floats(made, dec_table, 0, dec_table->elements);
    const int64_t n = fz_tokenizer_vocab(dec);
    int64_t n_means = 0;
    for (int64_t id = 0; id < n; id++) {
        if (!wanted_row(enc, dec, (int32_t)id, table, width, row)) continue;
        need(memcmp(row, x + id * width, (size_t)width * sizeof *row) == 0, "not the mean", "");
        n_means++;
    }
    /* What has no id is new: numbers, and none of them twice. */
    for (int64_t id = n; id < dec_table->shape[0]; id++)
        need(x[id * width] != 0 && fabsf(x[id * width]) < 0.2f && x[id * width] != x[0],
             "a new row is not new", "");
    printf("%lld rows are means, %lld are new\n", (long long)n_means,
           (long long)(dec_table->shape[0] - n));
    fz_free(&table);
    fz_free(&x);
    fz_tokenizer_destroy(&enc);
    fz_tokenizer_destroy(&dec);
    fz_safetensors_close(&made);
    fz_safetensors_close(&florence);
    return n_means > 4 ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "make") == 0) return make(argc, argv);
    if ((argc == 4 || argc == 5) && strcmp(argv[1], "equal") == 0)
        return equal(argv[2], argv[3], argc == 5 ? argv[4] : NULL);
    if (argc == 5 && strcmp(argv[1], "assembled") == 0) return assembled(argv[2], argv[3], argv[4]);
    if (argc == 3 && strcmp(argv[1], "loads") == 0) {
        fz_tokenizer *tokenizer = NULL;
        const fz_status status = fz_tokenizer_load(argv[2], &tokenizer);
        fz_tokenizer_destroy(&tokenizer);
        return status == FZ_OK ? 0 : 1;
    }
    if (argc == 6 && strcmp(argv[1], "rebuilt") == 0) return rebuilt(argv);
    fprintf(stderr, "usage: the head of exchange_tool.c\n");
    return 1;
}
