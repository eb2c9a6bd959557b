/* Names in the layouts of others: there and back for every tensor of the full-size models, and
 * against lists of names and shapes that another program wrote (tests/reference/make_names.py). */
#include "tests/support/unit.h"

#include "model/names.h"
#include "model/program.h"

enum { MOST_TENSORS = 2000 };

static fz_program *make(const char *variant)
{
    fz_model_config config;
    fz_program *program = NULL;
    assert_ok(fz_model_variant(variant, &config));
    assert_ok(fz_program_create(&config, fz_model_auto_shards(&config), &program));
    return program;
}

static const fz_param *find(const fz_program *program, const char *name)
{
    for (int i = 0; i < program->n_params; i++)
        if (strcmp(program->params[i].name, name) == 0) return &program->params[i];
    return NULL;
}

/* How many of the program's names a layout has; each must come back as it was. */
static int there_and_back(const fz_program *program, fz_names layout, int *n_transposed)
{
    int n = 0;
    *n_transposed = 0;
    for (int i = 0; i < program->n_params; i++) {
        const char *name = program->params[i].name;
        char theirs[FZ_NAME_BYTES], back[FZ_NAME_BYTES];
        if (!fz_name_write(layout, name, theirs)) continue;
        const fz_name_role role = fz_name_read(layout, theirs, back);
        assert_true(role == FZ_NAME_PARAM || role == FZ_NAME_TRANSPOSED);
        assert_string_equal(back, name);
        *n_transposed += role == FZ_NAME_TRANSPOSED;
        n++;
    }
    return n;
}

static void every_tensor_goes_there_and_back(void **state)
{
    /* model.md 16: vision 400, projector 5, encoder 3 + 16 L, decoder 3 + 26 L or 2 + 11 L + 6 L;
     * O and N without the two token tables. */
    static const struct {
        const char *variant;
        int florenz, florence, gemma;
    } rows[] = {
        {"0.4b", 400 + 5 + 99 + 159 + 2, 400 + 5 + 99 + 159, 0},
        {"1.0b", 400 + 5 + 195 + 315 + 2, 400 + 5 + 195 + 315, 0},
        {"3.5b", 400 + 5 + 196 + 444, 0, 288},
        {"11.2b", 400 + 5 + 196 + 716, 0, 464},
    };
    int n_transposed;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fz_program *p = make(rows[i].variant);
        assert_int_equal(p->n_params, rows[i].florenz);
        assert_int_equal(there_and_back(p, FZ_NAMES_FLORENZ, &n_transposed), rows[i].florenz);
        assert_int_equal(n_transposed, 0);
        if (rows[i].florence > 0) {
            assert_int_equal(there_and_back(p, FZ_NAMES_ORIGINAL, &n_transposed), rows[i].florence);
            assert_int_equal(n_transposed, 0);
            assert_int_equal(there_and_back(p, FZ_NAMES_NATIVE, &n_transposed), rows[i].florence);
            assert_int_equal(n_transposed, 1);
        }
        if (rows[i].gemma > 0)
            assert_int_equal(there_and_back(p, FZ_NAMES_GEMMA, &n_transposed), rows[i].gemma);
        fz_program_destroy(&p);
    }
}

/* "name size size ..." of a line, into tensor. */
static void read_line(char *line, fz_state_tensor *tensor)
{
    char *rest = line;
    const char *name = strtok_r(line, " \n", &rest);
    memset(tensor, 0, sizeof *tensor);
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    for (char *size; (size = strtok_r(NULL, " \n", &rest)) != NULL;)
        tensor->shape[tensor->ndim++] = strtoll(size, NULL, 10);
}

static int read_list(const char *name, fz_state_tensor *tensors)
{
    char path[512], line[512];
    int n = 0;
    snprintf(path, sizeof path, FZ_SOURCE_DIR "/tests/reference/fixtures/%s", name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        assert_true(n < MOST_TENSORS);
        read_line(line, &tensors[n++]);
    }
    fclose(file);
    return n;
}

