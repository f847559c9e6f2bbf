// -log p(t | l) of Gaussian pixels with mean sigmoid(l) and its gradient, as in
// kernels/gaussian_nll.py.
//
// Logits and targets are (B, P) with rows of adjacent pixels; a row is added up in runs, and these
// in float64, in one order however many threads there are.

#include "pixels.h"

// `constant` is P (ln sigma + ln(2 pi) / 2).
void gaussian_nll_fwd(
    const void *logits, int64_t logits_row, int64_t half, const float *t, int64_t t_row,
    double sigma, double constant, int64_t B, int64_t P, float *nll, int threads
) {
#pragma omp parallel for num_threads(threads) if (B * P > SERIAL)
    for (int64_t b = 0; b < B; b++) {
        double total = 0.0;
        for (int64_t start = 0; start < P; start += RUN) {
            int64_t n = run_from(start, P), at = b * logits_row + start;
            float room[RUN], sum = 0.0f;
            const float *l = widened_run(logit_at(logits, at, half), n, half, room);
            const float *target = t + b * t_row + start;
#pragma omp simd reduction(+ : sum)
            for (int64_t p = 0; p < n; p++) {
                float r = residual(l[p], target[p], improbable(l[p]));
                sum += r * r;
            }
            total += sum;
        }
        nll[b] = (float)(0.5 * total / (sigma * sigma) + constant);
    }
}

void gaussian_nll_bwd(
    const void *logits, int64_t logits_row, int64_t half, const float *t, int64_t t_row,
    double sigma, int64_t B, int64_t P, const float *dnll, void *dlogits, int threads
) {
    float precision = (float)(1.0 / (sigma * sigma));
#pragma omp parallel for num_threads(threads) if (B * P > SERIAL)
    for (int64_t b = 0; b < B; b++) {
        float g = dnll[b] * precision;
        for (int64_t start = 0, n; start < P; start += n) {
            n = half ? run_from(start, P) : P;  // which needs no room
            int64_t at = b * logits_row + start;
            float room[RUN], slopes[RUN];
            const float *l = widened_run(logit_at(logits, at, half), n, half, room);
            const float *target = t + b * t_row + start;
            float *dl = half ? slopes : (float *)dlogits + b * P + start;
#pragma omp simd
            for (int64_t p = 0; p < n; p++) {
                float q = improbable(l[p]);
                dl[p] = g * residual(l[p], target[p], q) * (q - q * q);
            }
            if (half) round_run(dl, n, (bf16 *)dlogits + b * P + start);
        }
    }
}
