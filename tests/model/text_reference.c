#include "tests/model/text_reference.h"

#include <math.h>
#include <string.h>

#include "core/assert.h"
#include "model/blocks/bart.h"
#include "model/blocks/gemma.h"
#include "model/blocks/head.h"
#include "model/ops/dropout.h"

/* All arrays of one call come from here and are given up together. */
enum { POOL = 6 << 20 };
static double pool[POOL];
static int64_t used;

static double *take(int64_t n)
{
    FZ_ASSERT(used + n <= POOL);
    double *p = pool + used;
    memset(p, 0, (size_t)n * sizeof *p);
    used += n;
    return p;
}

typedef struct sample {
    const text_model *m;
    const fz_model_config *c;
    bool training;
    int64_t b, n_enc, n_dec;
    const fz_block *block; /* the one at work */
} sample;

/* The block's i-th parameter as a dense array. */
static const double *weight(const sample *s, int i)
{
    const fz_program *p = s->m->program;
    const int at = p->uses[s->block->first_use + i].param;
    const fz_param *param = &p->params[at];
    const int64_t S = p->n_shards, n = fz_param_elements(param), piece = text_piece(s->m, at);
    const float *from = s->m->weights[at];
    double *w = take(n);
    for (int64_t e = 0; e < n; e++) {
        int64_t source = e;
        if (param->cut == FZ_CUT_COLS) {
            const int64_t cols = param->shape[1] / S, r = e / param->shape[1],
                          c = e % param->shape[1];
            source = c / cols * piece + r * cols + c % cols;
        } else if (param->cut == FZ_CUT_HEADS) {
            source = e / piece * param->replicas * piece + e % piece;
        }
        w[e] = (double)from[source];
    }
    return w;
}

static double keep(const sample *s, double p, int site, int64_t token, int64_t column)
{
    if (!s->training || !s->block->dropout_active || p == 0.0) return 1.0;
    const fz_dropout drop = {.p = p, .seed = TEXT_SEED, .site = s->block->site + (uint32_t)site};
    return fz_dropout_factor_ref(&drop, s->m->batch.sample_n[s->b], token, column);
}

/* y = x W^T + b */
static double *linear(const double *x, const double *w, const double *b, int64_t N, int64_t in,
                      int64_t out)
{
    double *y = take(N * out);
    for (int64_t r = 0; r < N; r++)
        for (int64_t o = 0; o < out; o++) {
            double sum = b ? b[o] : 0.0;
            for (int64_t i = 0; i < in; i++)
                sum += x[r * in + i] * w[o * in + i];
            y[r * out + o] = sum;
        }
    return y;
}

static void layer_norm(double *x, const double *w, const double *b, int64_t N, int64_t C)
{
    for (int64_t r = 0; r < N; r++) {
        double mean = 0.0, square = 0.0;
        for (int64_t c = 0; c < C; c++)
            mean += x[r * C + c] / (double)C;
        for (int64_t c = 0; c < C; c++)
            square += pow(x[r * C + c] - mean, 2) / (double)C;
        for (int64_t c = 0; c < C; c++)
            x[r * C + c] = (x[r * C + c] - mean) / sqrt(square + 1e-5) * w[c] + b[c];
    }
}

static double *rms_norm(const double *x, const double *w, int64_t N, int64_t C)
{
    double *y = take(N * C);
    for (int64_t r = 0; r < N; r++) {
        double square = 0.0;
        for (int64_t c = 0; c < C; c++)
            square += x[r * C + c] * x[r * C + c] / (double)C;
        for (int64_t c = 0; c < C; c++)
            y[r * C + c] = x[r * C + c] / sqrt(square + 1e-6) * (1.0 + w[c]);
    }
    return y;
}

typedef struct attention {
    int64_t n_q, n_kv, heads, kv_heads, head_dim, window;
    double scale, cap, p;
    int site;
    bool causal;
} attention;