static void assert_shape(const fz_param *param, const fz_state_tensor *tensor, bool transposed)
{
    assert_int_equal(param->ndim, tensor->ndim);
    for (int a = 0; a < param->ndim; a++)
        assert_int_equal(param->shape[transposed ? 1 - a : a], tensor->shape[a]);
}

static void assert_detected(int n, const fz_state_tensor *tensors, fz_names wanted)
{
    const char *names[MOST_TENSORS];
    fz_names layout;
    for (int i = 0; i < n; i++)
        names[i] = tensors[i].name;
    assert_true(fz_names_detect(n, names, &layout));
    assert_int_equal(layout, wanted);
}

/* Florence-2-base as the library has it: each tensor of 0.4b but its own two tables, once. */
static void the_library_s_florence_2_names_are_known(void **state)
{
    static fz_state_tensor tensors[MOST_TENSORS];
    fz_program *p = make("0.4b");
    const int n = read_list("names-native-base.txt", tensors);
    int n_params = 0, n_tables = 0, n_buffers = 0;
    char name[FZ_NAME_BYTES];
    (void)state;
    assert_detected(n, tensors, FZ_NAMES_NATIVE);
    for (int i = 0; i < n; i++) {
        const fz_name_role role = fz_name_read(FZ_NAMES_NATIVE, tensors[i].name, name);
        assert_int_not_equal(role, FZ_NAME_STRANGE);
        n_buffers += role == FZ_NAME_BUFFER;
        if (role == FZ_NAME_TABLE) {
            assert_string_equal(name, FZ_NAME_SHARED);
            n_tables++;
        }
        if (role != FZ_NAME_PARAM && role != FZ_NAME_TRANSPOSED) continue;
        const fz_param *param = find(p, name);
        if (!param) fail_msg("%s became %s", tensors[i].name, name);
        assert_shape(param, &tensors[i], role == FZ_NAME_TRANSPOSED);
        n_params++;
    }
    assert_int_equal(n_params, p->n_params - 2);
    assert_int_equal(n_tables, 4);
    assert_int_equal(n_buffers, 1);
    fz_program_destroy(&p);
}

/* Gemma-2-2b: each tensor of 3.5b's decoder but the cross-attention, the head under a second name.
 */
static void the_library_s_gemma_2_names_are_known(void **state)
{
    static fz_state_tensor tensors[MOST_TENSORS];
    fz_program *p = make("3.5b");
    const int n = read_list("names-gemma-2-2b.txt", tensors);
    int n_tables = 0;
    char name[FZ_NAME_BYTES];
    (void)state;
    assert_int_equal(n, 288 + 1);
    assert_detected(n, tensors, FZ_NAMES_GEMMA);
    for (int i = 0; i < n; i++) {
        assert_int_equal(fz_name_read(FZ_NAMES_GEMMA, tensors[i].name, name), FZ_NAME_PARAM);
        const fz_param *param = find(p, name);
        if (!param) fail_msg("%s became %s", tensors[i].name, name);
        assert_shape(param, &tensors[i], false);
        n_tables += strcmp(name, FZ_NAME_DEC_TABLE) == 0;
    }
    assert_int_equal(n_tables, 2);
    fz_program_destroy(&p);
}

