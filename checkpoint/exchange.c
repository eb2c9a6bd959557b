#include "checkpoint/exchange.h"

#include <string.h>

#include "checkpoint/blocks.h"
#include "checkpoint/cut.h"
#include "core/memory.h"

/* ROUNDS_AGREED: after so many rounds a failure anywhere ends the exchange. */
enum { TAG = 1, ROUNDS_AGREED = 8, AHEAD_BYTES = 256 << 20 };

typedef struct exchange {
    const fz_exchange_args *args;
    fz_ckpt_load_stats *stats;
    int rank, my_class;
    fz_blocks blocks;                /* the one in memory */
    int64_t in_memory;               /* its number in the plan; -1 none */
    int64_t asked;                   /* the disk was asked for this rank's blocks before this one */
    fz_status failed;                /* first failure of this rank that is not of the network */
    float *send_room, *receive_room; /* owned */
    fz_request *send_requests, *receive_requests; /* owned */
    int64_t next_send, next_receive;              /* in the plan's lists */
} exchange;

/* cuts */

static const fz_fragment *row_of(const exchange *x, const fz_load_cut *cut)
{
    const int source = x->args->plan->blocks[cut->block].source;
    return &x->args->sources[source].index.rows[cut->row];
}

static fz_box box_of(const exchange *x, const fz_load_cut *cut)
{
    return fz_box_of_want(&x->args->wants->list[cut->want]);
}

static float *data_of(const exchange *x, const fz_load_cut *cut)
{
    return x->args->data[cut->want - x->args->wants->first[x->my_class]];
}

static void pack(const exchange *x, const fz_load_message *message, float *packed)
{
    const fz_load_cut *cut = &x->args->plan->cuts[message->first_cut];

    for (int64_t i = 0; i < message->n_cuts; i++, cut++) {
        const fz_box box = box_of(x, cut);
        packed += fz_cut_pack(row_of(x, cut), &box, x->blocks.begin, x->blocks.end, x->blocks.block,
                              packed);
    }
}

static void unpack(const exchange *x, const fz_load_message *message, const float *packed)
{
    const fz_load_block *block = &x->args->plan->blocks[message->block];
    const fz_load_cut *cut = &x->args->plan->cuts[message->first_cut];

    for (int64_t i = 0; i < message->n_cuts; i++, cut++) {
        const fz_box box = box_of(x, cut);
        packed +=
            fz_cut_unpack(row_of(x, cut), &box, block->begin, block->end, packed, data_of(x, cut));
    }
}

/* What this rank itself needs of the block in memory. */
static void copy_own(const exchange *x, const fz_load_block *block)
{
    const fz_load_plan *plan = x->args->plan;

    for (int64_t i = block[0].first_cut; i < block[1].first_cut; i++) {
        const fz_load_cut *cut = &plan->cuts[i];
        if (cut->class_n != x->my_class) continue;
        const fz_box box = box_of(x, cut);
        fz_blocks_copy(&x->blocks, row_of(x, cut), &box, data_of(x, cut));
    }
}

/* reading */

/* Asks the disk for what this rank reads next of the file. */
static void ask_ahead(exchange *x, const fz_load_block *now)
{
    const fz_load_plan *plan = x->args->plan;
    const int64_t here = now - plan->blocks;
    int64_t n = x->asked > here ? x->asked : here;

    for (; n < plan->n_blocks; n++) {
        const fz_load_block *block = &plan->blocks[n];
        if (block->source != now->source || block->file != now->file ||
            block->begin > now->end + AHEAD_BYTES)
            break;
        if (block->reader == x->rank && block->is_shared == now->is_shared)
            fz_disk_prefetch(x->blocks.fd, block->begin, block->end - block->begin);
    }
    x->asked = n;
}

static fz_status read_block(exchange *x, const fz_load_block *block)
{
    const fz_source *source = &x->args->sources[block->source];
    const fz_fragment *row = row_of(x, &x->args->plan->cuts[block->first_cut]);

    if (x->blocks.source != source || x->blocks.file != block->file)
        FZ_TRY(fz_blocks_open(&x->blocks, source, block->file));
    ask_ahead(x, block);
    FZ_TRY(fz_blocks_read(&x->blocks, row, block->begin));
    x->stats->bytes_read += block->end - block->begin;
    return FZ_OK;
}

/* Reads and takes what is this rank's own; after a failure nothing more is read. */
static void bring(exchange *x, int64_t n)
{
    const fz_load_block *block = &x->args->plan->blocks[n];

    if (x->in_memory == n || x->failed != FZ_OK) return;
    x->in_memory = -1;
    x->failed = read_block(x, block);
    if (x->failed != FZ_OK) return;
    x->in_memory = n;
    copy_own(x, block);
}