static double *attend(const sample *s, const attention *a, const double *q, const double *k,
                      const double *v)
{
    const int64_t D = a->head_dim, qs = a->heads * D, ks = a->kv_heads * D;
    double *o = take(a->n_q * qs), *e = take(a->n_kv);
    for (int64_t h = 0; h < a->heads; h++)
        for (int64_t i = 0; i < a->n_q; i++) {
            const int64_t g = h / (a->heads / a->kv_heads);
            double total = 0.0;
            for (int64_t j = 0; j < a->n_kv; j++) {
                double z = 0.0;
                for (int64_t c = 0; c < D; c++)
                    z += q[i * qs + h * D + c] * k[j * ks + g * D + c];
                z *= a->scale;
                if (a->cap > 0.0) z = a->cap * tanh(z / a->cap);
                const bool hidden = (a->causal && j > i) || (a->window > 0 && j <= i - a->window);
                e[j] = hidden ? 0.0 : exp(z);
                total += e[j];
            }
            for (int64_t j = 0; j < a->n_kv; j++) {
                const double p = e[j] / total * keep(s, a->p, a->site, i, h * 65536 + j);
                for (int64_t c = 0; c < D; c++)
                    o[i * qs + h * D + c] += p * v[j * ks + g * D + c];
            }
        }
    return o;
}

/* ---- BART ---- */

/* Rows of ids (or, before them, of images) with positions, norm and dropout. */
static double *bart_embed(const sample *s, const int32_t *ids, int64_t N, int64_t C,
                          const float *images, int64_t n_images)
{
    const double *table = weight(s, FZ_EMBED_TABLE), *position = weight(s, FZ_EMBED_POS);
    double *x = take(N * C);
    for (int64_t r = 0; r < N; r++)
        for (int64_t c = 0; c < C; c++)
            x[r * C + c] = (r < n_images ? (double)images[r * C + c] : table[ids[r] * C + c]) +
                           position[(r + 2) * C + c];
    layer_norm(x, weight(s, FZ_EMBED_NORM_W), weight(s, FZ_EMBED_NORM_B), N, C);
    for (int64_t i = 0; i < N * C; i++)
        x[i] *= keep(s, s->c->dropout, 0, i / C, i % C);
    return x;
}

/* x = LN(x + drop(Attn(x, kv))) */
static void bart_attention(const sample *s, int u, double *x, const double *kv, int64_t n_kv,
                           int64_t kv_width, int64_t heads, bool causal, int site)
{
    const int64_t C = s->block->out_width, N = s->block->reads_enc ? s->n_dec : s->n_enc;
    const attention a = {.n_q = N,
                         .n_kv = n_kv,
                         .heads = heads,
                         .kv_heads = heads,
                         .head_dim = C / heads,
                         .scale = 1.0 / sqrt((double)(C / heads)),
                         .p = s->c->attn_dropout,
                         .site = site,
                         .causal = causal};
    const double *q = linear(x, weight(s, u + FZ_ATT_Q_W), weight(s, u + FZ_ATT_Q_B), N, C, C);
    const double *k =
        linear(kv, weight(s, u + FZ_ATT_K_W), weight(s, u + FZ_ATT_K_B), n_kv, kv_width, C);
    const double *v =
        linear(kv, weight(s, u + FZ_ATT_V_W), weight(s, u + FZ_ATT_V_B), n_kv, kv_width, C);
    const double *o = linear(attend(s, &a, q, k, v), weight(s, u + FZ_ATT_O_W),
                             weight(s, u + FZ_ATT_O_B), N, C, C);
    for (int64_t i = 0; i < N * C; i++)
        x[i] += o[i] * keep(s, s->c->dropout, site + 1, i / C, i % C);
    layer_norm(x, weight(s, u + FZ_ATT_NORM_W), weight(s, u + FZ_ATT_NORM_B), N, C);
}

static void bart_ffn(const sample *s, int u, double *x, int64_t N, int64_t C, int64_t F)
{
    double *h = linear(x, weight(s, u + FZ_FFN_FC1_W), weight(s, u + FZ_FFN_FC1_B), N, C, F);
    for (int64_t i = 0; i < N * F; i++)
        h[i] *= 0.5 * (1.0 + erf(h[i] / sqrt(2.0))) * keep(s, s->c->act_dropout, 4, i / F, i % F);
    const double *o = linear(h, weight(s, u + FZ_FFN_FC2_W), weight(s, u + FZ_FFN_FC2_B), N, F, C);
    for (int64_t i = 0; i < N * C; i++)
        x[i] += o[i] * keep(s, s->c->dropout, 5, i / C, i % C);
    layer_norm(x, weight(s, u + FZ_FFN_NORM_W), weight(s, u + FZ_FFN_NORM_B), N, C);
}

