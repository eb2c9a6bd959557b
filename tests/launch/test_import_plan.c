/* Which tensor becomes which parameter: whole lists of full-size models, none of them allocated,
 * and everything that can stand against it. */
#include "tests/support/unit.h"

#include "core/memory.h"
#include "launch/import_plan.h"

enum { MOST = 2000 };

/* A folder as an import sees it: names, shapes, types. */
typedef struct folder {
    char names[MOST][FZ_NAME_BYTES];
    fz_safetensor tensors[MOST];
    const fz_safetensor *list[MOST];
    int n;
} folder;

static fz_safetensor *add(folder *f, const char *name, int ndim, const int64_t *shape)
{
    fz_safetensor *tensor = &f->tensors[f->n];
    assert_true(f->n < MOST);
    snprintf(f->names[f->n], FZ_NAME_BYTES, "%s", name);
    *tensor = (fz_safetensor){.name = f->names[f->n], .dtype = FZ_DTYPE_F16, .ndim = ndim};
    tensor->elements = 1;
    for (int a = 0; a < ndim; a++) {
        tensor->shape[a] = shape[a];
        tensor->elements *= shape[a];
    }
    f->list[f->n++] = tensor;
    return tensor;
}

static fz_safetensor *find(folder *f, const char *name)
{
    for (int i = 0; i < f->n; i++)
        if (strcmp(f->names[i], name) == 0) return &f->tensors[i];
    fail_msg("no %s", name);
    return NULL;
}

static fz_program *make(const char *variant)
{
    fz_model_config config;
    fz_program *program = NULL;
    assert_ok(fz_model_variant(variant, &config));
    assert_ok(fz_program_create(&config, fz_model_auto_shards(&config), &program));
    return program;
}

static bool is_token_table(const char *name)
{
    return strcmp(name, FZ_NAME_ENC_TABLE) == 0 || strcmp(name, FZ_NAME_DEC_TABLE) == 0;
}

/* The folder that this layout's model of the program's sizes is in; Florence-2's with `rows` ids.
 */
static folder *fill(const fz_program *program, fz_names layout, int64_t rows)
{
    folder *f = calloc(1, sizeof *f);
    char name[FZ_NAME_BYTES], back[FZ_NAME_BYTES];
    const bool is_florence = layout == FZ_NAMES_ORIGINAL || layout == FZ_NAMES_NATIVE;
    assert_non_null(f);
    for (int i = 0; i < program->n_params; i++) {
        const fz_param *param = &program->params[i];
        int64_t shape[FZ_MAX_AXES];
        if (is_florence && is_token_table(param->name)) continue;
        if (!fz_name_write(layout, param->name, name)) continue;
        memcpy(shape, param->shape, sizeof shape);
        if (fz_name_read(layout, name, back) == FZ_NAME_TRANSPOSED) {
            shape[0] = param->shape[1];
            shape[1] = param->shape[0];
        }
        add(f, name, param->ndim, shape);
    }
    if (!is_florence) return f;
    assert_true(fz_name_write(layout, FZ_NAME_SHARED, name));
    add(f, name, 2, (const int64_t[]){rows, program->config.enc_width});
    return f;
}

static fz_import_source source_of(const folder *f, const char *path, fz_names layout)
{
    return (fz_import_source){.path = path, .layout = layout, .n = f->n, .tensors = f->list};
}

static int count(const fz_import_plan *plan, fz_import_how how)
{
    int n = 0;
    for (int i = 0; i < plan->n_items; i++)
        n += plan->items[i].how == how;
    return n;
}

static const fz_import_item *item_of(const fz_program *program, const fz_import_plan *plan,
                                     const char *name)
{
    for (int i = 0; i < program->n_params; i++)
        if (strcmp(program->params[i].name, name) == 0) return &plan->items[i];
    fail_msg("no parameter %s", name);
    return NULL;
}

static void assert_complaint(const fz_import_plan *plan, const char *part)
{
    for (int i = 0; i < plan->n_complaints; i++)
        if (strstr(plan->complaints[i], part)) return;
    fail_msg("none of %d complaints has \"%s\"; the first: %s", plan->n_complaints, part,
             plan->n_complaints > 0 ? plan->complaints[0] : "");
}

