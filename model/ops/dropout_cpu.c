/* Dropout on the CPU; the mathematics is in dropout.h.
 *
 * Bytes moved: dropout 8 N C, with residual 12 N C, and for p > 0 one Philox block (40 multiplies)
 * per 8 columns, 16 blocks side by side in vector lanes. */
#include "model/ops/dropout.h"

#include "core/assert.h"
#include "model/ops/cpu.h"
#include "model/ops/dropout_row.h"
#include "model/ops/rows.h"

fz_drop fz_drop_prepare(const fz_dropout *dropout)
{
    fz_drop drop = {.active = dropout && dropout->p > 0.0};
    if (!drop.active) return drop;
    FZ_ASSERT(dropout->p <= 1.0);
    fz_rng_key(drop.key, dropout->seed, dropout->site);
    drop.threshold = fz_drop_threshold(dropout->p);
    if (drop.threshold < 65536u) drop.kept = (float)(65536.0 / (65536.0 - (double)drop.threshold));
    return drop;
}

/* One round on 32-bit words kept in 64-bit lanes: what lies above them is noise, cut off before it
 * is multiplied. */
#define PHILOX_ROUND(r)                                                                            \
    do {                                                                                           \
        const uint64_t p0 = (a & 0xFFFFFFFFu) * 0xD2511F53u;                                       \
        const uint64_t p1 = (c & 0xFFFFFFFFu) * 0xCD9E8D57u;                                       \
        a = (p1 >> 32) ^ b ^ k0[r];                                                                \
        b = p1;                                                                                    \
        c = (p0 >> 32) ^ d ^ k1[r];                                                                \
        d = p0;                                                                                    \
    } while (0)

/* fz_philox4x32 of core/rng.h for n_lanes consecutive first counter words; the rounds are written
 * out, so that the loop over lanes is the one that is vectorised. */
static inline void philox_lanes(uint32_t *restrict out, int n_lanes, uint32_t block,
                                const uint32_t counter[3], const uint32_t key[2])
{
    uint64_t k0[10], k1[10];
    for (int round = 0; round < 10; round++) {
        k0[round] = key[0] + (uint32_t)round * 0x9E3779B9u;
        k1[round] = key[1] + (uint32_t)round * 0xBB67AE85u;
    }
    for (int j = 0; j < n_lanes; j++) {
        uint64_t a = (uint64_t)block + (uint64_t)j, b = counter[0], c = counter[1], d = counter[2];
        PHILOX_ROUND(0);
        PHILOX_ROUND(1);
        PHILOX_ROUND(2);
        PHILOX_ROUND(3);
        PHILOX_ROUND(4);
        PHILOX_ROUND(5);
        PHILOX_ROUND(6);
        PHILOX_ROUND(7);
        PHILOX_ROUND(8);
        PHILOX_ROUND(9);
        out[4 * j] = (uint32_t)a;
        out[4 * j + 1] = (uint32_t)b;
        out[4 * j + 2] = (uint32_t)c;
        out[4 * j + 3] = (uint32_t)d;
    }
}

static inline void bits_to_factors(float *restrict f, const uint32_t *restrict words, int n_words,
                                   uint32_t threshold, float kept)
{
    for (int i = 0; i < n_words; i++) {
        f[2 * i] = (words[i] & 0xFFFFu) < threshold ? 0.0f : kept;
        f[2 * i + 1] = (words[i] >> 16) < threshold ? 0.0f : kept;
    }
}

const float *fz_drop_factors(float buffer[FZ_DROP_BUFFER], const fz_drop *drop, int64_t sample_n,
                             int64_t token, int64_t column, int64_t n)
{
    const int64_t skipped = column % 8;
    const uint32_t block = (uint32_t)(column / 8);
    const uint32_t counter[3] = {(uint32_t)token, (uint32_t)sample_n,
                                 (uint32_t)((uint64_t)sample_n >> 32)};
    uint32_t words[4 * 16];

    for (int64_t made = 0; made < skipped + n; made += 128) {
        if (skipped + n - made <= 64) {
            philox_lanes(words, 8, block + (uint32_t)(made / 8), counter, drop->key);
            /* The last stretch may be the 17th block: only 16 columns fit. */
            bits_to_factors(buffer + made, words, made == 0 ? 32 : 8, drop->threshold, drop->kept);
        } else {
            philox_lanes(words, 16, block + (uint32_t)(made / 8), counter, drop->key);
            bits_to_factors(buffer + made, words, 64, drop->threshold, drop->kept);
        }
    }
    return buffer + skipped;
}

/* The four ways of one stretch of a row; f NULL: factor 1, bias NULL: 0. y may be x or r. */
static void drop_stretch(float *y, const float *r, const float *bias, const float *f, int64_t n)
{
    if (f && bias) {
        FZ_ELEMENTWISE
        for (int64_t c = 0; c < n; c++)
            y[c] = (r[c] + bias[c]) * f[c];
    } else if (f) {
        FZ_ELEMENTWISE
        for (int64_t c = 0; c < n; c++)
            y[c] = r[c] * f[c];
    } else if (bias) {
        FZ_ELEMENTWISE
        for (int64_t c = 0; c < n; c++)
            y[c] = r[c] + bias[c];
    } else if (y != r) {
        FZ_ELEMENTWISE
        for (int64_t c = 0; c < n; c++)
            y[c] = r[c];
    }
}

