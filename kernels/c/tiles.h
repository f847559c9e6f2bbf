// Products of matrices in bfloat16: 8 rows by 32 columns at a time, added up in registers.
//
// A row of the first is made of runs of numbers in memory; the second holds pairs of its rows side
// by side, for one instruction multiplies pairs of bfloat16 and adds both products to float32.

#ifndef TILES_H
#define TILES_H

#include "bfloat16.h"

#ifdef __AVX512BF16__
#include <immintrin.h>

static inline __m512bh pairs(const void *p) {
    return (__m512bh)_mm512_loadu_si512(p);
}

// Sixteen pairs of a number of `a` and one of `b`.
static inline void interleave(const bf16 *a, const bf16 *b, uint32_t *out) {
    __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)a));
    __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)b));
    _mm512_storeu_si512(out, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}

static inline __m512bh everywhere(uint32_t pair) {
    return (__m512bh)_mm512_set1_epi32((int32_t)pair);
}

// Rows `step` apart: of each, `lines` runs of `length`, `line` apart.
typedef struct {
    const bf16 *from;
    int64_t step, lines, line, length;
} Runs;

// sums[r][v] += row r times columns 16 v to 16 v + 15 of w (pairs, columns).
INLINED void multiply(
    int rows, int vectors, Runs a, const uint32_t *w, int64_t columns, __m512 sums[8][2]
) {
    for (int64_t i = 0; i < a.lines; i++, a.from += a.line)
        for (int64_t k = 0; k < a.length; k += 2, w += columns)
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) {
                __m512bh x = everywhere(pair_at(a.from + r * a.step + k));
#pragma GCC unroll 2
                for (int v = 0; v < vectors; v++)
                    sums[r][v] = _mm512_dpbf16_ps(sums[r][v], x, pairs(w + 16 * v));
            }
}

// `width` columns, at most 32, of some rows: the product, after a bias and before a ReLU where
// there are any. The bias has 32 places.
INLINED void tile(
    int rows, Runs a, const uint32_t *w, int64_t columns, int64_t width, const float *bias,
    int64_t relu, bf16 *out, int64_t apart
) {
    __m512 sums[8][2], zero = _mm512_setzero_ps();
    __mmask32 there = width < 32 ? ((__mmask32)1 << width) - 1 : ~(__mmask32)0;
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        sums[r][0] = bias ? _mm512_loadu_ps(bias) : zero;
        sums[r][1] = bias ? _mm512_loadu_ps(bias + 16) : zero;
    }
    multiply(rows, 2, a, w, columns, sums);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {  // max gives its second argument where one is NaN
        __m512 low = relu ? _mm512_max_ps(zero, sums[r][0]) : sums[r][0];
        __m512 high = relu ? _mm512_max_ps(zero, sums[r][1]) : sums[r][1];
        __m512i both = (__m512i)_mm512_cvtne2ps_pbh(high, low);
        _mm512_mask_storeu_epi16(out + r * apart, there, both);
    }
}

// The same for `count` rows and all columns, of which `width` are there.
static inline void rows(
    int64_t count, Runs a, const uint32_t *w, int64_t columns, int64_t width, const float *bias,
    int64_t relu, bf16 *out, int64_t apart
) {
    const bf16 *from = a.from;
    for (int64_t n = 0; n < columns; n += 32, w += 32, out += 32, width -= 32) {
        const float *b = bias ? bias + n : bias;
        for (int64_t r = 0, some; r < count; r += some) {
            a.from = from + r * a.step;
            some = count - r < 4 ? 1 : count - r < 8 ? 4 : 8;
            bf16 *to = out + r * apart;
            if (some == 8) tile(8, a, w, columns, width, b, relu, to, apart);
            else if (some == 4) tile(4, a, w, columns, width, b, relu, to, apart);
            else tile(1, a, w, columns, width, b, relu, to, apart);
        }
    }
}

#endif

#endif
