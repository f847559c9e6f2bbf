// The gradients of the parameters of convolution.c's convolutions:
//
//     conv_weights   dw[c, u, v, f] = sum of fine[2i + u - 1, 2j + v - 1, f] coarse[i, j, c]
//     conv_relu      db[c]          = sum of dy[i, j, c] where y[i, j, c] > 0
//
// One of the images in the first is a gradient: the coarse one of a convolution, the fine one of a
// transposed one. Its sum over a batch is taken in parts, and these are added up in one order. What
// a coarse pixel meets is held beside what its neighbour in the row meets, for one instruction
// multiplies pairs of bfloat16 and adds both products to float32.

#include "bfloat16.h"

// sums[n] = parts[0][n] + ... + parts[apart - 1][n], in this order whatever the threads.
static void add_parts(const float *parts, int64_t apart, int64_t count, float *sums, int threads) {
#pragma omp parallel for num_threads(threads) if (count > 8192)
    for (int64_t n = 0; n < count; n++) {
        float sum = parts[n];
        for (int64_t s = 1; s < apart; s++) sum += parts[s * count + n];
        sums[n] = sum;
    }
}

// The gradient before a ReLU from that after it and the ReLU's result, and the bias's: its sum over
// pixels (N, C). `parts` has C places for each of `apart` parts of them.
void conv_relu(
    const bf16 *dy, const bf16 *y, int64_t N, int64_t C, bf16 *before, float *db, float *parts,
    int64_t apart, int threads
) {
#pragma omp parallel for num_threads(threads)
    for (int64_t s = 0; s < apart; s++) {
        float *sums = parts + s * C;
        memset(sums, 0, C * sizeof *sums);
        for (int64_t n = s * N / apart; n < (s + 1) * N / apart; n++)
            for (int64_t c = 0; c < C; c++) {
                bf16 d = (int16_t)y[n * C + c] > 0 ? dy[n * C + c] : 0;
                before[n * C + c] = d;
                sums[c] += widened(d);
            }
    }
    add_parts(parts, apart, C, db, threads);
}

#ifdef __AVX512BF16__

#include <omp.h>

// dw[c][k] += the sum over pairs of fine[k] coarse[c], for 16 numbers k and 16 channels c.
static void outer(
    const uint32_t *fine, const uint32_t *coarse, int64_t pairs_met, int64_t C, float *dw, int64_t K
) {
    __m512 sums[16];
#pragma GCC unroll 16
    for (int c = 0; c < 16; c++) sums[c] = _mm512_loadu_ps(dw + c * K);
    for (int64_t p = 0; p < pairs_met; p++, fine += 16, coarse += C) {
        __m512bh x = pairs(fine);
#pragma GCC unroll 16
        for (int c = 0; c < 16; c++)
            sums[c] = _mm512_dpbf16_ps(sums[c], x, everywhere(coarse[c]));
    }
#pragma GCC unroll 16
    for (int c = 0; c < 16; c++) _mm512_storeu_ps(dw + c * K, sums[c]);
}

// What two neighbours in a coarse row meet in the padded image, as pairs: 16 F of them, 16 here
// and the next 16 `strip` further.
static void meet(const bf16 *padded, int64_t line, int64_t F, uint32_t *out, int64_t strip) {
    bf16 first[16 * THIN], second[16 * THIN];  // runs too short for a vector, one after another
    for (int64_t u = 0; u < 4; u++)
        for (int64_t k = 0; k < 4 * F; k += F <= THIN ? 4 : 16) {
            const bf16 *one = padded + u * line + k, *other = one + 2 * F;
            if (F <= THIN) {
                memcpy(first + u * 4 * F + k, one, 8);
                memcpy(second + u * 4 * F + k, other, 8);
            } else {
                interleave(one, other, out + (u * 4 * F + k) / 16 * strip);
            }
        }
    for (int64_t k = 0; F <= THIN && k < F; k++)
        interleave(first + 16 * k, second + 16 * k, out + k * strip);
}

// Some coarse images, held as `met` pairs of neighbours in a row, and what these meet.
static void hold(
    const bf16 *fine, const bf16 *coarse, int64_t met, int64_t H, int64_t W, int64_t F, int64_t C,
    uint32_t *x, int64_t strip, uint32_t *d, bf16 *padded
) {
    int64_t half = W / 2, image = H * half, line = (2 * W + 2) * F;
    for (int64_t p = 0; p < met; p++, coarse += 2 * C) {
        int64_t i = p % image / half, j = p % half;
        if (p % image == 0) pad(fine + p / image * 4 * H * W * F, 2 * H, 2 * W, F, padded);
        meet(padded + 2 * i * line + 4 * j * F, line, F, x + 16 * p, strip);
        for (int64_t c = 0; c < C; c += 16) interleave(coarse + c, coarse + C + c, d + p * C + c);
    }
}

// The batch is added up in `apart` parts, `together` images at a time. `parts` has 16 F C places
// for each, `room` has `place` a thread: for the pairs, what they meet, and a padded image.
void conv_weights(
    const bf16 *fine, const bf16 *coarse, int64_t B, int64_t H, int64_t W, int64_t F, int64_t C,
    float *dw, float *parts, int64_t apart, uint32_t *room, int64_t place, int64_t together,
    int threads
) {
    int64_t K = 16 * F, image = H * W / 2;
#pragma omp parallel for num_threads(threads)
    for (int64_t s = 0; s < apart; s++) {
        uint32_t *x = room + omp_get_thread_num() * place, *d = x + (together * image + 1) * K;
        bf16 *padded = (bf16 *)(d + together * image * C);
        int64_t end = (s + 1) * B / apart;
        float *sums = parts + s * C * K;
        memset(sums, 0, C * K * sizeof *sums);
        for (int64_t b = s * B / apart; b < end; b += together) {
            int64_t met = (end - b < together ? end - b : together) * image;
            int64_t strip = 16 * (met + 1);  // not a power of two, which caches dislike
            const bf16 *images = fine + b * 4 * H * W * F;
            hold(images, coarse + b * H * W * C, met, H, W, F, C, x, strip, d, padded);
            for (int64_t k = 0; k < K; k += 16)
                for (int64_t c = 0; c < C; c += 16)
                    outer(x + k / 16 * strip, d + c, met, C, sums + c * K + k, K);
        }
    }
    add_parts(parts, apart, C * K, dw, threads);
}

#endif
