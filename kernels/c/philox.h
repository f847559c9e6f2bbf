// Noise inside a kernel: Philox4x32-10 and Box-Muller, as in kernels/philox.py.
//
//     key     = the low and high 32 bits of the seed
//     counter = (step, sample, latent / 4, stream)        lane = latent % 4
//
// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011);
// Box, Muller (1958).

#ifndef PHILOX_H
#define PHILOX_H

#include "elementary.h"

enum { COUNTERS = 256 };  // of a tile, which keeps it in the first-level cache

// Where the noise of a tile comes from: `rows` samples from `sample` on, `groups` of four latents.
typedef struct {
    const int64_t *key;  // seed and step
    int64_t sample, stream, group, rows, groups;
} Draw;

// n rounded up, so that no number is left to the code that follows a loop of vectors: it may round
// otherwise, and a number must not depend on its place in a tile.
static inline int64_t whole_vectors(int64_t n) {
    return (n + 15) / 16 * 16;
}

// words[lane][i] for the counters of a tile, row after row, and some more.
static inline void draw_words(Draw at, uint32_t words[4][COUNTERS]) {
    uint32_t *c0 = words[0], *c1 = words[1], *c2 = words[2], *c3 = words[3];
    uint32_t step = (uint32_t)at.key[1], stream = (uint32_t)at.stream;
    uint32_t low = (uint32_t)at.key[0], high = (uint32_t)((uint64_t)at.key[0] >> 32);
    int64_t n = whole_vectors(at.rows * at.groups);
    memset(c1 + n - 16, 0, 16 * sizeof *c1);
    memset(c2 + n - 16, 0, 16 * sizeof *c2);
    for (int64_t row = 0, i = 0; row < at.rows; row++)
        for (int64_t group = 0; group < at.groups; group++, i++) {
            c1[i] = (uint32_t)(at.sample + row);
            c2[i] = (uint32_t)(at.group + group);
        }
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        uint32_t a = step, b = c1[i], c = c2[i], d = stream, k0 = low, k1 = high;
        for (int round = 0; round < 10; round++) {
            uint64_t of_a = (uint64_t)a * 0xD2511F53u, of_c = (uint64_t)c * 0xCD9E8D57u;
            a = (uint32_t)(of_c >> 32) ^ b ^ k0;
            c = (uint32_t)(of_a >> 32) ^ d ^ k1;
            b = (uint32_t)of_c;
            d = (uint32_t)of_a;
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        c0[i] = a;
        c1[i] = b;
        c2[i] = c;
        c3[i] = d;
    }
}

// The upper 24 bits of a word over 2^24: in [0, 1), exact.
static inline float uniform(uint32_t word) {
    return (float)(int32_t)(word >> 8) * 0x1p-24f;
}

static inline float smaller(float a, float b) {
    return a < b ? a : b;
}

// sqrt(-2 ln(1 - u)) (cos 2 pi v, sin 2 pi v) of the uniforms u, v of each pair of words, to every
// fourth place of `normals`. Angles are folded to a quarter turn, exactly.
static inline void box_muller(
    const uint32_t *even, const uint32_t *odd, float *restrict normals, int64_t n
) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float radius = sqrtf(-2.0f * logarithm(1.0f - uniform(even[i]))), v = uniform(odd[i]);
        float cosine = sine_of_turn(fabsf(v - 0.5f) - 0.25f);
        float sine = sine_of_turn(smaller(v, fabsf(v - 0.75f) - 0.25f));
        normals[4 * i] = radius * cosine;
        normals[4 * i + 1] = radius * sine;
    }
}

// The standard normals of a tile, (rows, 4 groups), and some more.
static inline void draw_normals(Draw at, float normals[4 * COUNTERS]) {
    uint32_t words[4][COUNTERS];
    int64_t n = whole_vectors(at.rows * at.groups);
    draw_words(at, words);
    box_muller(words[0], words[1], normals, n);
    box_muller(words[2], words[3], normals + 2, n);
}

#endif
