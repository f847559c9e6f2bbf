// A step of Adam on float32 weights whose gradients are bfloat16, and the weights in bfloat16.
//
// Kingma, Ba 2015, algorithm 1, with its ε̂ outside the root, as in reference/optimizers.py: one
// pass over memory, where casting gradients and weights apart would be two more. Numbers below the
// normal ones become 0: the moments of a weight that no gradient reaches any more halve for ever,
// and arithmetic on what is subnormal takes many times as long.

#include "bfloat16.h"
#include <float.h>
#include <math.h>

enum { PART = 8192 };  // weights that one thread takes at a time

// A tensor, as a row of addresses and its size.
typedef struct {
    float *weight, *mean, *square;
    const float *step;
    bf16 *copy;
    const bf16 *gradient;
    int64_t count;
} Tensor;

static inline float normal(float x) {
    return fabsf(x) < FLT_MIN ? 0.0f : x;
}

static void update(
    const Tensor *t, int64_t start, int64_t end, double lr, double beta1, double beta2, double eps
) {
    double power = 1.0 - pow(beta2, *t->step);
    float size = (float)(lr / (1.0 - pow(beta1, *t->step))), root = (float)(1.0 / sqrt(power));
    float keep = (float)beta2, new1 = (float)(1.0 - beta1), new2 = (float)(1.0 - beta2);
    float least = (float)eps;
    float *restrict w = t->weight, *restrict m = t->mean, *restrict v = t->square;
    bf16 *restrict copy = t->copy;
    const bf16 *restrict gradient = t->gradient;
#pragma omp simd
    for (int64_t i = start; i < end; i++) {
        float g = widened(gradient[i]);
        m[i] = normal(m[i] + new1 * (g - m[i]));
        v[i] = normal(keep * v[i] + new2 * g * g);
        w[i] -= size * m[i] / (sqrtf(v[i]) * root + least);
        copy[i] = rounded(w[i]);
    }
}

void adam(
    const Tensor *tensors, int64_t count, double lr, double beta1, double beta2, double eps,
    int threads
) {
#pragma omp parallel num_threads(threads)
    for (int64_t n = 0; n < count; n++) {
        const Tensor *t = tensors + n;
#pragma omp for schedule(static) nowait
        for (int64_t start = 0; start < t->count; start += PART) {
            int64_t end = start + PART < t->count ? start + PART : t->count;
            update(t, start, end, lr, beta1, beta2, eps);
        }
    }
}
