// The gradients of the parameters of convolution.c's convolutions:
//
//     conv_weights   dw[c, u, v, f] = sum of fine[2i + u - 1, 2j + v - 1, f] coarse[i, j, c]
//     conv_relu      db[c]          = sum of dy[i, j, c] where y[i, j, c] > 0
//
// One of the images in the first is a gradient: the coarse one of a convolution, the fine one of a
// transposed one. Its sum over a batch is taken in parts, and these are added up in one order. One
// instruction multiplies pairs of bfloat16 and adds both products to float32: a pair is of neighbours
// in a coarse row, and of the numbers two columns apart that these meet in a fine one.

#include "tiles.h"

// sums[c][k] = parts[0][k][c] + ... + parts[apart - 1][k][c], in this order whatever the threads.
static void add_parts(
    const float *parts, int64_t apart, int64_t K, int64_t C, float *sums, int threads
) {
#pragma omp parallel for num_threads(threads) if (K > 1)
    for (int64_t k = 0; k < K; k++)
        for (int64_t c = 0; c < C; c++) {
            float sum = parts[k * C + c];
            for (int64_t s = 1; s < apart; s++) sum += parts[(s * K + k) * C + c];
            sums[c * K + k] = sum;
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
    add_parts(parts, apart, 1, C, db, threads);
}

#ifdef __AVX512BF16__

#include <omp.h>

// Blocks of `lines` coarse rows, of `half` pairs of C channels each. In `x` a block, `block` pairs
// after the one before, has two more than twice as many fine rows, of 4 F pairs for each in `d`.
typedef struct {
    const uint32_t *x, *d;
    int64_t count, block, lines, half, F, C;
} Met;

// dw[k][c] += the sum over pairs of x[k] d[c], for some k and 32 channels c.
INLINED void outer(int some, Met met, float *dw) {
    __m512 sums[8][2];
#pragma GCC unroll 8
    for (int k = 0; k < some; k++) {
        sums[k][0] = _mm512_loadu_ps(dw + k * met.C);
        sums[k][1] = _mm512_loadu_ps(dw + k * met.C + 16);
    }
    for (int64_t n = 0; n < met.count; n++)
        for (int64_t i = 0; i < met.lines; i++) {
            const uint32_t *x = met.x + n * met.block + i * 8 * met.half * met.F;
            for (int64_t p = 0; p < met.half; p++, x += 4 * met.F, met.d += met.C) {
                __m512bh low = pairs(met.d), high = pairs(met.d + 16);
#pragma GCC unroll 8
                for (int k = 0; k < some; k++) {
                    sums[k][0] = _mm512_dpbf16_ps(sums[k][0], everywhere(x[k]), low);
                    sums[k][1] = _mm512_dpbf16_ps(sums[k][1], everywhere(x[k]), high);
                }
            }
        }
#pragma GCC unroll 8
    for (int k = 0; k < some; k++) {
        _mm512_storeu_ps(dw + k * met.C, sums[k][0]);
        _mm512_storeu_ps(dw + k * met.C + 16, sums[k][1]);
    }
}

// The same for all (4, 4, F) numbers k and all channels.
static void add_products(Met met, float *dw) {
    const uint32_t *x = met.x, *d = met.d;
    for (int64_t u = 0; u < 4; u++, x += 4 * met.half * met.F)
        for (int64_t k = 0, some; k < 4 * met.F; k += some, dw += some * met.C) {
            some = 4 * met.F - k < 8 ? 4 : 8;
            met.x = x + k;
            for (int64_t c = 0; c < met.C; c += 32) {
                met.d = d + c;
                if (some == 8) outer(8, met, dw + c);
                else outer(4, met, dw + c);
            }
        }
}

// Rows of a fine image with zeros around it, each number beside the one two columns on.
static void pair_rows(
    const bf16 *image, int64_t first, int64_t count, int64_t H, int64_t W, int64_t F, bf16 *line,
    uint32_t *out
) {
    int64_t width = 2 * W * F;
    memset(line, 0, (width + 2 * F) * sizeof *line);
    for (int64_t m = first; m < first + count; m++, out += width) {
        if (m < 0 || m >= 2 * H) {
            memset(out, 0, width * sizeof *out);
            continue;
        }
        memcpy(line + F, image + m * width, width * sizeof *line);
        for (int64_t n = 0; n < width; n += 16)  // 16 places more than the last row has
            interleave(line + n, line + 2 * F + n, out + n);
    }
}

// Images in blocks of `rows` coarse rows, `together` of them at a time; these are 1 if those are not
// all H.
typedef struct {
    int64_t H, W, F, C, rows, together;
} Blocks;

static int64_t blocks_of_an_image(Blocks n) {
    return (n.H + n.rows - 1) / n.rows;
}

// What `count` blocks meet, from the first one on, in room for the pairs of fine rows, for those of
// coarse ones, and for one row.
static Met gather(
    const bf16 *fine, const bf16 *coarse, Blocks n, int64_t first, int64_t count, uint32_t *room
) {
    int64_t half = n.W / 2, block = (2 * n.rows + 2) * 2 * n.W * n.F;
    int64_t row = first % blocks_of_an_image(n) * n.rows;
    int64_t lines = n.H - row < n.rows ? n.H - row : n.rows;
    uint32_t *x = room, *d = x + n.together * block + 16, *to = d;
    bf16 *line = (bf16 *)(d + n.together * n.rows * half * n.C);
    for (int64_t i = 0; i < count; i++) {
        int64_t b = (first + i) / blocks_of_an_image(n);
        const bf16 *image = fine + b * 4 * n.H * n.W * n.F;
        pair_rows(image, 2 * row - 1, 2 * lines + 2, n.H, n.W, n.F, line, x + i * block);
        const bf16 *from = coarse + (b * n.H + row) * n.W * n.C;
        for (int64_t p = 0; p < lines * half; p++, from += 2 * n.C, to += n.C)
            for (int64_t c = 0; c < n.C; c += 16) interleave(from + c, from + n.C + c, to + c);
    }
    return (Met){x, d, count, block, lines, half, n.F, n.C};
}

// `parts` has 16 F C places for each of `apart` parts of the batch; `room` has `place` a thread.
void conv_weights(
    const bf16 *fine, const bf16 *coarse, int64_t B, int64_t H, int64_t W, int64_t F, int64_t C,
    float *dw, float *parts, int64_t apart, uint32_t *room, int64_t place, int64_t rows,
    int64_t together, int threads
) {
    Blocks n = {H, W, F, C, rows, together};
    int64_t K = 16 * F, N = B * blocks_of_an_image(n);
#pragma omp parallel for num_threads(threads)
    for (int64_t s = 0; s < apart; s++) {
        uint32_t *own = room + omp_get_thread_num() * place;
        float *sums = parts + s * K * C;
        memset(sums, 0, K * C * sizeof *sums);
        int64_t end = (s + 1) * N / apart;
        for (int64_t first = s * N / apart; first < end; first += together) {
            int64_t count = end - first < together ? end - first : together;
            add_products(gather(fine, coarse, n, first, count, own), sums);
        }
    }
    add_parts(parts, apart, K, C, dw, threads);
}

#endif