/* Blocks that nobody else needs. */
static void read_alone(exchange *x)
{
    const fz_load_plan *plan = x->args->plan;

    for (int64_t n = 0; n < plan->n_blocks; n++)
        if (plan->blocks[n].reader == x->rank && !plan->blocks[n].is_shared) bring(x, n);
}

/* rounds */

static fz_status start_receives(exchange *x, int round, int64_t *n_p)
{
    const fz_load_plan *plan = x->args->plan;
    float *room = x->receive_room;
    int64_t n = 0;

    for (; x->next_receive + n < plan->n_receives; n++) {
        const fz_load_message *message = &plan->receives[x->next_receive + n];
        if (message->round != round) break;
        FZ_TRY(fz_recv_start(x->args->group, room, (size_t)message->bytes, message->peer, TAG,
                             &x->receive_requests[n]));
        room += message->bytes / 4;
    }
    *n_p = n;
    return FZ_OK;
}

/* A part that goes to several ranks is packed once: its messages lie side by side. */
static fz_status start_sends(exchange *x, int round, int64_t *n_p)
{
    const fz_load_plan *plan = x->args->plan;
    float *packed = x->send_room, *free_room = x->send_room;
    int64_t n = 0, packed_cut = -1;

    for (; x->next_send + n < plan->n_sends; n++) {
        const fz_load_message *message = &plan->sends[x->next_send + n];
        if (message->round != round) break;
        bring(x, message->block);
        if (message->first_cut != packed_cut) {
            packed = free_room;
            free_room += message->bytes / 4;
            packed_cut = message->first_cut;
            if (x->failed == FZ_OK)
                pack(x, message, packed);
            else
                memset(packed, 0, (size_t)message->bytes);
        }
        FZ_TRY(fz_send_start(x->args->group, packed, (size_t)message->bytes, message->peer, TAG,
                             &x->send_requests[n]));
        x->stats->bytes_sent += message->bytes;
    }
    *n_p = n;
    return FZ_OK;
}

static fz_status finish_round(exchange *x, int64_t n_sends, int64_t n_receives)
{
    const float *room = x->receive_room;

    for (int64_t i = 0; i < n_receives; i++) {
        const fz_load_message *message = &x->args->plan->receives[x->next_receive + i];
        FZ_TRY(fz_request_wait(&x->receive_requests[i]));
        unpack(x, message, room);
        room += message->bytes / 4;
        x->stats->bytes_received += message->bytes;
    }
    for (int64_t i = 0; i < n_sends; i++)
        FZ_TRY(fz_request_wait(&x->send_requests[i]));
    x->next_send += n_sends;
    x->next_receive += n_receives;
    return FZ_OK;
}

static fz_status run_rounds(exchange *x)
{
    int64_t n_sends = 0, n_receives = 0;

    for (int round = 0; round < x->args->plan->n_rounds; round++) {
        if (round > 0 && round % ROUNDS_AGREED == 0) FZ_TRY(fz_agree(x->args->group, x->failed));
        FZ_TRY(start_receives(x, round, &n_receives));
        FZ_TRY(start_sends(x, round, &n_sends));
        FZ_TRY(finish_round(x, n_sends, n_receives));
    }
    return fz_agree(x->args->group, x->failed);
}

/* all of it */

static fz_status allocate(exchange *x)
{
    const fz_load_plan *plan = x->args->plan;

    x->stats->extra_bytes += plan->send_bytes + plan->receive_bytes +
                             2 * plan->n_in_flight * (int64_t)sizeof(fz_request);
    FZ_TRY(fz_alloc((void **)&x->send_room, (size_t)plan->send_bytes, "blocks to send"));
    FZ_TRY(fz_alloc((void **)&x->receive_room, (size_t)plan->receive_bytes, "blocks to receive"));
    FZ_TRY(FZ_NEW(&x->send_requests, plan->n_in_flight));
    return FZ_NEW(&x->receive_requests, plan->n_in_flight);
}

fz_status fz_exchange_run(const fz_exchange_args *args, fz_ckpt_load_stats *stats)
{
    exchange x = {
        .args = args, .stats = stats, .rank = fz_group_rank(args->group), .in_memory = -1};

    x.my_class = args->wants->class_of[x.rank];
    fz_status status = fz_agree(args->group, allocate(&x));
    if (status == FZ_OK) {
        read_alone(&x);
        x.asked = 0;
        status = fz_agree(args->group, x.failed);
    }
    if (status == FZ_OK && args->plan->n_rounds > 0) status = run_rounds(&x);
    stats->n_rounds = args->plan->n_rounds;
    stats->extra_bytes += (int64_t)x.blocks.block_bytes;
    fz_blocks_reset(&x.blocks);
    fz_free(&x.send_room);
    fz_free(&x.receive_room);
    fz_free(&x.send_requests);
    fz_free(&x.receive_requests);
    return status;
}
