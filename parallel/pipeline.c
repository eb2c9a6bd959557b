#include "parallel/pipeline.h"

#include <string.h>

#include "core/assert.h"
#include "core/clock.h"
#include "core/memory.h"
#include "model/ops/ops.h"

enum { TAG_UP = 16, TAG_DOWN = 24 }; /* + stream */

fz_status fz_pipeline_init(fz_pipeline *p, const fz_plan *plan, const fz_rank_plan *rank_plan,
                           fz_rank_memory *memory, const fz_group *group)
{
    const int n_local = rank_plan->last_block - rank_plan->first_block;

    memset(p, 0, sizeof *p);
    p->plan = plan;
    p->rp = rank_plan;
    p->memory = memory;
    p->group = group;
    p->has_backward = fz_plan_has_backward(plan, rank_plan->coord.pp);
    if (rank_plan->first_block > 0)
        p->n_below = fz_program_live(plan->program, rank_plan->first_block, p->below);
    if (rank_plan->last_block < plan->program->n_blocks)
        p->n_above = fz_program_live(plan->program, rank_plan->last_block, p->above);
    FZ_TRY(FZ_NEW(&p->saved, rank_plan->in_flight * n_local));
    return FZ_NEW(&p->sent_up, rank_plan->in_flight * FZ_N_STREAMS);
}

void fz_pipeline_reset(fz_pipeline *p)
{
    fz_free(&p->saved);
    fz_free(&p->sent_up);
}

/* ---- messages ---- */

static fz_status wait_all(fz_request *requests)
{
    fz_status status = FZ_OK;

    fz_span_begin("pipeline.wait", FZ_SHARE_BUBBLE);
    for (int i = 0; i < FZ_N_STREAMS && status == FZ_OK; i++)
        status = fz_request_wait(&requests[i]);
    fz_span_end();
    return status;
}

static fz_status test_all(fz_request *requests, bool *all_done)
{
    *all_done = true;
    for (int i = 0; i < FZ_N_STREAMS; i++) {
        int done = 0;
        FZ_TRY(fz_request_test(&requests[i], &done));
        if (!done) *all_done = false;
    }
    return FZ_OK;
}

static size_t message_bytes(const fz_live *live, const fz_microbatch *micro)
{
    return (size_t)fz_stream_floats(live, &micro->sizes) * sizeof(float);
}

static float **received(const fz_pipeline *p, int64_t slot)
{
    return p->memory->received + slot * FZ_N_STREAMS;
}

static fz_request *sent_up(const fz_pipeline *p, int64_t slot)
{
    return p->sent_up + slot * FZ_N_STREAMS;
}

/* The slot's buffers are free: what left them has arrived. */
static fz_status post_forward(fz_pipeline *p, const fz_pipeline_run *run)
{
    const fz_microbatch *micro = &run->micro[p->n_forward];
    const int64_t slot = p->n_forward % p->rp->in_flight;

    for (int i = 0; i < p->n_below && micro->sizes.n_samples > 0; i++) {
        const fz_stream s = p->below[i].stream;
        const size_t bytes = message_bytes(&p->below[i], micro);
        if (bytes == 0) continue;
        FZ_TRY(fz_recv_start(p->group, received(p, slot)[s], bytes, p->rp->coord.pp - 1,
                             TAG_UP + (int)s, &p->from_below[s]));
    }
    p->forward_posted = true;
    return FZ_OK;
}

static fz_status post_backward(fz_pipeline *p, const fz_pipeline_run *run)
{
    const fz_microbatch *micro = &run->micro[p->n_backward];

    for (int i = 0; i < p->n_above && micro->sizes.n_samples > 0; i++) {
        const fz_stream s = p->above[i].stream;
        const size_t bytes = message_bytes(&p->above[i], micro);
        if (!p->above[i].needs_grad || bytes == 0) continue;
        FZ_TRY(fz_recv_start(p->group, p->memory->dstream[s], bytes, p->rp->coord.pp + 1,
                             TAG_DOWN + (int)s, &p->from_above[s]));
    }
    p->backward_posted = true;
    return FZ_OK;
}

/* Before each action: post the receives whose buffers happen to be free already, so that messages
 * travel while blocks run. */
