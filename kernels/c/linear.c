// Linear layers in bfloat16, and their gradients:
//
//     linear            y = x wT + b, (B, N) from (B, K) and (N, K), then a ReLU if `relu`
//     linear_gradient   dx = d w, dw = dT x, db[o] = sum of d[i, o], with d = dy where y > 0
//
// Each thread takes 32 columns of a result at a time, and for them holds pairs of rows of the second
// matrix side by side: as they lie for the gradients, transposed for y. B, K and N are even.

#include "tiles.h"

#ifdef __AVX512BF16__

#include <omp.h>

enum { PANEL = 32 };  // columns

static inline int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

// 16 rows of 16 in place: blocks of 1, 2, 4 and 8 change sides.
INLINED void transpose(__m512i square[16]) {
    __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
#pragma GCC unroll 4
    for (int d = 1; d < 16; d *= 2) {
        __m512i side = _mm512_set1_epi32(d), other = _mm512_set1_epi32(16);
        __mmask16 right = _mm512_test_epi32_mask(lanes, side);
        __m512i left = _mm512_mask_add_epi32(lanes, right, _mm512_sub_epi32(lanes, side), other);
        __m512i down = _mm512_mask_add_epi32(_mm512_add_epi32(lanes, side), right, lanes, other);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            if (i & d) continue;
            __m512i above = square[i], below = square[i + d];
            square[i] = _mm512_permutex2var_epi32(above, left, below);
            square[i + d] = _mm512_permutex2var_epi32(above, down, below);
        }
    }
}

// Columns of wT: `width` rows of w (·, K), their pairs below each other; 0 where there is no row.
static void lay_across(const bf16 *w, int64_t K, int64_t width, uint32_t *panel) {
    for (int64_t s = 0; s < PANEL; s += 16)
        for (int64_t k = 0; k < K / 2; k += 16) {
            int64_t count = least(K / 2 - k, 16);
            __mmask16 there = (__mmask16)((1u << count) - 1);
            __m512i square[16];
#pragma GCC unroll 16
            for (int64_t o = 0; o < 16; o++)
                square[o] = s + o < width
                    ? _mm512_maskz_loadu_epi32(there, w + (s + o) * K + 2 * k)
                    : _mm512_setzero_si512();
            transpose(square);
#pragma GCC unroll 16
            for (int64_t p = 0; p < 16; p++)
                if (p < count) _mm512_storeu_si512(panel + (k + p) * PANEL + s, square[p]);
        }
}

// `width` columns of m (count, N), pairs of its rows side by side; 0 where there is no column.
static void lay_pairs(const bf16 *m, int64_t N, int64_t count, int64_t width, uint32_t *panel) {
    for (int64_t i = 0; i < count; i += 2, m += 2 * N, panel += PANEL) {
        __builtin_prefetch(m + 32 * N);  // a short piece of each row: no processor foresees that
        __builtin_prefetch(m + 33 * N);
        for (int64_t c = 0; c < PANEL; c += 16) {
            if (c + 16 <= width) interleave(m + c, m + N + c, panel + c);
            else
                for (int64_t e = c; e < c + 16; e++)
                    panel[e] = e < width ? pair(m[e], m[N + e]) : 0;
        }
    }
}

// `room` has 16 K places a thread.
void linear(
    const bf16 *x, const bf16 *w, const bf16 *bias, int64_t relu, int64_t B, int64_t K, int64_t N,
    bf16 *y, uint32_t *room, int threads
) {
    Runs across = {x, K, 1, 0, K};
#pragma omp parallel for num_threads(threads)
    for (int64_t o = 0; o < N; o += PANEL) {
        int64_t width = least(N - o, PANEL);
        uint32_t *panel = room + omp_get_thread_num() * 16 * K;
        float b[PANEL] = {0};
        for (int64_t i = 0; bias && i < width; i++) b[i] = widened(bias[o + i]);
        lay_across(w + o * K, K, width, panel);
        rows(B, across, panel, PANEL, width, b, relu, y + o, N);
    }
}

// Of `width` columns, d = dy where y (if any) is positive, its pairs of rows (a panel), its sums.
static void before_relu(
    const bf16 *dy, const bf16 *y, int64_t B, int64_t N, int64_t width, bf16 *d, uint32_t *met,
    bf16 *db
) {
    float sums[PANEL] = {0};
    for (int64_t i = 0; i < B; i++)
        for (int64_t c = 0; c < width; c++) {
            int64_t at = i * N + c;
            d[at] = y && !(y[at] & 0x7fff) ? 0 : dy[at];
            sums[c] += widened(d[at]);
        }
    for (int64_t i = 0; i < B; i += 2)
        for (int64_t c = 0; c < width; c++)
            met[i / 2 * PANEL + c] = pair(d[i * N + c], d[(i + 1) * N + c]);
    for (int64_t c = 0; c < width; c++) db[c] = rounded(sums[c]);
}

// `y` is none without a ReLU, `dx` where it is not wanted. `d` has B N places, `met` 16 B for every
// 32 columns of it or fewer, and `room` 16 times the larger of B and N a thread.
void linear_gradient(
    const bf16 *x, const bf16 *w, const bf16 *y, const bf16 *dy, int64_t B, int64_t K, int64_t N,
    bf16 *dx, bf16 *dw, bf16 *db, bf16 *d, uint32_t *met, uint32_t *room, int threads
) {
    Runs along = {d, N, 1, 0, N};
#pragma omp parallel num_threads(threads)
    {
        uint32_t *panel = room + omp_get_thread_num() * 16 * (B > N ? B : N);
#pragma omp for
        for (int64_t o = 0; o < N; o += PANEL)
            before_relu(
                dy + o, y ? y + o : y, B, N, least(N - o, PANEL), d + o, met + o * B / 2, db + o
            );
#pragma omp for
        for (int64_t k = 0; k < K; k += PANEL) {
            int64_t width = least(K - k, PANEL);
            if (dx) {
                lay_pairs(w + k, K, N, width, panel);
                rows(B, along, panel, PANEL, width, NULL, 0, dx + k, K);
            }
            lay_pairs(x + k, K, B, width, panel);
            for (int64_t o = 0; o < N; o += PANEL) {
                Runs down = {(bf16 *)(met + o * B / 2), 2, B / 2, 2 * PANEL, 2};
                rows(least(N - o, PANEL), down, panel, PANEL, width, NULL, 0, dw + o * K + k, K);
            }
        }
    }
}

#endif
