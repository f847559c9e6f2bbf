// What the two likelihoods share: runs of logits, which may be bfloat16 (`half`), and the distance
// of a pixel from its mean, as in kernels/pixels.py; targets t are in [0, 1] here.
//
// With e = exp(-|l|), which cannot overflow, q = e / (1 + e) is the probability of the side that
// the logit l speaks against, and
//
//     sigmoid(l) - t = (1 - t) - q   for l >= 0
//                    = q - t         for l < 0
//
// and nothing cancels where t is 0 or 1.

#ifndef PIXELS_H
#define PIXELS_H

#include "bfloat16.h"
#include "elementary.h"

enum { RUN = 512, SERIAL = 8192 };  // pixels added up in float32; pixels that one thread does alone

static inline float improbable(float logit) {
    float e = exponential(-fabsf(logit));
    return e / (1.0f + e);
}

// sigmoid(logit) - t, given q; -0 counts as negative, where the sum is the same.
static inline float residual(float logit, float t, float q) {
    float side = (int32_t)bits_of(logit) < 0 ? 0.0f : 1.0f;
    return (side - t) - copysignf(q, logit);
}

// The pixels of the run that begins at `start`.
static inline int64_t run_from(int64_t start, int64_t P) {
    return P - start < RUN ? P - start : RUN;
}

// The address of logit i.
static inline const void *logit_at(const void *logits, int64_t i, int half) {
    return half ? (const void *)((const bf16 *)logits + i) : (const float *)logits + i;
}

// n logits as float32: in their place, or in `room`.
static inline const float *widened_run(const void *logits, int64_t n, int half, float *room) {
    if (!half) return logits;
    const bf16 *narrow = logits;
    for (int64_t i = 0; i < n; i++) room[i] = widened(narrow[i]);
    return room;
}

static inline void round_run(const float *slopes, int64_t n, bf16 *rounded_slopes) {
    for (int64_t i = 0; i < n; i++) rounded_slopes[i] = rounded(slopes[i]);
}

#endif
