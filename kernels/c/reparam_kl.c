// z = mu + sigma eps and its KL from the prior, as in kernels/reparam_kl.py: the noise is drawn
// in the tile that uses it, in the forward pass and again in the backward one, and never stored.
//
// A tile is some rows of up to 4 COUNTERS latents, in local arrays whose rows are whole groups of
// four latents: what is left over is the prior, whose KL is exactly 0. A row is added up in one
// order, whatever the batch around it and however many threads there are.

#include "philox.h"

static const float LOGVAR_MIN = -30.0f, LOGVAR_MAX = 18.0f;

enum { SLICES = 64, WIDTH = 4 * COUNTERS };

static inline int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

// Where a tile is in tensors (B, D), and how many of its columns are theirs.
typedef struct {
    int64_t row, column, rows, columns, width;
} Tile;

static inline Tile tile_at(int64_t row, int64_t column, int64_t rows, int64_t D) {
    int64_t columns = least(WIDTH, D - column);
    return (Tile){row, column, rows, columns, (columns + 3) / 4 * 4};
}

// As many rows as a tile has counters for.
static inline int64_t rows_of_tile(int64_t D) {
    int64_t groups = (D + 3) / 4;
    return groups > COUNTERS || groups == 0 ? 1 : COUNTERS / groups;
}

static inline void noise(const int64_t *key, int64_t first, int64_t stream, Tile t, float *eps) {
    Draw at = {key, first + t.row, stream, t.column / 4, t.rows, t.width / 4};
    draw_normals(at, eps);
}

static inline void load(Tile t, const float *from, int64_t stride, float *to) {
    for (int64_t r = 0; r < t.rows; r++) {
        memcpy(to, from + (t.row + r) * stride + t.column, t.columns * sizeof *to);
        for (int64_t c = t.columns; c < t.width; c++) to[c] = 0.0f;
        to += t.width;
    }
}

static inline void store(Tile t, const float *from, int64_t stride, float *to) {
    for (int64_t r = 0; r < t.rows; r++)
        memcpy(to + (t.row + r) * stride + t.column, from + r * t.width, t.columns * sizeof *to);
}

static inline float bounded(float logvar) {
    float above = logvar < LOGVAR_MIN ? LOGVAR_MIN : logvar;
    return above > LOGVAR_MAX ? LOGVAR_MAX : above;
}

// Adds a tile of KLs to the sums of its rows and of its columns.
static inline void add_up(Tile t, const float *kl, float *of_rows, double *of_columns) {
    for (int64_t r = 0; r < t.rows; r++) {
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < t.width; c++) sum += kl[r * t.width + c];
        of_rows[t.row + r] += sum;
        for (int64_t c = 0; c < t.columns; c++) of_columns[t.column + c] += kl[r * t.width + c];
    }
}

// z (B, D), kl_per_sample (B), kl_per_latent (D); sums (SLICES, D) is room to work in.
void reparam_kl_fwd(
    const float *mu, int64_t mu_row, const float *logvar, int64_t logvar_row, const int64_t *key,
    int64_t first_sample, int64_t stream, int64_t B, int64_t D, float *z, float *kl_per_sample,
    float *kl_per_latent, double *sums, int threads
) {
    int64_t height = rows_of_tile(D), tiles = (B + height - 1) / height;
    int64_t slices = least(tiles, SLICES);
    memset(kl_per_sample, 0, B * sizeof *kl_per_sample);
    memset(sums, 0, slices * D * sizeof *sums);
#pragma omp parallel for num_threads(threads) if (B * D > 4096)
    for (int64_t slice = 0; slice < slices; slice++) {
        float m[WIDTH] = {0}, v[WIDTH] = {0}, eps[WIDTH], kl[WIDTH];
        int64_t end = least(B, (slice + 1) * tiles / slices * height);
        for (int64_t row = slice * tiles / slices * height; row < end; row += height)
            for (int64_t column = 0; column < D; column += WIDTH) {
                Tile t = tile_at(row, column, least(height, end - row), D);
                load(t, mu, mu_row, m);
                load(t, logvar, logvar_row, v);
                noise(key, first_sample, stream, t, eps);
#pragma omp simd
                for (int64_t i = 0; i < whole_vectors(t.rows * t.width); i++) {
                    Rises of = scale_and_rises(bounded(v[i]));
                    kl[i] = 0.5f * (m[i] * m[i] + of.excess);
                    eps[i] = m[i] + of.scale * eps[i];
                }
                store(t, eps, D, z);
                add_up(t, kl, kl_per_sample, sums + slice * D);
            }
    }
    for (int64_t slice = 1; slice < slices; slice++)
        for (int64_t d = 0; d < D; d++) sums[d] += sums[slice * D + d];
    for (int64_t d = 0; d < D; d++) kl_per_latent[d] = B ? (float)(sums[d] / (double)B) : 0.0f;
}

// dmu and dlogvar (B, D) from dz (B, D) and the gradients of the two KLs.
void reparam_kl_bwd(
    const float *mu, int64_t mu_row, const float *logvar, int64_t logvar_row, const int64_t *key,
    int64_t first_sample, int64_t stream, int64_t B, int64_t D, const float *dz, int64_t dz_row,
    const float *dkl_per_sample, const float *dkl_per_latent, float *dmu, float *dlogvar,
    int threads
) {
    int64_t height = rows_of_tile(D), tiles = (B + height - 1) / height;
#pragma omp parallel for num_threads(threads) if (B * D > 4096)
    for (int64_t tile = 0; tile < tiles; tile++)
        for (int64_t column = 0; column < D; column += WIDTH) {
            float m[WIDTH] = {0}, v[WIDTH] = {0}, g[WIDTH] = {0}, w[WIDTH] = {0}, eps[WIDTH];
            Tile t = tile_at(tile * height, column, least(height, B - tile * height), D);
            load(t, mu, mu_row, m);
            load(t, logvar, logvar_row, v);
            load(t, dz, dz_row, g);
            noise(key, first_sample, stream, t, eps);
            for (int64_t r = 0, i = 0; r < t.rows; r++)
                for (int64_t c = 0; c < t.width; c++, i++) {
                    float of_latent = c < t.columns ? dkl_per_latent[column + c] : 0.0f;
                    w[i] = dkl_per_sample[t.row + r] + of_latent / (float)B;
                }
#pragma omp simd
            for (int64_t i = 0; i < whole_vectors(t.rows * t.width); i++) {
                Rises of = scale_and_rises(bounded(v[i]));
                float slope = 0.5f * (g[i] * eps[i] * of.scale + w[i] * of.rise);
                m[i] = g[i] + w[i] * m[i];
                v[i] = (v[i] < LOGVAR_MIN) | (v[i] > LOGVAR_MAX) ? 0.0f : slope;
            }
            store(t, m, D, dmu);
            store(t, v, D, dlogvar);
        }
}
