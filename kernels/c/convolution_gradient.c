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
                bf16 d = y[n * C + c] & 0x7fff ? dy[n * C + c] : 0;
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

// The lines of a fine image that coarse row i meets, with zeros around the image.
static void pad_lines(
    const bf16 *image, int64_t i, int64_t H, int64_t W, int64_t F, bf16 *lines
) {
    int64_t line = (2 * W + 2) * F, width = 2 * W * F;
    memset(lines, 0, 4 * line * sizeof *lines);
    for (int64_t u = 0; u < 4; u++) {
        int64_t m = 2 * i + u - 1;
        if (m < 0 || m >= 2 * H) continue;
        memcpy(lines + u * line + F, image + m * width, width * sizeof *lines);
    }
}

// What two neighbours in a coarse row meet in these lines, as 16 F pairs: 16 of them here, and the
// next 16 `strip` further.
static void meet(const bf16 *lines, int64_t line, int64_t F, uint32_t *out, int64_t strip) {
    for (int64_t u = 0; u < 4; u++, lines += line)
        for (int64_t k = 0; k < 4 * F; k += 16, out += strip)
            interleave(lines + k, lines + 2 * F + k, out);
}

// The same for F <= THIN, with runs too short for a vector.
static void meet_thin(const bf16 *lines, int64_t line, int64_t F, uint32_t *out, int64_t strip) {
    bf16 first[16 * THIN], second[16 * THIN];
    for (int64_t u = 0; u < 4; u++, lines += line)
        for (int64_t k = 0; k < 4 * F; k += 4) {
            memcpy(first + u * 4 * F + k, lines + k, 8);
            memcpy(second + u * 4 * F + k, lines + 2 * F + k, 8);
        }
    for (int64_t k = 0; k < 16 * F; k += 16, out += strip)
        interleave(first + k, second + k, out);
}

// The batch is `B` H coarse rows, added up in `apart` parts, some `rows` at a time. `parts` has
// 16 F C places for each, `room` has `place` a thread: for what pairs meet, the pairs, and lines.
void conv_weights(
    const bf16 *fine, const bf16 *coarse, int64_t B, int64_t H, int64_t W, int64_t F, int64_t C,
    float *dw, float *parts, int64_t apart, uint32_t *room, int64_t place, int64_t rows,
    int threads
) {
    int64_t K = 16 * F, half = W / 2, line = (2 * W + 2) * F;
#pragma omp parallel for num_threads(threads)
    for (int64_t s = 0; s < apart; s++) {
        uint32_t *x = room + omp_get_thread_num() * place, *d = x + (rows * half + 1) * K;
        bf16 *lines = (bf16 *)(d + rows * half * C);
        float *sums = parts + s * C * K;
        memset(sums, 0, C * K * sizeof *sums);
        int64_t end = (s + 1) * B * H / apart;
        for (int64_t start = s * B * H / apart; start < end; start += rows) {
            int64_t met = (end - start < rows ? end - start : rows) * half;
            int64_t strip = 16 * (met + 1);  // not a power of two, which caches dislike
            for (int64_t p = 0; p < met; p++) {
                int64_t row = start + p / half, j = p % half;
                const bf16 *image = fine + row / H * 4 * H * W * F;
                if (j == 0) pad_lines(image, row % H, H, W, F, lines);
                if (F <= THIN) meet_thin(lines + 4 * j * F, line, F, x + 16 * p, strip);
                else meet(lines + 4 * j * F, line, F, x + 16 * p, strip);
                const bf16 *two = coarse + (row * half + j) * 2 * C;
                for (int64_t c = 0; c < C; c += 16) interleave(two + c, two + C + c, d + p * C + c);
            }
            for (int64_t k = 0; k < K; k += 16)
                for (int64_t c = 0; c < C; c += 16)
                    outer(x + k / 16 * strip, d + c, met, C, sums + c * K + k, K);
        }
    }
    add_parts(parts, apart, C * K, dw, threads);
}

#endif
