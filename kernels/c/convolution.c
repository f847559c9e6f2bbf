// Convolutions of 4x4 at stride 2 and padding 1 in bfloat16, between fine images (B, 2H, 2W, F) and
// coarse ones (B, H, W, C), channels last, with float32 weights (C, 4, 4, F):
//
//     conv            coarse[i, j, c] = sum of fine[2i + u - 1, 2j + v - 1, f] w[c, u, v, f]
//     conv_transpose  fine[m, n, f]   = sum of coarse[i, j, c] w[c, u, v, f] where those meet
//
// Each is the gradient of the other's image; that of the weights is in convolution_gradient.c. Both
// are products of matrices whose rows are runs of neighbours in a padded image (four runs of 4 F
// numbers for a coarse pixel, two of 2 C for a fine one), so nothing is unfolded. One instruction
// multiplies pairs of bfloat16 and adds both products to float32. C is a multiple of 32, W of 4, and
// F of 32 or, in grey or colour, at most 4.

#include "tiles.h"

#ifdef __AVX512BF16__

#include <omp.h>

// `packed` has 8 F C places, `room` one for a padded fine image a thread.
void conv(
    const bf16 *fine, const float *weight, const float *bias, int64_t relu,
    int64_t B, int64_t H, int64_t W, int64_t F, int64_t C,
    bf16 *coarse, uint32_t *packed, bf16 *room, int threads
) {
    int64_t K = 16 * F, line = (2 * W + 2) * F, size = (2 * H + 2) * line;
    for (int64_t c = 0; c < C; c++)
        for (int64_t k = 0; k < K; k += 2) {
            const float *w = weight + c * K + k;
            packed[k / 2 * C + c] = pair(rounded(w[0]), rounded(w[1]));
        }
#pragma omp parallel for num_threads(threads)
    for (int64_t b = 0; b < B; b++) {
        bf16 *padded = room + omp_get_thread_num() * size;
        pad(fine + b * 4 * H * W * F, 2 * H, 2 * W, F, padded);
        for (int64_t i = 0; i < H; i++) {
            Runs taps = {padded + 2 * i * line, 2 * F, 4, line, 4 * F};
            rows(W, taps, packed, C, C, bias, relu, coarse + (b * H + i) * W * C, C);
        }
    }
}

// Row 2m + r of a fine image meets row m + r - 1 + t of the coarse one in row 3 - r - 2t of the
// weights, t = 0, 1, and so do columns: 2 C F pairs, of neighbours in C, for each (r, s).
static void pack_by_parity(const float *weight, int64_t F, int64_t C, uint32_t *packed) {
    for (int64_t u = 0; u < 4; u++)
        for (int64_t v = 0; v < 4; v++) {
            int64_t r = (3 - u) % 2, s = (3 - v) % 2, t = (3 - u) / 2, q = (3 - v) / 2;
            uint32_t *block = packed + ((2 * r + s) * 2 * C + (2 * t + q) * C / 2) * F;
            for (int64_t c = 0; c < C; c += 2) {
                const float *w = weight + (c * 16 + u * 4 + v) * F, *next = w + 16 * F;
                for (int64_t f = 0; f < F; f++)
                    block[c / 2 * F + f] = pair(rounded(w[f]), rounded(next[f]));
            }
        }
}

// `packed` has 8 F C places, `room` one for a padded coarse image a thread.
void conv_transpose(
    const bf16 *coarse, const float *weight, const float *bias, int64_t relu,
    int64_t B, int64_t H, int64_t W, int64_t F, int64_t C,
    bf16 *fine, uint32_t *packed, bf16 *room, int threads
) {
    int64_t line = (W + 2) * C, size = (H + 2) * line;
    pack_by_parity(weight, F, C, packed);
#pragma omp parallel for num_threads(threads)
    for (int64_t b = 0; b < B; b++) {
        bf16 *padded = room + omp_get_thread_num() * size;
        pad(coarse + b * H * W * C, H, W, C, padded);
        for (int64_t m = 0; m < 2 * H; m++)
            for (int64_t s = 0; s < 2; s++) {
                Runs taps = {padded + (m / 2 + m % 2) * line + s * C, C, 2, line, 2 * C};
                bf16 *out = fine + ((b * 2 * H + m) * 2 * W + s) * F;
                const uint32_t *w = packed + (2 * (m % 2) + s) * 2 * C * F;
                rows(W, taps, w, F, F, bias, relu, out, 2 * F);
            }
    }
}

