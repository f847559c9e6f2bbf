// A step of Adam or Adagrad on float32 weights whose gradients are bfloat16, and the weights in
// bfloat16.
//
// As in reference/optimizers.py: Kingma, Ba 2015, algorithm 1, with its ε̂ outside the root, and
// Duchi, Hazan, Singer 2011, figure 1. One pass over memory, where casting gradients and weights
// apart would be two more. Numbers below the normal ones become 0: Adam's moments of a weight that
// no gradient reaches any more halve for ever, and arithmetic on what is subnormal takes many times
// as long.

#include "bfloat16.h"
#include <float.h>
#include <math.h>

enum { PART = 8192 };  // weights that one thread takes at a time

// A weight, as a row of addresses and its size. Adagrad has one moment, and counts no steps.
typedef struct {
    float *weight, *moments[2];
    const float *step;
    bf16 *copy;
    const bf16 *gradient;
    int64_t count;
} Tensor;

typedef struct {
    double lr, beta1, beta2, eps;
} Settings;

typedef void Update(const Tensor *, int64_t start, int64_t end, const Settings *);

static inline float normal(float x) {
    return fabsf(x) < FLT_MIN ? 0.0f : x;
}

static void adam_update(const Tensor *t, int64_t start, int64_t end, const Settings *s) {
    double power = 1.0 - pow(s->beta2, *t->step);
    float size = (float)(s->lr / (1.0 - pow(s->beta1, *t->step))), root = (float)(1.0 / sqrt(power));
    float keep = (float)s->beta2, new1 = (float)(1.0 - s->beta1), new2 = (float)(1.0 - s->beta2);
    float least = (float)s->eps;
    float *restrict w = t->weight, *restrict m = t->moments[0], *restrict v = t->moments[1];
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

static void adagrad_update(const Tensor *t, int64_t start, int64_t end, const Settings *s) {
    float size = (float)s->lr, least = (float)s->eps;
    float *restrict w = t->weight, *restrict sum = t->moments[0];
    bf16 *restrict copy = t->copy;
    const bf16 *restrict gradient = t->gradient;
#pragma omp simd
    for (int64_t i = start; i < end; i++) {
        float g = widened(gradient[i]);
        sum[i] = normal(sum[i] + g * g);
        w[i] -= size * g / (sqrtf(sum[i]) + least);
        copy[i] = rounded(w[i]);
    }
}

static void each_part(
    Update *update, const Tensor *tensors, int64_t count, const Settings *settings, int threads
) {
#pragma omp parallel num_threads(threads)
    for (int64_t n = 0; n < count; n++) {
        const Tensor *t = tensors + n;
#pragma omp for schedule(static) nowait
        for (int64_t start = 0; start < t->count; start += PART) {
            int64_t end = start + PART < t->count ? start + PART : t->count;
            update(t, start, end, settings);
        }
    }
}

void adam(
    const Tensor *tensors, int64_t count, double lr, double beta1, double beta2, double eps,
    int threads
) {
    each_part(adam_update, tensors, count, &(Settings){lr, beta1, beta2, eps}, threads);
}

void adagrad(const Tensor *tensors, int64_t count, double lr, double eps, int threads) {
    each_part(adagrad_update, tensors, count, &(Settings){.lr = lr, .eps = eps}, threads);
}
