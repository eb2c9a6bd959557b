/* The program's numbers against those of an independent float64 model (tests/reference/README.md):
 * streams after every block, logits, loss, every gradient, ten optimizer steps; fp32 on the CPU,
 * on one rank and on tensor 2 x pipeline 2.
 *
 *   streams, logits, loss   ||x - r|| / ||r||, per tensor
 *   gradients               ||g - r|| / max(||r||, 1e-3 of the largest gradient's norm), per tensor
 *   update                  ||D - r|| / ||r|| of the changes of all weights together
 *
 * Some true gradients are zero: a key's bias moves no softmax. Where the case leaves the largest
 * out, its norm is ours.
 * Norms are Euclidean, over the whole tensor, wherever its pieces lie. With arguments: these cases;
 * without: all of tests/reference/fixtures.
 */
#include <glob.h>
#include <math.h>
#include <string.h>

#include "tests/support/ranks.h"

#include "dist/mesh.h"
#include "tests/parallel/parity_watch.h"

enum kind { STREAMS, LOGITS, LOSS, GRADIENTS, UPDATE, N_KINDS };
static const char *const kind_names[N_KINDS] = {"streams", "logits", "loss", "gradients", "update"};
static const double limits[N_KINDS] = {1e-5, 1e-5, 1e-6, 1e-5, 1e-3};
static const double FLOOR = 1e-3; /* of the largest gradient */

static int n_paths;
static char **paths;
static glob_t found; /* the fixtures, where no paths were given */
static int64_t n_compared[N_KINDS];

/* The largest error of a kind, and whose it is. */
typedef struct worst {
    double error;
    int n; /* tensors compared */
    char name[FZ_NAME_BYTES];
} worst;

static void judge(worst *w, double error, const char *name)
{
    if (w->n++ > 0 && error <= w->error) return;
    w->error = isnan(error) ? HUGE_VAL : error;
    snprintf(w->name, sizeof w->name, "%s", name);
}

/* A trainer with all it stands on. */
typedef struct rig {
    const parity_case *c;
    fz_program *program;
    fz_plan *plan;
    fz_mesh mesh;
    fz_trainer *trainer;
    parity_watch watch;
    parity_batch batch;
} rig;

static fz_status rig_start(rig *g, const parity_case *c, const fz_layout_config *layout,
                           const fz_train_config *train)
{
    memset(g, 0, sizeof *g);
    g->c = c;
    FZ_TRY(fz_program_create(&c->model, layout->n_shards, &g->program));
    FZ_TRY(parity_watch_start(&g->watch, g->program, c, train->micro_batch));
    FZ_TRY(fz_plan_create(g->program, train, layout, &g->plan));
    FZ_TRY(fz_mesh_create(&world, layout->shape, &g->mesh));
    FZ_TRY(fz_trainer_create(g->plan, &g->mesh, &g->watch.ops, &g->trainer));
    fz_trainer_init(g->trainer);
    FZ_TRY(parity_load_weights(c, fz_trainer_state(g->trainer)));
    const fz_trainer_needs needs = fz_trainer_get_needs(g->trainer);
    return parity_batch_create(c, &needs, train->micro_batch, &g->batch);
}

static void rig_stop(rig *g)
{
    parity_batch_reset(&g->batch);
    fz_trainer_destroy(&g->trainer);
    fz_mesh_reset(&g->mesh);
    fz_plan_destroy(&g->plan);
    fz_program_destroy(&g->program);
    parity_watch_stop(&g->watch);
}

static void require(fz_status status)
{
    if (status != FZ_OK) fprintf(stderr, "rank %d: %s\n", world.rank, fz_last_error()->text);
    assert_all_ranks(status == FZ_OK);
}

/* ---- what the ranks hold of a tensor against the whole ---- */

/* Adds the view's part of the difference between what it holds, less `from` where given, and
 * whole. Without whole: of what it holds itself, as norm, with no element compared. */
static fz_status tally_view(const fz_state_tensor *tensor, const fz_state_view *view,
                            const float *from, const float *whole, parity_tally *tally)
{
    float *wanted = NULL, *before = NULL;
    int64_t n = 1;

    for (int a = 0; a < tensor->ndim; a++)
        n *= view->hi[a] - view->lo[a];
    for (int64_t i = 0; !whole && i < n; i++)
        tally->norm2 += (double)view->data[i] * (double)view->data[i];
    if (!whole) return FZ_OK;
    FZ_TRY(FZ_NEW(&wanted, n));
    FZ_TRY(FZ_NEW(&before, n));
    parity_box(tensor, view, whole, wanted);
    if (from) parity_box(tensor, view, from, before);
    for (int64_t i = 0; i < n; i++) {
        const double r = (double)wanted[i], d = (double)view->data[i] - (double)before[i] - r;
        tally->error2 += d * d;
        tally->norm2 += r * r;
    }
    tally->n += (double)n;
    fz_free(&wanted);
    fz_free(&before);
    return FZ_OK;
}

/* The difference of every tensor from kind/name, over the owned views of one sort: first moments,
 * or weights less those they began with. Tensors that the case leaves out stay at n 0. Collective.
 */