static void assert_nothing_wrong(const fz_import_plan *plan)
{
    if (plan->n_complaints > 0) fail_msg("%s", plan->complaints[0]);
    assert_ok(fz_import_plan_check(plan));
}

static void a_published_florenz_is_taken_tensor_by_tensor(void **state)
{
    static const char *const variants[] = {"0.4b", "1.0b", "3.5b", "11.2b"};
    (void)state;
    for (int v = 0; v < 4; v++) {
        fz_program *p = make(variants[v]);
        folder *f = fill(p, FZ_NAMES_FLORENZ, 0);
        fz_import_plan plan;
        add(f, "visual_temporal_embed.pos_idx_to_embed", 2, (const int64_t[]){100, 2048});
        add(f, "language_model.lm_head.weight", 2,
            find(f, FZ_NAME_DEC_TABLE)->shape); /* under both names */
        const fz_import_source source = source_of(f, "F", FZ_NAMES_FLORENZ);
        assert_ok(fz_import_plan_make(p, 1, &source, false, &plan));
        assert_nothing_wrong(&plan);
        assert_int_equal(count(&plan, FZ_IMPORT_TAKE), p->n_params);
        assert_int_equal(plan.n_dropped, 1);
        assert_int_equal(item_of(p, &plan, FZ_NAME_DEC_TABLE)->n_aliases, 1);
        fz_import_plan_reset(&plan);
        fz_program_destroy(&p);
        free(f);
    }
}

static void a_head_alone_is_the_decoder_s_table(void **state)
{
    fz_program *p = make("tiny-gemma");
    folder *f = fill(p, FZ_NAMES_FLORENZ, 0);
    fz_import_plan plan;
    (void)state;
    strcpy(f->names[find(f, FZ_NAME_DEC_TABLE) - f->tensors], "language_model.lm_head.weight");
    const fz_import_source source = source_of(f, "F", FZ_NAMES_FLORENZ);
    assert_ok(fz_import_plan_make(p, 1, &source, false, &plan));
    assert_nothing_wrong(&plan);
    assert_int_equal(item_of(p, &plan, FZ_NAME_DEC_TABLE)->how, FZ_IMPORT_TAKE);
    fz_import_plan_reset(&plan);
    fz_program_destroy(&p);
    free(f);
}

/* 0.4b and 1.0b from Florence-2 in both layouts: the encoder's table gets what padding it lacks,
 * the decoder's is rebuilt. */
static void florence_2_with_another_vocabulary_makes_the_small_models(void **state)
{
    static const struct {
        const char *variant;
        fz_names layout;
        int64_t rows;
        fz_import_how encoder;
    } rows[] = {{"0.4b", FZ_NAMES_ORIGINAL, 51289, FZ_IMPORT_ROWS},
                {"0.4b", FZ_NAMES_NATIVE, 51328, FZ_IMPORT_TAKE},
                {"1.0b", FZ_NAMES_ORIGINAL, 51289, FZ_IMPORT_ROWS},
                {"1.0b", FZ_NAMES_NATIVE, 51328, FZ_IMPORT_TAKE}};
    (void)state;
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        fz_program *p = make(rows[r].variant);
        folder *f = fill(p, rows[r].layout, rows[r].rows);
        fz_import_plan plan;
        const fz_import_source source = source_of(f, "O", rows[r].layout);
        assert_ok(fz_import_plan_make(p, 1, &source, true, &plan));
        assert_nothing_wrong(&plan);
        assert_int_equal(item_of(p, &plan, FZ_NAME_ENC_TABLE)->how, rows[r].encoder);
        assert_int_equal(item_of(p, &plan, FZ_NAME_DEC_TABLE)->how, FZ_IMPORT_REBUILD);
        assert_int_equal(item_of(p, &plan, "image_projection")->how,
                         rows[r].layout == FZ_NAMES_NATIVE ? FZ_IMPORT_TRANSPOSE : FZ_IMPORT_TAKE);
        assert_int_equal(count(&plan, FZ_IMPORT_INIT), 0);
        fz_import_plan_reset(&plan);

        /* Without that the numbers of ids disagree, and the error says what to do. */
        assert_ok(fz_import_plan_make(p, 1, &source, false, &plan));
        assert_int_equal(plan.n_complaints, 1);
        assert_complaint(&plan, "or --vocabulary rebuild");
        fz_import_plan_reset(&plan);
        fz_program_destroy(&p);
        free(f);
    }
}