static fz_status post_early(fz_pipeline *p, const fz_pipeline_run *run)
{
    const int64_t slots = p->rp->in_flight;
    bool is_free = false;

    const bool slot_free =
        !run->training || !p->has_backward || p->n_forward < p->n_backward + slots;
    if (!p->forward_posted && p->n_forward < run->n_micro && slot_free) {
        FZ_TRY(test_all(sent_up(p, p->n_forward % slots), &is_free));
        if (is_free) FZ_TRY(post_forward(p, run));
    }
    if (run->training && p->has_backward && !p->backward_posted && p->n_backward < run->n_micro) {
        FZ_TRY(test_all(p->sent_down, &is_free));
        if (is_free) FZ_TRY(post_backward(p, run));
    }
    return FZ_OK;
}

static fz_status send_up(fz_pipeline *p, const fz_microbatch *micro, int64_t slot)
{
    for (int i = 0; i < p->n_above; i++) {
        const fz_stream s = p->above[i].stream;
        const size_t bytes = message_bytes(&p->above[i], micro);
        if (bytes == 0) continue;
        FZ_TRY(fz_send_start(p->group, p->exec.stream[s], bytes, p->rp->coord.pp + 1,
                             TAG_UP + (int)s, &sent_up(p, slot)[s]));
    }
    return FZ_OK;
}

static fz_status send_down(fz_pipeline *p, const fz_microbatch *micro)
{
    for (int i = 0; i < p->n_below; i++) {
        const fz_stream s = p->below[i].stream;
        const size_t bytes = message_bytes(&p->below[i], micro);
        if (!p->below[i].needs_grad || bytes == 0) continue;
        FZ_TRY(fz_send_start(p->group, p->memory->dstream[s], bytes, p->rp->coord.pp - 1,
                             TAG_DOWN + (int)s, &p->sent_down[s]));
    }
    return FZ_OK;
}

/* ---- passes ---- */

static void **saved_of(const fz_pipeline *p, int64_t slot, int block)
{
    const int n_local = p->rp->last_block - p->rp->first_block;
    return &p->saved[slot * n_local + block - p->rp->first_block];
}

/* What a decoder's block keeps of ENC for the steps to come. */
static fz_status fill_cache(fz_pipeline *p, const fz_pipeline_run *run, const fz_block *block)
{
    fz_exec *x = &p->exec;

    if (!block->kind->cache_fill) return FZ_OK;
    x->decode = run->decode;
    x->cache = &run->caches[block->index - p->rp->first_block];
    fz_arena_release(x->cache, 0);
    const fz_status status = block->kind->cache_fill(block, x);
    x->decode = NULL;
    x->cache = NULL;
    return status;
}

static fz_status run_forward(fz_pipeline *p, const fz_pipeline_run *run, int64_t slot)
{
    fz_exec *x = &p->exec;
    fz_rank_memory *memory = p->memory;

    for (int i = 0; i < FZ_N_STREAMS; i++)
        x->stream[i] = received(p, slot)[i];
    fz_arena_release(&memory->save[slot], 0);
    for (int b = p->rp->first_block; b < p->rp->last_block; b++) {
        const fz_block *block = &x->program->blocks[b];
        x->save = &memory->save[slot];
        if (fz_output_is_transient(p->plan, p->rp, b)) {
            x->save = &memory->transient[b & 1];
            fz_arena_release(x->save, 0);
        }
        fz_arena_release(x->work, 0);
        x->saved = NULL;
        fz_span_begin(block->name, FZ_SHARE_COMPUTE);
        const bool fills = run->decode && block->writes == FZ_STREAM_DEC;
        const fz_status status = fills ? fill_cache(p, run, block) : block->kind->forward(block, x);
        fz_span_end();
        FZ_TRY(status);
        *saved_of(p, slot, b) = x->saved;
    }
    return FZ_OK;
}

/* Both backward passes of one block. */
static fz_status run_block_backward(fz_pipeline *p, const fz_block *block)
{
    fz_exec *x = &p->exec;

    fz_arena_release(x->keep, 0);
    fz_arena_release(x->work, 0);
    x->kept = NULL;
    FZ_TRY(block->kind->backward_input(block, x));
    if (!block->trains) return FZ_OK;
    fz_arena_release(x->work, 0);
    return block->kind->backward_weight(block, x);
}

