#include "model/ops/channel_attention.h"

#include <math.h>

enum { G = FZ_CHANNEL_GROUP };

static void softmax_row(double *a)
{
    double max = a[0], sum = 0.0;

    for (int j = 1; j < G; j++)
        max = fmax(max, a[j]);
    for (int j = 0; j < G; j++)
        sum += a[j] = exp(a[j] - max);
    for (int j = 0; j < G; j++)
        a[j] /= sum;
}

void fz_channel_attention_forward_ref(double *o, double *a, const double *qkv, int64_t n_images,
                                      int64_t n_tokens, int64_t C)
{
    for (int64_t m = 0; m < n_images * (C / G); m++) {
        const int64_t image = m / (C / G), c0 = m % (C / G) * G;
        const double *x = qkv + image * n_tokens * 3 * C + c0;
        double *A = a + m * G * G;

        for (int64_t i = 0; i < G; i++) {
            for (int64_t j = 0; j < G; j++) {
                double sum = 0.0;
                for (int64_t t = 0; t < n_tokens; t++)
                    sum += x[t * 3 * C + i] * x[t * 3 * C + C + j];
                A[i * G + j] = sum / sqrt((double)n_tokens);
            }
            softmax_row(A + i * G);
            for (int64_t t = 0; t < n_tokens; t++) {
                double sum = 0.0;
                for (int64_t j = 0; j < G; j++)
                    sum += A[i * G + j] * x[t * 3 * C + 2 * C + j];
                o[(image * n_tokens + t) * C + c0 + i] = sum;
            }
        }
    }
}

void fz_channel_attention_backward_ref(double *dqkv, const double *dout, const double *qkv,
                                       const double *a, int64_t n_images, int64_t n_tokens,
                                       int64_t C)
{
    for (int64_t i = 0; i < n_images * n_tokens * 3 * C; i++)
        dqkv[i] = 0.0;
    for (int64_t m = 0; m < n_images * (C / G); m++) {
        const int64_t image = m / (C / G), c0 = m % (C / G) * G;
        const double *x = qkv + image * n_tokens * 3 * C + c0;
        const double *dy = dout + image * n_tokens * C + c0;
        double *dx = dqkv + image * n_tokens * 3 * C + c0;
        const double *A = a + m * G * G;

        for (int64_t i = 0; i < G; i++) {
            double dA[G] = {0.0}, mean = 0.0;
            for (int64_t j = 0; j < G; j++) {
                for (int64_t t = 0; t < n_tokens; t++)
                    dA[j] += dy[t * C + i] * x[t * 3 * C + 2 * C + j];
                mean += A[i * G + j] * dA[j];
            }
            for (int64_t j = 0; j < G; j++) {
                const double dS = A[i * G + j] * (dA[j] - mean) / sqrt((double)n_tokens);
                for (int64_t t = 0; t < n_tokens; t++) {
                    dx[t * 3 * C + i] += dS * x[t * 3 * C + C + j];
                    dx[t * 3 * C + C + j] += dS * x[t * 3 * C + i];
                    dx[t * 3 * C + 2 * C + j] += A[i * G + j] * dy[t * C + i];
                }
            }
        }
    }
}