/* The shape list of Florence-2-large in a program: 1.0b's, whose decoder is Florence-2's. */
static void assemble(const char *variant, fz_names layout, int64_t rows, int n_init)
{
    fz_program *p = make(variant), *large = make("1.0b");
    folder *florence = fill(large, layout, rows), *gemma = fill(p, FZ_NAMES_GEMMA, 0);
    fz_import_plan plan;
    static const char post[] = "language_model.model.decoder.layers.7.post_%sattention_layernorm"
                               ".weight";
    char name[FZ_NAME_BYTES], twin[FZ_NAME_BYTES];
    fz_import_source sources[] = {source_of(gemma, "G", FZ_NAMES_GEMMA),
                                  source_of(florence, "O", layout)};
    assert_ok(fz_import_plan_make(p, 2, sources, false, &plan));
    assert_nothing_wrong(&plan);
    assert_int_equal(count(&plan, FZ_IMPORT_INIT), n_init);
    assert_int_equal(item_of(p, &plan, FZ_NAME_ENC_TABLE)->how, FZ_IMPORT_TAKE);
    assert_int_equal(item_of(p, &plan, FZ_NAME_ENC_TABLE)->source, 1);
    assert_int_equal(item_of(p, &plan, FZ_NAME_DEC_TABLE)->source, 0);
    assert_int_equal(plan.n_dropped, 315);
    snprintf(name, sizeof name, post, "encoder_");
    snprintf(twin, sizeof twin, post, "");
    assert_ptr_equal(item_of(p, &plan, name)->tensor, item_of(p, &plan, twin)->tensor);
    fz_import_plan_reset(&plan);
    fz_program_destroy(&p);
    fz_program_destroy(&large);
    free(florence);
    free(gemma);
}

/* q, k, v, o and the gate of every layer are new. The port's rows behind 51,289 are left out. */
static void the_large_models_are_assembled_from_two_folders(void **state)
{
    (void)state;
    assemble("3.5b", FZ_NAMES_ORIGINAL, 51289, 5 * 26);
    assemble("3.5b", FZ_NAMES_NATIVE, 51328, 5 * 26);
    assemble("11.2b", FZ_NAMES_ORIGINAL, 51289, 5 * 42);
    assemble("11.2b", FZ_NAMES_NATIVE, 51328, 5 * 42);
}

static void every_tensor_that_does_not_fit_is_named(void **state)
{
    fz_program *p = make("1.0b");
    folder *f = fill(p, FZ_NAMES_ORIGINAL, 51328);
    fz_import_plan plan;
    (void)state;
    find(f, "language_model.model.encoder.embed_positions.weight")->shape[0] = 1026;
    find(f, "language_model.model.decoder.embed_positions.weight")->shape[0] = 1026;
    find(f, "image_projection")->shape[1] = 768;
    find(f, "image_proj_norm.bias")->dtype = FZ_DTYPE_I64;
    strcpy(f->names[find(f, "image_proj_norm.weight") - f->tensors], "image_proj_norm.wait");
    const fz_import_source source = source_of(f, "O", FZ_NAMES_ORIGINAL);
    assert_ok(fz_import_plan_make(p, 1, &source, true, &plan));
    assert_int_equal(plan.n_complaints, 6);
    assert_complaint(&plan, "O: language_model.model.encoder.embed_positions.weight has shape "
                            "(1026, 1024)");
    assert_complaint(&plan, "--set model.enc_positions=1026");
    assert_complaint(&plan, "--set model.dec_positions=1026");
    assert_complaint(&plan, "O: image_projection has shape (2048, 768)");
    assert_complaint(&plan, "O: image_proj_norm.bias is of type I64");
    assert_complaint(&plan, "O: image_proj_norm.wait: the config's model has no such tensor");
    assert_complaint(&plan, "image_proj_norm.weight is in no folder");
    assert_fails(fz_import_plan_check(&plan), FZ_ERR_FORMAT, "nothing was written");
    fz_import_plan_reset(&plan);
    fz_program_destroy(&p);
    free(f);
}