// The 16 F products (u, v, f) of each of some coarse pixels.
INLINED void patches(int pixels, Runs a, const uint32_t *w, int64_t F, float *taps) {
    for (int64_t k = 0; k < 16 * F; k += 16) {
        __m512 sums[8][2] = {0};
        multiply(pixels, 1, a, w + k, 16 * F, sums);
#pragma GCC unroll 8
        for (int p = 0; p < pixels; p++) _mm512_storeu_ps(taps + p * 16 * F + k, sums[p][0]);
    }
}

// Adds the products of a coarse row, with those of a pixel of zeros at both of its ends, to the four
// fine rows that it meets: two neighbours in it meet in 2 F numbers of each.
INLINED void add_patches(const float *taps, int64_t W, int64_t F, float *places, int64_t line) {
    for (int64_t u = 0; u < 4; u++, taps += 4 * F, places += line)
        for (int64_t j = 0; j <= W; j++) {
            const float *left = taps + j * 16 * F + 2 * F, *right = taps + (j + 1) * 16 * F;
            for (int64_t e = 0; e < 2 * F; e++) places[j * 2 * F + e] += left[e] + right[e];
        }
}

// conv_transpose to F <= THIN channels, which would leave most of a vector empty; `packed` has
// 8 F C places, `room` for a padded fine image and 16 F (W + 2) products a thread.
void conv_transpose_thin(
    const bf16 *coarse, const float *weight, const float *bias, int64_t relu,
    int64_t B, int64_t H, int64_t W, int64_t F, int64_t C,
    bf16 *fine, uint32_t *packed, float *room, int threads
) {
    int64_t K = 16 * F, line = (2 * W + 2) * F, size = (2 * H + 2) * line;
    int64_t products = K * (W + 2);
    for (int64_t c = 0; c < C; c += 2)
        for (int64_t k = 0; k < K; k++) {
            const float *w = weight + c * K + k;
            packed[c / 2 * K + k] = pair(rounded(w[0]), rounded(w[K]));
        }
#pragma omp parallel for num_threads(threads)
    for (int64_t b = 0; b < B; b++) {
        float *padded = room + omp_get_thread_num() * (size + products), *taps = padded + size;
        memset(taps, 0, products * sizeof *taps);
        for (int64_t n = 0; n < line; n++) padded[n] = bias ? bias[n % F] : 0.0f;
        for (int64_t m = 1; m < 2 * H + 2; m++)
            memcpy(padded + m * line, padded, line * sizeof *padded);
        for (int64_t i = 0; i < H; i++) {
            Runs a = {coarse + (b * H + i) * W * C, C, 1, 0, C};
            float *places = padded + 2 * i * line;
            int64_t j = 0;
            for (; j + 8 <= W; j += 8, a.from += 8 * C) patches(8, a, packed, F, taps + (j + 1) * K);
            for (; j < W; j += 4, a.from += 4 * C) patches(4, a, packed, F, taps + (j + 1) * K);
            if (F == 1) add_patches(taps, W, 1, places, line);
            else if (F == 3) add_patches(taps, W, 3, places, line);
            else add_patches(taps, W, F, places, line);
        }
        for (int64_t m = 0; m < 2 * H; m++) {
            const float *from = padded + (m + 1) * line + F;
            bf16 *out = fine + (b * 2 * H + m) * 2 * W * F;
            for (int64_t n = 0; n < 2 * W * F; n++)
                out[n] = rounded(relu && from[n] < 0.0f ? 0.0f : from[n]);
        }
    }
}

#endif
