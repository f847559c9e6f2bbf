// exp, log, sin and their like as short polynomials, so that a loop over them becomes vector code.
//
// All are static and inline, compare rather than branch, and pass NaN on. The polynomials are those
// of the Triton kernels (minimax on their interval), with one more for the logarithm.

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

// exp(x) - 1 - x for |x| <= 1, by x^2 times a polynomial (relative error 4.3e-9).
static inline float exponential_tail(float x) {
    float p = 2.5354829454111767e-05f + x * 2.7722833349335934e-06f;
    p = 0.00019844023629746578f + x * p;
    p = 0.0013885451982031509f + x * p;
    p = 0.008333310275201572f + x * p;
    p = 0.041666734540788196f + x * p;
    p = 0.16666667010064173f + x * p;
    return x * x * (0.4999999979271797f + x * p);
}

// exp(x) for x <= 88, and 0 where that is below the normal numbers: 2^n exp(r) with r = x - n ln 2,
// where ln 2 comes in two parts (Cody, Waite 1980), and exp(r) = 1 + r + r^2 times a polynomial
// (relative error 3.1e-9 for |r| <= ln(2)/2). Adding 1.5 2^23 + 127 leaves the exponent of 2^n in
// the lowest bits. To choose 0 twice, for x and at the end for 2^n, costs less than for the result.
static inline float exponential(float x) {
    int vanishes = x < -87.0f;
    float y = vanishes ? 0.0f : x;
    float shifted = y * 1.4426950408889634f + 12583039.0f, n = shifted - 12583039.0f;
    float r = (y - n * 0.693359375f) + n * 2.1219444005469057e-4f;
    float power = float_of(bits_of(shifted) << 23);
    float p = 0.008368716955655012f + r * 0.001381459860169933f;
    p = 0.04166838805191302f + r * p;
    p = 0.16666520631078469f + r * p;
    p = 0.49999993447751434f + r * p;
    power = vanishes ? 0.0f : power;
    return power + power * (r + r * r * p);
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