static fz_status run_backward(fz_pipeline *p, int64_t slot)
{
    fz_exec *x = &p->exec;

    for (int i = 0; i < FZ_N_STREAMS; i++)
        x->stream[i] = NULL; /* blocks go by what they saved */
    for (int b = p->rp->last_block - 1; b >= p->rp->first_block; b--) {
        const fz_block *block = &x->program->blocks[b];
        if (!fz_block_keeps(block)) continue;
        x->saved = *saved_of(p, slot, b);
        fz_span_begin(block->name, FZ_SHARE_COMPUTE);
        const fz_status status = run_block_backward(p, block);
        fz_span_end();
        FZ_TRY(status);
    }
    return FZ_OK;
}

/* d(enc) is a chain of additions that begins with zero above its last reader. A stage that gets no
 * d(enc) from above begins the chain; one that does goes on with it: the same sum at every cut. */
static fz_status begin_enc_gradient(fz_pipeline *p)
{
    float *d_enc = p->memory->dstream[FZ_STREAM_ENC];

    if (!d_enc) return FZ_OK;
    for (int i = 0; i < p->n_above; i++)
        if (p->above[i].stream == FZ_STREAM_ENC && p->above[i].needs_grad) return FZ_OK;
    const fz_exec *x = &p->exec;
    return x->ops->zero(d_enc, x->batch->sizes.n_enc * x->program->config.enc_width, x->queue);
}

static fz_status forward_action(fz_pipeline *p, const fz_pipeline_run *run)
{
    const int64_t m = p->n_forward, slot = m % p->rp->in_flight;
    const fz_microbatch *micro = &run->micro[m];

    if (!p->forward_posted) {
        FZ_TRY(wait_all(sent_up(p, slot)));
        FZ_TRY(post_forward(p, run));
    }
    FZ_TRY(wait_all(p->from_below));
    if (micro->sizes.n_samples > 0) {
        p->exec.batch = micro;
        p->exec.loss_sum = run->loss_sum ? &run->loss_sum[m] : NULL;
        FZ_TRY(run_forward(p, run, slot));
        FZ_TRY(send_up(p, micro, slot));
    }
    p->n_forward++;
    p->forward_posted = false;
    return run->after_forward ? run->after_forward(run->context, m) : FZ_OK;
}

static fz_status backward_action(fz_pipeline *p, const fz_pipeline_run *run)
{
    const int64_t m = p->n_backward;
    const fz_microbatch *micro = &run->micro[m];

    if (!p->has_backward) {
        p->n_backward++;
        return FZ_OK;
    }
    if (!p->backward_posted) {
        FZ_TRY(wait_all(p->sent_down));
        FZ_TRY(post_backward(p, run));
    }
    if (run->before_backward) FZ_TRY(run->before_backward(run->context, m));
    FZ_TRY(wait_all(p->from_above));
    if (micro->sizes.n_samples > 0) {
        p->exec.batch = micro;
        p->exec.loss_sum = run->loss_sum ? &run->loss_sum[m] : NULL;
        FZ_TRY(begin_enc_gradient(p));
        FZ_TRY(run_backward(p, m % p->rp->in_flight));
        FZ_TRY(send_down(p, micro));
    }
    p->n_backward++;
    p->backward_posted = false;
    return run->after_backward ? run->after_backward(run->context, m) : FZ_OK;
}

fz_status fz_pipeline_play(fz_pipeline *p, const fz_pipeline_run *run)
{
    const int64_t n_actions = run->training ? 2 * run->n_micro : run->n_micro;

    p->n_forward = p->n_backward = 0;
    p->forward_posted = p->backward_posted = false;
    p->exec.training = run->training;
    for (int s = 0; s < FZ_N_STREAMS; s++)
        p->exec.dstream[s] = p->memory->dstream[s];
    for (int64_t i = 0; i < n_actions; i++) {
        FZ_TRY(post_early(p, run));
        const bool forward = !run->training || run->list[i].kind == FZ_ACTION_FORWARD;
        FZ_ASSERT(!run->training || run->list[i].micro == (forward ? p->n_forward : p->n_backward));
        FZ_TRY(forward ? forward_action(p, run) : backward_action(p, run));
    }
    /* The buffers belong to the next run from here on. */
    for (int64_t slot = 0; slot < p->rp->in_flight; slot++)
        FZ_TRY(wait_all(sent_up(p, slot)));
    return wait_all(p->sent_down);
}