static void bart_layer(const sample *s, double *x, const double *enc)
{
    const fz_model_config *c = s->c;
    if (!s->block->reads_enc) {
        bart_attention(s, 0, x, x, s->n_enc, c->enc_width, c->enc_heads, false, 0);
        bart_ffn(s, FZ_ATT_USES, x, s->n_enc, c->enc_width, c->enc_ffn);
        return;
    }
    bart_attention(s, 0, x, x, s->n_dec, c->dec_width, c->dec_heads, true, 0);
    bart_attention(s, FZ_ATT_USES, x, enc, s->n_enc, c->enc_width, c->dec_heads, false, 2);
    bart_ffn(s, 2 * FZ_ATT_USES, x, s->n_dec, c->dec_width, c->dec_ffn);
}

/* ---- Gemma ---- */

static void rotate(double *x, int64_t N, int64_t heads, int64_t D, double theta)
{
    for (int64_t r = 0; r < N; r++)
        for (int64_t h = 0; h < heads; h++)
            for (int64_t i = 0; i < D / 2; i++) {
                double *a = x + (r * heads + h) * D + i, *b = a + D / 2;
                const double angle = (double)r * pow(theta, -2.0 * (double)i / (double)D);
                const double a0 = *a, b0 = *b;
                *a = a0 * cos(angle) - b0 * sin(angle);
                *b = b0 * cos(angle) + a0 * sin(angle);
            }
}

/* x += factor * RMS(Attn(in, kv)) */
static void gemma_attention(const sample *s, bool cross, double *x, const double *in,
                            const double *kv)
{
    const fz_model_config *c = s->c;
    const int64_t N = s->n_dec, C = c->dec_width, D = c->dec_head_dim;
    const int64_t n_kv = cross ? s->n_enc : N, width = cross ? c->enc_width : C;
    const int u = cross ? FZ_GEMMA_CROSS_Q : FZ_GEMMA_Q;
    const attention a = {.n_q = N,
                         .n_kv = n_kv,
                         .heads = c->dec_heads,
                         .kv_heads = c->dec_kv_heads,
                         .head_dim = D,
                         .scale = 1.0 / sqrt(c->query_scalar),
                         .cap = c->attn_softcap,
                         .causal = !cross,
                         .window = cross || s->block->layer % 2 ? 0 : c->sliding_window};
    double *q = linear(in, weight(s, u), NULL, N, C, a.heads * D);
    double *k = linear(kv, weight(s, u + 1), NULL, n_kv, width, a.kv_heads * D);
    const double *v = linear(kv, weight(s, u + 2), NULL, n_kv, width, a.kv_heads * D);
    if (!cross) {
        rotate(q, N, a.heads, D, c->rope_theta);
        rotate(k, N, a.kv_heads, D, c->rope_theta);
    }
    const double *o = linear(attend(s, &a, q, k, v), weight(s, u + 3), NULL, N, a.heads * D, C);
    const double *n =
        rms_norm(o, weight(s, cross ? FZ_GEMMA_CROSS_NORM : FZ_GEMMA_NORM_POST_ATTN), N, C);
    const double factor = cross ? tanh(weight(s, FZ_GEMMA_CROSS_GATE)[0]) : 1.0;
    for (int64_t i = 0; i < N * C; i++)
        x[i] += factor * n[i];
}

