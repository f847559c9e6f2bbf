// -log p(x | l) of Gaussian pixels with mean sigmoid(l) and its gradient, as in
// kernels/gaussian_nll.py.
//
// Logits and x are (B, P) with rows of adjacent pixels; a row is added up in runs, and these in
// float64, in one order however many threads there are.

#include "pixels.h"

// `constant` is P (ln sigma + ln(2 pi) / 2).
void gaussian_nll_fwd(
    const float *logits, int64_t logits_row, const float *x, int64_t x_row, int64_t levels,
    double sigma, double constant, int64_t B, int64_t P, float *nll, int threads
) {
    float white = (float)levels, scale = (float)(1.0 / (sigma * (double)levels));
#pragma omp parallel for num_threads(threads) if (B * P > SERIAL)
    for (int64_t b = 0; b < B; b++) {
        const float *l = logits + b * logits_row, *grey = x + b * x_row;
        double total = 0.0;
        for (int64_t start = 0; start < P; start += RUN) {
            int64_t end = end_of_run(start, P);
            float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
            for (int64_t p = start; p < end; p++) {
                float e = exponential(-fabsf(l[p]));
                float r = scale * residual(l[p], grey[p], white, e) / (1.0f + e);
                sum += r * r;
            }
            total += sum;
        }
        nll[b] = (float)(0.5 * total + constant);
    }
}

void gaussian_nll_bwd(
    const float *logits, int64_t logits_row, const float *x, int64_t x_row, int64_t levels,
    double sigma, int64_t B, int64_t P, const float *dnll, float *dlogits,
    int threads
) {
    float white = (float)levels, scale = (float)(1.0 / (sigma * sigma * (double)levels));
#pragma omp parallel for num_threads(threads) if (B * P > SERIAL)
    for (int64_t b = 0; b < B; b++) {
        const float *l = logits + b * logits_row, *grey = x + b * x_row;
        float *dl = dlogits + b * P, g = dnll[b] * scale;
#pragma omp simd
        for (int64_t p = 0; p < P; p++) {
            float e = exponential(-fabsf(l[p])), inverse = 1.0f / (1.0f + e);
            float difference = residual(l[p], grey[p], white, e) * inverse;
            dl[p] = g * difference * (e * inverse * inverse);
        }
    }
}
