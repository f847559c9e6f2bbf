// bfloat16 in C: numbers, pairs of them as the processor multiplies them, and padded images.

#ifndef BFLOAT16_H
#define BFLOAT16_H

#include <stdint.h>
#include <string.h>

#define INLINED static inline __attribute__((always_inline))

typedef uint16_t bf16;

enum { THIN = 4 };  // channels, at most, that would not fill a vector

// To nearest, and to even between two; NaN stays.
static inline bf16 rounded(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t nearest = bits + 0x7fff + (bits >> 16 & 1);
    return (bf16)(x == x ? nearest >> 16 : bits >> 16 | 0x40);
}

static inline float widened(bf16 x) {
    uint32_t bits = (uint32_t)x << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

static inline uint32_t pair(bf16 first, bf16 second) {
    return first | (uint32_t)second << 16;
}

static inline uint32_t pair_at(const bf16 *p) {
    uint32_t both;
    memcpy(&both, p, sizeof both);
    return both;
}

// An image (H, W, C) with a border of zeros: (H + 2, W + 2, C).
static inline void pad(const bf16 *image, int64_t H, int64_t W, int64_t C, bf16 *padded) {
    int64_t line = (W + 2) * C;
    memset(padded, 0, line * sizeof *padded);
    for (int64_t i = 0; i < H; i++) {
        bf16 *to = padded + (i + 1) * line;
        memset(to, 0, C * sizeof *to);
        memcpy(to + C, image + i * W * C, W * C * sizeof *to);
        memset(to + line - C, 0, C * sizeof *to);
    }
    memset(padded + (H + 1) * line, 0, line * sizeof *padded);
}

#endif