static void drop_stretch_residual(float *y, const float *x, const float *r, const float *bias,
                                  const float *f, int64_t n)
{
    if (f && bias) {
        FZ_ELEMENTWISE
        for (int64_t c = 0; c < n; c++)
            y[c] = x[c] + (r[c] + bias[c]) * f[c];
    } else if (f) {
        FZ_ELEMENTWISE
        for (int64_t c = 0; c < n; c++)
            y[c] = x[c] + r[c] * f[c];
    } else if (bias) {
        FZ_ELEMENTWISE
        for (int64_t c = 0; c < n; c++)
            y[c] = x[c] + (r[c] + bias[c]);
    } else {
        FZ_ELEMENTWISE
        for (int64_t c = 0; c < n; c++)
            y[c] = x[c] + r[c];
    }
}

static void stretch(float *y, const float *x, const float *r, const float *bias, const float *f,
                    int64_t n)
{
    if (x)
        drop_stretch_residual(y, x, r, bias, f, n);
    else
        drop_stretch(y, r, bias, f, n);
}

/* y = [x +] drop(r + bias) over all rows; x NULL: none. */
static void drop_rows(float *y, const float *x, const float *r, const float *bias,
                      const fz_rows *rows, int64_t C, const fz_dropout *dropout)
{
    const fz_drop drop = fz_drop_prepare(dropout);
    float buffer[FZ_DROP_BUFFER];

    if (!drop.active && !bias) {
        stretch(y, x, r, NULL, NULL, (int64_t)rows->start[rows->n_seq] * C);
        return;
    }
    for (int64_t b = 0; b < rows->n_seq; b++)
        for (int64_t row = rows->start[b]; row < rows->start[b + 1]; row++)
            for (int64_t c = 0; c < C;) {
                const int64_t n =
                    drop.active && C - c > FZ_DROP_CHUNK ? (int64_t)FZ_DROP_CHUNK : C - c;
                const float *f = drop.active ? fz_drop_factors(buffer, &drop, rows->sample_n[b],
                                                               row - rows->start[b],
                                                               dropout->first_column + c, n)
                                             : NULL;
                const int64_t i = row * C + c;
                stretch(y + i, x ? x + i : NULL, r + i, bias ? bias + c : NULL, f, n);
                c += n;
            }
}

fz_status fz_cpu_dropout(float *y, const float *x, const float *bias, const fz_rows *rows,
                         int64_t C, const fz_dropout *drop, fz_queue *queue)
{
    (void)queue;
    drop_rows(y, NULL, x, bias, rows, C, drop);
    return FZ_OK;
}

fz_status fz_cpu_dropout_residual(float *y, const float *x, const float *r, const float *bias,
                                  const fz_rows *rows, int64_t C, const fz_dropout *drop,
                                  fz_queue *queue)
{
    (void)queue;
    drop_rows(y, x, r, bias, rows, C, drop);
    return FZ_OK;
}

/* y = [x +] f (r + bias), one factor for all. */
static void scale_sample(float *y, const float *x, const float *r, const float *bias, float f,
                         int64_t N, int64_t C)
{
    for (int64_t row = 0; row < N; row++) {
        const int64_t i = row * C;
        if (x && bias) {
            FZ_ELEMENTWISE
            for (int64_t c = 0; c < C; c++)
                y[i + c] = x[i + c] + (r[i + c] + bias[c]) * f;
        } else if (x) {
            FZ_ELEMENTWISE
            for (int64_t c = 0; c < C; c++)
                y[i + c] = x[i + c] + r[i + c] * f;
        } else {
            FZ_ELEMENTWISE
            for (int64_t c = 0; c < C; c++)
                y[i + c] = r[i + c] * f;
        }
    }
}

static float sample_factor(const fz_drop *drop, int64_t sample_n)
{
    float buffer[FZ_DROP_BUFFER];
    return drop->active ? *fz_drop_factors(buffer, drop, sample_n, 0, 0, 1) : 1.0f;
}

fz_status fz_cpu_drop_path_residual(float *y, const float *x, const float *r, const float *bias,
                                    int64_t n_samples, int64_t rows_per_sample, int64_t C,
                                    const int64_t *sample_n, const fz_dropout *drop,
                                    fz_queue *queue)
{
    (void)queue;
    const fz_drop prepared = fz_drop_prepare(drop);
    for (int64_t i = 0; i < n_samples; i++) {
        const int64_t at = i * rows_per_sample * C;
        scale_sample(y + at, x + at, r + at, bias,
                     sample_factor(&prepared, sample_n ? sample_n[i] : 0), rows_per_sample, C);
    }
    return FZ_OK;
}

fz_status fz_cpu_drop_path(float *dr, const float *dy, int64_t n_samples, int64_t rows_per_sample,
                           int64_t C, const int64_t *sample_n, const fz_dropout *drop,
                           fz_queue *queue)
{
    (void)queue;
    const fz_drop prepared = fz_drop_prepare(drop);
    for (int64_t i = 0; i < n_samples; i++) {
        const int64_t at = i * rows_per_sample * C;
        scale_sample(dr + at, NULL, dy + at, NULL,
                     sample_factor(&prepared, sample_n ? sample_n[i] : 0), rows_per_sample, C);
    }
    return FZ_OK;
}
