#include "model/ops/geglu.h"

#include <math.h>

static const double B = 0.044715;

static double tanh_of(double g)
{
    return tanh(sqrt(2.0 / acos(-1.0)) * (g + B * g * g * g));
}

void fz_geglu_forward_ref(double *y, const double *gate, const double *up, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = 0.5 * gate[i] * (1.0 + tanh_of(gate[i])) * up[i];
}

void fz_geglu_backward_ref(double *dgate, double *dup, const double *dy, const double *gate,
                           const double *up, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const double g = gate[i], t = tanh_of(g), d = dy[i], u = up[i];
        const double inner = sqrt(2.0 / acos(-1.0)) * (1.0 + 3.0 * B * g * g);
        dup[i] = d * 0.5 * g * (1.0 + t);
        dgate[i] = d * u * (0.5 * (1.0 + t) + 0.5 * g * (1.0 - t * t) * inner);
    }
}
