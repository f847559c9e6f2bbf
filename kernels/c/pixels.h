// What the two likelihoods share: the distance of a pixel from its mean, as in kernels/pixels.py.
//
// With a = |l| and e = exp(-a), which cannot overflow, and t = x / levels,
//
//     sigmoid(l) - t = ((1 - t) - t e) / (1 + e)   for l >= 0
//                    = (e (1 - t) - t) / (1 + e)   for l < 0
//
// and nothing cancels where t is 0 or 1.

#ifndef PIXELS_H
#define PIXELS_H

#include "elementary.h"

enum { RUN = 512, SERIAL = 8192 };  // pixels added up in float32; pixels that one thread does alone

// levels (1 + e) (sigmoid(logit) - x / levels), given e = exp(-|logit|).
static inline float residual(float logit, float x, float levels, float e) {
    float rest = levels - x;
    return logit >= 0.0f ? rest - x * e : e * rest - x;
}

static inline int64_t end_of_run(int64_t start, int64_t P) {
    return P - start < RUN ? P : start + RUN;
}

#endif