static void layouts_are_told_apart(void **state)
{
    static const struct {
        const char *names[4];
        int n, layout; /* -1: none */
    } rows[] = {
        {{"vision_tower.convs.0.proj.bias", FZ_NAME_SHARED, FZ_NAME_ENC_TABLE}, 3, 1},
        {{"vision_tower.convs.0.proj.bias", "language_model.lm_head.weight"}, 2, 1},
        {{"vision_tower.convs.0.proj.bias", FZ_NAME_ENC_TABLE, FZ_NAME_DEC_TABLE}, 3, 0},
        {{"vision_tower.convs.0.proj.bias", FZ_NAME_ENC_TABLE, "language_model.final_logits_bias"},
         3,
         1},
        {{"model.multi_modal_projector.image_proj_norm.bias"}, 1, 2},
        {{"model.layers.0.pre_feedforward_layernorm.weight"}, 1, 3},
        {{"model.layers.0.pre_feedforward_layernorm.weight",
          "model.layers.0.self_attn.q_norm.weight"},
         2,
         -1}, /* Gemma-3 */
        {{"model.layers.0.input_layernorm.weight"}, 1, -1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fz_names layout = FZ_N_NAMES;
        assert_int_equal(fz_names_detect(rows[i].n, rows[i].names, &layout), rows[i].layout >= 0);
        if (rows[i].layout >= 0) assert_int_equal(layout, rows[i].layout);
    }
}

static void strange_names_and_buffers_are_no_parameters(void **state)
{
    static const struct {
        const char *name;
        fz_names layout;
        fz_name_role role;
    } rows[] = {
        {"language_model.final_logits_bias", FZ_NAMES_ORIGINAL, FZ_NAME_BUFFER},
        {"visual_temporal_embed.pos_idx_to_embed", FZ_NAMES_FLORENZ, FZ_NAME_BUFFER},
        {"model.layers.3.self_attn.rotary_emb.inv_freq", FZ_NAMES_GEMMA, FZ_NAME_BUFFER},
        {"language_model.model.encoder.embed_tokens.weight", FZ_NAMES_ORIGINAL, FZ_NAME_TABLE},
        {"lm_head.weight", FZ_NAMES_NATIVE, FZ_NAME_TABLE},
        {"lm_head.weight", FZ_NAMES_GEMMA, FZ_NAME_PARAM},
        {"vision_tower.convs.0.conv.weight", FZ_NAMES_NATIVE, FZ_NAME_STRANGE},
        {"model.vision_tower.convs.0.proj.weight", FZ_NAMES_NATIVE, FZ_NAME_STRANGE},
        {"model.vision_tower.blocks.0.0.spatial_block.channel_attn.qkv.weight", FZ_NAMES_NATIVE,
         FZ_NAME_STRANGE},
        {"transformer.h.0.attn.weight", FZ_NAMES_GEMMA, FZ_NAME_STRANGE},
    };
    char name[FZ_NAME_BYTES];
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (fz_name_read(rows[i].layout, rows[i].name, name) != rows[i].role)
            fail_msg("%s", rows[i].name);
}

/* Full-size tensors are cut for tensor parallel sizes up to the shards, without being allocated:
 * a rank of t holds S/t consecutive pieces, and all ranks' together are the tensor once. */
static void full_size_pieces_cover_every_tensor_once(void **state)
{
    static const char *const variants[] = {"0.4b", "1.0b", "3.5b", "11.2b"};
    (void)state;
    for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
        fz_program *p = make(variants[v]);
        for (int64_t t = 1; t <= p->n_shards; t *= 2)
            for (int i = 0; i < p->n_params; i++) {
                const fz_param *param = &p->params[i];
                const int axis = param->cut == FZ_CUT_COLS ? 1 : 0;
                int64_t at = 0; /* the axis is covered up to here */
                for (int64_t s = 0; s < fz_param_pieces(param, p->n_shards); s++) {
                    int64_t lo[FZ_MAX_AXES], hi[FZ_MAX_AXES], n = 1;
                    fz_param_piece_box(param, p->n_shards, s, lo, hi);
                    for (int a = 0; a < param->ndim; a++) {
                        if (a != axis) assert_true(lo[a] == 0 && hi[a] == param->shape[a]);
                        n *= hi[a] - lo[a];
                    }
                    assert_true(n <= fz_param_piece_elements(param, p->n_shards));
                    /* Copies of a key/value head follow their original. */
                    if (s % param->replicas != 0) continue;
                    assert_int_equal(lo[axis], at);
                    at = hi[axis];
                }
                assert_int_equal(at, param->shape[axis]);
                assert_int_equal(fz_param_pieces(param, p->n_shards) % (param->cut ? t : 1), 0);
            }
        fz_program_destroy(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tensor_goes_there_and_back),
        cmocka_unit_test(the_library_s_florence_2_names_are_known),
        cmocka_unit_test(the_library_s_gemma_2_names_are_known),
        cmocka_unit_test(layouts_are_told_apart),
        cmocka_unit_test(strange_names_and_buffers_are_no_parameters),
        cmocka_unit_test(full_size_pieces_cover_every_tensor_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
