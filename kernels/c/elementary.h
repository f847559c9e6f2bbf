// exp, log, sin and their like as short polynomials, so that a loop over them becomes vector code.
//
// All are static and inline, compare rather than branch, and pass NaN on. The polynomials are those
// of the Triton kernels: minimax on their interval.

#ifndef ELEMENTARY_H
#define ELEMENTARY_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

// exp(x) for x <= 88, and 0 where that is below the normal numbers: 2^n exp(r) with r = x - n ln 2
// and exp(r) = 1 + r + r^2 times a polynomial (relative error 3.1e-9 for |r| <= ln(2)/2). The
// float32 ln 2 is 1.9e-9 too large, which costs a rounding at x = -22. Adding 1.5 2^23 + 127 leaves
// the exponent of 2^n in the lowest bits. To choose 0 twice, for x and at the end for 2^n, costs
// less than for the result.
static inline float exponential(float x) {
    int vanishes = x < -87.0f;
    float y = vanishes ? 0.0f : x;
    float shifted = y * 1.4426950408889634f + 12583039.0f, n = shifted - 12583039.0f;
    float r = y - n * 0.6931471805599453f;
    float power = float_of(bits_of(shifted) << 23);
    float p = 0.008368716955655012f + r * 0.001381459860169933f;
    p = 0.04166838805191302f + r * p;
    p = 0.16666520631078469f + r * p;
    p = 0.49999993447751434f + r * p;
    power = vanishes ? 0.0f : power;
    return power + power * (r + r * r * p);
}

typedef struct {
    float scale, rise, excess;
} Rises;

// exp(v/2), exp(v) - 1 and exp(v) - 1 - v for |v| < 100; near 0 no difference cancels. Here ln 2
// comes in two parts (Cody, Waite 1980). exp(v/2) = 2^n (1 + q) with q = r/2 + t, r = v - 2n ln 2,
// and t r^2 times a polynomial (relative error 3.1e-9 in exp); where n is 0, exp(v) - 1 = q^2 + 2q
// and exp(v) - 1 - v = q^2 + 2t.
static inline Rises scale_and_rises(float v) {
    float shifted = v * 0.7213475204444817f + 12583039.0f, n = shifted - 12583039.0f;
    float r = (v - n * 1.38671875f) + n * 4.2438888010938114e-4f;
    float p = 2.6152240486421910e-4f + r * 2.1585310315155202e-5f;
    p = 2.6042742532445640e-3f + r * p;
    p = 2.0833150788848086e-2f + r * p;
    p = 1.2499998361937859e-1f + r * p;
    float t = r * r * p, q = 0.5f * r + t;
    float power = float_of(bits_of(shifted) << 23), scale = power + power * q;
    float rise = scale * scale - 1.0f;
    float near_rise = q * q + 2.0f * q, near_excess = q * q + 2.0f * t;
    return (Rises){scale, n == 0.0f ? near_rise : rise, n == 0.0f ? near_excess : rise - v};
}

// ln(1 + e) for 0 <= e <= 1, by e times a polynomial (relative error 4.7e-9).
static inline float log1p_unit(float e) {
    float p = 0.019851454199963942f - e * 0.003244023365779588f;
    p = -0.05695951892936606f + e * p;
    p = 0.10603653330496761f + e * p;
    p = -0.153055916533025f + e * p;
    p = 0.19675938938683946f + e * p;
    p = -0.24954133593747274f + e * p;
    p = 0.3332996241054585f + e * p;
    p = -0.4999990242254806f + e * p;
    return e * (0.9999999952872052f + e * p);
}

// ln(x) for positive normal x = 2^n (1 + f), by f + f^2 times a polynomial (relative error 4.1e-9)
// for f between 1/sqrt(2) - 1 and sqrt(2) - 1: near x = 1 nothing cancels.
static inline float logarithm(float x) {
    uint32_t from_root = bits_of(x) - 0x3f3504f3;  // 1/sqrt(2)
    float n = (float)((int32_t)from_root >> 23);
    float f = float_of((from_root & 0x007fffff) + 0x3f3504f3) - 1.0f;
    float p = 0.12904697580607613f - f * 0.07622113227915811f;
    p = -0.13242977828716535f + f * p;
    p = 0.1418177784509988f + f * p;
    p = -0.16609077343876782f + f * p;
    p = 0.20001976610207078f + f * p;
    p = -0.25001583357282103f + f * p;
    p = 0.3333332564494039f + f * p;
    p = -0.49999988339324414f + f * p;
    return f + f * f * p + n * 0.6931471805599453f;
}

// sin(2 pi t) for |t| <= 1/4 by an odd polynomial (relative error 5.4e-9).
static inline float sine_of_turn(float t) {
    float y = t * t;
    float p = -76.57499792924143f + y * 39.71095804463294f;
    p = 81.60223152080628f + y * p;
    p = -41.34167748343624f + y * p;
    return t * (6.2831852738160245f + y * p);
}

#endif