static fz_status tally_state(const rig *g, const char *kind, fz_state_kind views, bool change,
                             parity_tally *tallies)
{
    const fz_state *state = fz_trainer_state(g->trainer);
    fz_status status = FZ_OK;

    for (int v = 0; v < state->n_views && status == FZ_OK; v++) {
        const fz_state_view *view = &state->views[v];
        const fz_state_tensor *tensor = &state->tensors[view->tensor];
        float *whole = NULL, *from = NULL;
        int64_t n;
        if (view->kind != views || !view->is_owner) continue;
        status = parity_read(g->c, kind, tensor->name, tensor->ndim, tensor->shape, &whole, &n);
        if (status == FZ_OK && change)
            status =
                parity_read(g->c, "weight", tensor->name, tensor->ndim, tensor->shape, &from, &n);
        if (status == FZ_OK && (whole || !change))
            status = tally_view(tensor, view, from, whole, &tallies[view->tensor]);
        fz_free(&whole);
        fz_free(&from);
    }
    FZ_TRY(fz_agree(world.group, status));
    for (int t = 0; t < state->n_tensors; t++) {
        double sums[] = {tallies[t].error2, tallies[t].norm2, tallies[t].n};
        FZ_TRY(fz_allreduce_sum_double(world.group, sums, 3));
        tallies[t] = (parity_tally){.error2 = sums[0], .norm2 = sums[1], .n = sums[2]};
        if (sums[2] > 0)
            FZ_CHECK((int64_t)sums[2] == fz_param_elements(&g->program->params[t]), FZ_ERR_FORMAT,
                     "%s/%s: %.0f elements have an owner", kind, state->tensors[t].name, sums[2]);
    }
    return FZ_OK;
}

/* ---- one step ---- */

static fz_status judge_seen(const parity_seen *seen, const char *name, worst *w)
{
    if (!seen->known) return FZ_OK;
    FZ_CHECK((int64_t)seen->tally.n == seen->n, FZ_ERR_FORMAT,
             "%s: the ranks saw %.0f of %lld numbers", name, seen->tally.n, (long long)seen->n);
    judge(w, sqrt(seen->tally.error2 / seen->tally.norm2), name);
    return FZ_OK;
}

static fz_status judge_loss(const parity_case *c, float loss, worst *w)
{
    const fz_safetensor *tensor = fz_safetensors_find(c->st, "loss");
    double wanted;

    FZ_CHECK(tensor && tensor->dtype == FZ_DTYPE_F64 && tensor->elements == 1, FZ_ERR_FORMAT,
             "%s: no loss (1) of F64", c->name);
    FZ_TRY(fz_safetensors_read(c->st, tensor, 0, 1, &wanted));
    judge(w, fabs((double)loss - wanted) / fabs(wanted), "loss");
    return FZ_OK;
}

static fz_status judge_gradients(const rig *g, worst *w)
{
    const fz_state *state = fz_trainer_state(g->trainer);
    parity_tally *tallies = NULL;
    double largest = 0;

    FZ_TRY(FZ_NEW(&tallies, state->n_tensors));
    const fz_status status = tally_state(g, "grad", FZ_STATE_EXP_AVG, false, tallies);
    for (int t = 0; t < state->n_tensors && status == FZ_OK; t++)
        largest = fmax(largest, sqrt(tallies[t].norm2));
    for (int t = 0; t < state->n_tensors && status == FZ_OK; t++) {
        const char *name = state->tensors[t].name;
        if (tallies[t].n > 0)
            judge(w, sqrt(tallies[t].error2) / fmax(sqrt(tallies[t].norm2), FLOOR * largest), name);
    }
    fz_free(&tallies);
    return status;
}

/* Without a learning rate and with beta1 0 a step leaves its gradient in the first moment. */
static fz_status one_step(const parity_case *c, const fz_layout_config *layout, int64_t micro_batch,
                          worst worsts[N_KINDS])
{
    fz_train_config still = c->train;
    fz_step_result result;
    rig g;

    still.micro_batch = micro_batch;
    still.lr = still.beta1 = still.clip = 0;
    fz_status status = rig_start(&g, c, layout, &still);
    status = fz_agree(world.group, status);
    if (status == FZ_OK) {
        parity_watch_batch(&g.watch, &g.batch.step);
        status = fz_trainer_step(g.trainer, &g.batch.step, &result);
    }
    if (status == FZ_OK) status = parity_watch_end(&g.watch, world.group);
    for (int b = 0; status == FZ_OK && b < g.program->n_blocks; b++)
        status = judge_seen(&g.watch.streams[b], g.program->blocks[b].name, &worsts[STREAMS]);
    if (status == FZ_OK) status = judge_seen(&g.watch.logits, "logits", &worsts[LOGITS]);
    if (status == FZ_OK) status = judge_loss(c, result.loss, &worsts[LOSS]);
    if (status == FZ_OK) status = judge_gradients(&g, &worsts[GRADIENTS]);
    rig_stop(&g);
    return status;
}

/* ---- ten steps ---- */