static void gemma_layer(const sample *s, double *x, const double *enc)
{
    const int64_t N = s->n_dec, C = s->c->dec_width, F = s->c->dec_ffn;
    const double *n = rms_norm(x, weight(s, FZ_GEMMA_NORM_IN), N, C);
    gemma_attention(s, false, x, n, n);
    if (s->block->n_uses == FZ_GEMMA_USES) gemma_attention(s, true, x, x, enc);
    const double *u = rms_norm(x, weight(s, FZ_GEMMA_NORM_PRE_FF), N, C);
    double *g = linear(u, weight(s, FZ_GEMMA_GATE), NULL, N, C, F);
    const double *up = linear(u, weight(s, FZ_GEMMA_UP), NULL, N, C, F);
    for (int64_t i = 0; i < N * F; i++)
        g[i] = 0.5 * g[i] *
               (1.0 + tanh(sqrt(2.0 / acos(-1.0)) * (g[i] + 0.044715 * pow(g[i], 3)))) * up[i];
    const double *m = rms_norm(linear(g, weight(s, FZ_GEMMA_DOWN), NULL, N, F, C),
                               weight(s, FZ_GEMMA_NORM_POST_FF), N, C);
    for (int64_t i = 0; i < N * C; i++)
        x[i] += m[i];
}

static double *gemma_embed(const sample *s, const int32_t *ids)
{
    const int64_t C = s->c->dec_width;
    const double *table = weight(s, FZ_GEMMA_EMBED_TABLE);
    double *x = take(s->n_dec * C);
    for (int64_t i = 0; i < s->n_dec * C; i++)
        x[i] = table[ids[i / C] * C + i % C] * sqrt((double)C);
    return x;
}

/* ---- the chain ---- */

static void head(const sample *s, const double *x, const int32_t *labels, double *loss,
                 int32_t *next)
{
    const int64_t N = s->n_dec, C = s->c->dec_width, V = s->c->dec_vocab;
    const double cap = s->c->final_softcap;
    if (s->block->n_uses == FZ_HEAD_USES) x = rms_norm(x, weight(s, FZ_HEAD_NORM), N, C);
    double *z = linear(x, weight(s, FZ_HEAD_TABLE), NULL, N, C, V);
    *next = -1;
    for (int64_t r = 0; r < N; r++) {
        double total = 0.0;
        for (int64_t v = 0; v < V; v++) {
            z[r * V + v] = cap * tanh(z[r * V + v] / cap);
            total += exp(z[r * V + v]);
        }
        loss[r] = labels[r] < 0 ? 0.0 : log(total) - z[r * V + labels[r]];
    }
    for (int64_t v = 0; N > 0 && v < V; v++)
        if (*next < 0 || z[(N - 1) * V + v] > z[(N - 1) * V + *next]) *next = (int32_t)v;
}

static void run_sample(sample *s, double *loss, int32_t *next)
{
    const text_model *m = s->m;
    const fz_microbatch *batch = &m->batch;
    const int64_t tokens = fz_image_tokens(s->c);
    const int32_t e0 = batch->enc_start[s->b], d0 = batch->dec_start[s->b];
    double *enc = NULL, *dec = NULL;

    s->n_enc = batch->enc_start[s->b + 1] - e0;
    s->n_dec = batch->dec_start[s->b + 1] - d0;
    used = 0;
    for (int i = m->first; i < m->program->n_blocks; i++) {
        s->block = &m->program->blocks[i];
        const fz_block_kind *kind = s->block->kind;
        if (kind == &fz_block_encoder_embed)
            enc = bart_embed(s, batch->enc_ids + e0, s->n_enc, s->c->enc_width,
                             m->vision + s->b * tokens * s->c->enc_width, tokens);
        else if (kind == &fz_block_bart_decoder_embed)
            dec = bart_embed(s, batch->dec_ids + d0, s->n_dec, s->c->dec_width, NULL, 0);
        else if (kind == &fz_block_gemma_decoder_embed)
            dec = gemma_embed(s, batch->dec_ids + d0);
        else if (kind == &fz_block_gemma_decoder_layer)
            gemma_layer(s, dec, enc);
        else if (kind == &fz_block_head)
            head(s, dec, batch->labels + d0, loss + d0, next + s->b);
        else
            bart_layer(s, s->block->reads_enc ? dec : enc, enc);
    }
}

void text_reference(const text_model *model, bool training, double *loss, int32_t *next)
{
    for (int64_t b = 0; b < model->batch.sizes.n_samples; b++) {
        sample s = {.m = model, .c = &model->program->config, .training = training, .b = b};
        run_sample(&s, loss, next);
    }
}
