#include "model/program.h"

#include <string.h>

#include "core/assert.h"
#include "core/memory.h"
#include "model/program_build.h"

fz_status fz_program_create(const fz_model_config *config, int64_t n_shards, fz_program **program_p)
{
    fz_program *program = NULL;
    FZ_TRY(fz_model_config_check(config));
    FZ_TRY(fz_program_check_shards(config, n_shards));
    FZ_TRY(fz_alloc((void **)&program, sizeof *program, "program"));
    program->config = *config;
    program->n_shards = n_shards;
    fz_status status = fz_program_build(program);
    if (status != FZ_OK) {
        fz_program_destroy(&program);
        return status;
    }
    fz_program_mark_training(program);
    *program_p = program;
    return FZ_OK;
}

void fz_program_destroy(fz_program **program)
{
    if (*program == NULL) return;
    fz_free(&(*program)->blocks);
    fz_free(&(*program)->params);
    fz_free(&(*program)->uses);
    fz_free(program);
}

/* Index of the block that starts a chain: encoder.embed ends VISION, decoder.embed starts DEC. */
static int first_writer(const fz_program *program, fz_stream stream)
{
    for (int b = 0; b < program->n_blocks; b++)
        if (program->blocks[b].writes == stream) return b;
    return program->n_blocks;
}

static int last_enc_reader(const fz_program *program)
{
    int last = -1;
    for (int b = 0; b < program->n_blocks; b++)
        if (program->blocks[b].writes == FZ_STREAM_ENC || program->blocks[b].reads_enc) last = b;
    return last;
}

int fz_program_live(const fz_program *program, int cut, fz_live live[FZ_N_STREAMS])
{
    const int enc_first = first_writer(program, FZ_STREAM_ENC);
    const int dec_first = first_writer(program, FZ_STREAM_DEC);
    int n = 0;

    FZ_ASSERT(cut > 0 && cut < program->n_blocks);
    const fz_block *before = &program->blocks[cut - 1], *after = &program->blocks[cut];
    if (cut <= enc_first)
        live[n++] = (fz_live){.stream = FZ_STREAM_VISION,
                              .rows_per_image = before->out_rows_per_image,
                              .width = before->out_width,
                              .needs_grad = after->wants_input_grad};
    if (cut > enc_first && cut <= last_enc_reader(program))
        live[n++] = (fz_live){.stream = FZ_STREAM_ENC,
                              .width = program->config.enc_width,
                              .needs_grad =
                                  fz_program_trains(program, 0, cut < dec_first ? cut : dec_first)};
    if (cut > dec_first)
        live[n++] = (fz_live){.stream = FZ_STREAM_DEC,
                              .width = program->config.dec_width,
                              .needs_grad = after->wants_input_grad};
    return n;
}

int64_t fz_stream_floats(const fz_live *live, const fz_sizes *sizes)
{
    if (live->rows_per_image > 0) return sizes->n_local_images * live->rows_per_image * live->width;
    return (live->stream == FZ_STREAM_DEC ? sizes->n_dec : sizes->n_enc) * live->width;
}

static int64_t out_floats(const fz_block *block, const fz_sizes *sizes)
{
    const fz_live live = {.stream = block->writes,
                          .rows_per_image = block->out_rows_per_image,
                          .width = block->out_width};
    return fz_stream_floats(&live, sizes);
}

int64_t fz_program_stream_max(const fz_program *program, int first, int last, fz_stream stream,
                              const fz_sizes *sizes)
{
    int64_t most = 0;
    fz_live live[FZ_N_STREAMS];
    const int n_live =
        first > 0 && first < program->n_blocks ? fz_program_live(program, first, live) : 0;
    for (int i = 0; i < n_live; i++) {
        if (live[i].stream != stream) continue;
        const int64_t n = fz_stream_floats(&live[i], sizes);
        if (n > most) most = n;
    }
    for (int b = first; b < last; b++) {
        const fz_block *block = &program->blocks[b];
        if (block->writes != stream) continue;
        const int64_t n = out_floats(block, sizes);
        if (n > most) most = n;
    }
    return most;
}

fz_sizes fz_program_max_sizes(const fz_program *program, int64_t micro_batch, fz_shards shards)
{
    const int64_t enc_len = fz_image_tokens(&program->config) + program->config.max_prompt;
    /* Rounded up: with fewer samples a shard's share may be larger than the floors at B suggest. */
    const int64_t images = (shards.count * micro_batch + shards.n - 1) / shards.n;
    return (fz_sizes){.n_samples = micro_batch,
                      .n_local_images = images,
                      .n_enc = micro_batch * enc_len,
                      .n_dec = micro_batch * program->config.max_output,
                      .max_enc_len = enc_len,
                      .max_dec_len = program->config.max_output};
}