static fz_status judge_update(const rig *g, worst *w)
{
    const fz_state *state = fz_trainer_state(g->trainer);
    parity_tally *tallies = NULL, sum = {0};
    int most = 0;

    FZ_TRY(FZ_NEW(&tallies, state->n_tensors));
    const fz_status status = tally_state(g, "adamw", FZ_STATE_MASTER, true, tallies);
    for (int t = 0; t < state->n_tensors && status == FZ_OK; t++) {
        sum.error2 += tallies[t].error2;
        sum.norm2 += tallies[t].norm2;
        if (tallies[t].error2 > tallies[most].error2) most = t;
        if (tallies[t].n > 0) w->n++;
    }
    if (status == FZ_OK && w->n > 0) {
        snprintf(w->name, sizeof w->name, "%s", state->tensors[most].name);
        w->error = sqrt(sum.error2 / sum.norm2);
        if (isnan(w->error)) w->error = HUGE_VAL;
    }
    fz_free(&tallies);
    return status;
}

static fz_status ten_steps(const parity_case *c, const fz_layout_config *layout, worst *w)
{
    fz_step_result result;
    rig g;

    fz_status status = rig_start(&g, c, layout, &c->train);
    status = fz_agree(world.group, status);
    if (status == FZ_OK) parity_watch_batch(&g.watch, &g.batch.step);
    for (int64_t s = 0; s < c->train.steps && status == FZ_OK; s++)
        status = fz_trainer_step(g.trainer, &g.batch.step, &result);
    if (status == FZ_OK) status = judge_update(&g, w);
    rig_stop(&g);
    return status;
}

/* ---- the cases ---- */

/* Says what was found. Returns how many kinds are too far off, or were not compared in full. */
static int verdict(const parity_case *c, const char *layout, const worst worsts[N_KINDS],
                   bool stepped)
{
    const int wanted[N_KINDS] = {parity_count(c, "stream"), 1, 1, parity_count(c, "grad"),
                                 parity_count(c, "adamw")};
    int n_bad = 0;

    for (int k = 0; k < N_KINDS; k++) {
        const worst *w = &worsts[k];
        if (k == UPDATE ? !stepped || wanted[k] == 0 : wanted[k] == 0) continue;
        const bool bad = w->n != wanted[k] || !(w->error <= limits[k]);
        if (world.rank == 0)
            printf("%-24s %-14s %-9s %3d of %3d  %8.1e <= %.0e  %s%s\n", c->name, layout,
                   kind_names[k], w->n, wanted[k], w->error, limits[k], w->name,
                   bad ? "  <--" : "");
        n_compared[k] += w->n;
        n_bad += bad;
    }
    fflush(stdout);
    return n_bad;
}

/* In four shards (or as many as the heads allow) and one micro-batch; and in as few shards as the
 * ranks need, so that a shard has several key heads, and one sample a micro-batch. */
static int check_case(const char *path)
{
    const int pp = world.size > 1 ? 2 : 1, tp = world.size / pp;
    int n_bad = 0;
    parity_case c;

    require(parity_open(path, &c));
    for (int run = 0; run < 2; run++) {
        const int64_t most = fz_model_auto_shards(&c.model), micro_batch = run ? 1 : c.n_samples;
        const fz_layout_config layout = {.shape = {pp, 1, tp},
                                         .schedule = FZ_SCHEDULE_1F1B,
                                         .n_shards = run        ? tp
                                                     : most < 4 ? most
                                                                : 4,
                                         .n_lanes = 8};
        const bool steps = run == 0 && parity_count(&c, "adamw") > 0;
        worst worsts[N_KINDS] = {{0}};
        char text[64];
        snprintf(text, sizeof text, "tp%d pp%d S%lld B%lld", tp, pp, (long long)layout.n_shards,
                 (long long)micro_batch);
        require(one_step(&c, &layout, micro_batch, worsts));
        if (steps) require(ten_steps(&c, &layout, &worsts[UPDATE]));
        n_bad += verdict(&c, text, worsts, steps);
    }
    parity_close(&c);
    return n_bad;
}

static void all_numbers_are_the_reference_s(void **state)
{
    int n_bad = 0;
    (void)state;
    for (int i = 0; i < n_paths; i++)
        n_bad += check_case(paths[i]);
    assert_all_ranks(n_bad == 0);
}

static void the_fixtures_have_every_kind(void **state)
{
    (void)state;
    if (found.gl_pathc == 0) skip(); /* somebody's own cases */
    for (int k = 0; k < N_KINDS; k++)
        assert_all_ranks(n_compared[k] > 0);
}

static int start(void **state)
{
    (void)state;
    fz_ops_cpu_start();
    if (n_paths > 0) return 0;
    if (glob(FZ_SOURCE_DIR "/tests/reference/fixtures/parity-*.safetensors", 0, NULL, &found) != 0)
        return 1;
    n_paths = (int)found.gl_pathc;
    paths = found.gl_pathv;
    return 0;
}

static int stop(void **state)
{
    (void)state;
    globfree(&found);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_numbers_are_the_reference_s),
        cmocka_unit_test(the_fixtures_have_every_kind),
    };

    n_paths = argc - 1;
    paths = argv + 1;
    run_on_all_ranks_with(tests, start, stop);
}