static void a_vocabulary_of_another_size_names_its_key(void **state)
{
    fz_program *p = make("0.4b");
    folder *f = fill(p, FZ_NAMES_ORIGINAL, 50265); /* BART's own */
    fz_import_plan plan;
    (void)state;
    const fz_import_source source = source_of(f, "O", FZ_NAMES_ORIGINAL);
    assert_ok(fz_import_plan_make(p, 1, &source, true, &plan));
    assert_int_equal(plan.n_complaints, 1);
    assert_complaint(&plan, "--set model.enc_vocab=50265");
    fz_import_plan_reset(&plan);
    fz_program_destroy(&p);
    free(f);
}

static void a_tensor_that_an_assembly_lacks_is_named(void **state)
{
    fz_program *p = make("3.5b"), *large = make("1.0b");
    folder *florence = fill(large, FZ_NAMES_NATIVE, 51289), *gemma = fill(p, FZ_NAMES_GEMMA, 0);
    fz_import_plan plan;
    (void)state;
    strcpy(gemma->names[find(gemma, "model.norm.weight") - gemma->tensors], "model.norm.wait");
    const fz_import_source sources[] = {source_of(florence, "N", FZ_NAMES_NATIVE),
                                        source_of(gemma, "G", FZ_NAMES_GEMMA)};
    assert_ok(fz_import_plan_make(p, 2, sources, false, &plan));
    assert_int_equal(plan.n_complaints, 2);
    assert_complaint(&plan, "G: model.norm.wait: the config's model has no such tensor");
    assert_complaint(&plan, "language_model.model.decoder.norm.weight is in no folder");
    fz_import_plan_reset(&plan);
    fz_program_destroy(&p);
    fz_program_destroy(&large);
    free(florence);
    free(gemma);
}

static void folders_that_do_not_make_the_model_are_refused(void **state)
{
    fz_program *bart = make("tiny-bart"), *gemma = make("tiny-gemma");
    folder *empty = calloc(1, sizeof *empty);
    fz_import_plan plan;
    (void)state;
    const fz_import_source f = source_of(empty, "F", FZ_NAMES_FLORENZ),
                           o = source_of(empty, "O", FZ_NAMES_ORIGINAL),
                           n = source_of(empty, "N", FZ_NAMES_NATIVE),
                           g = source_of(empty, "G", FZ_NAMES_GEMMA);
    const struct {
        const fz_program *program;
        int n;
        fz_import_source sources[2];
        bool rebuild;
        const char *text;
    } rows[] = {
        {bart, 0, {f}, false, "--from: a folder"},
        {bart, 1, {g}, false, "G is a Gemma-2 model, but the config's decoder is Florence-2's"},
        {bart, 2, {o, g}, false, "G is a Gemma-2 model, but"},
        {bart, 2, {o, n}, false, "N is a Florence-2 model (transformers' names) like O"},
        {bart, 2, {f, o}, false, "F is a whole Florenz model"},
        {bart, 2, {f, f}, false, "F is a Florenz model like F"},
        {bart, 1, {f}, true, "--vocabulary rebuild"},
        {gemma, 1, {o}, false, "O is a Florence-2 model alone"},
        {gemma, 1, {g}, false, "G is a Gemma-2 model alone"},
        {gemma, 2, {o, g}, true, "--vocabulary rebuild"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_fails(fz_import_plan_make(rows[i].program, rows[i].n, rows[i].sources,
                                         rows[i].rebuild, &plan),
                     FZ_ERR_USAGE, rows[i].text);
    fz_program_destroy(&bart);
    fz_program_destroy(&gemma);
    free(empty);
    assert_int_equal(fz_memory_get().n_live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_published_florenz_is_taken_tensor_by_tensor),
        cmocka_unit_test(a_head_alone_is_the_decoder_s_table),
        cmocka_unit_test(florence_2_with_another_vocabulary_makes_the_small_models),
        cmocka_unit_test(the_large_models_are_assembled_from_two_folders),
        cmocka_unit_test(every_tensor_that_does_not_fit_is_named),
        cmocka_unit_test(a_vocabulary_of_another_size_names_its_key),
        cmocka_unit_test(a_tensor_that_an_assembly_lacks_is_named),
        cmocka_unit_test(folders_that_do_not_make_the_model_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
