/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernels share: requantization, and a few instructions of Arm's DSP extension.
 *
 * WL_NN_EMULATE gives the DSP path those instructions in C, for tests on a (little-endian) host.
 * WL_NN_PORTABLE takes the other path where the DSP path would be taken.
 */
#ifndef WL_NN_CORE_H
#define WL_NN_CORE_H

#include "wl_nn.h"

#if defined(__ARM_FEATURE_DSP) && !defined(WL_NN_PORTABLE) && !defined(WL_NN_EMULATE)
#define WL_DSP 1
#define WL_ASSEMBLY 1
#define WL_DSP_OP(name, text)                                                                     \
    static inline uint32_t name(uint32_t a)                                                       \
    {                                                                                             \
        uint32_t result;                                                                          \
        __asm__(text : "=r"(result) : "r"(a));                                                    \
        return result;                                                                            \
    }
#define WL_DSP_OP2(name, text)                                                                    \
    static inline uint32_t name(uint32_t a, uint32_t b)                                           \
    {                                                                                             \
        uint32_t result;                                                                          \
        __asm__(text : "=r"(result) : "r"(a), "r"(b));                                            \
        return result;                                                                            \
    }
#define WL_DSP_OP3(name, text)                                                                    \
    static inline int32_t name(uint32_t a, uint32_t b, int32_t c)                                 \
    {                                                                                             \
        int32_t result;                                                                           \
        __asm__(text : "=r"(result) : "r"(a), "r"(b), "r"(c));                                    \
        return result;                                                                            \
    }
/* (byte 0, byte 2) and (byte 1, byte 3), sign-extended to halves */
WL_DSP_OP(wl_sxtb16, "sxtb16 %0, %1")
WL_DSP_OP(wl_sxtb16_odd, "sxtb16 %0, %1, ror #8")
/* low halves of a and b; high halves of a and b */
WL_DSP_OP2(wl_low_halves, "pkhbt %0, %1, %2, lsl #16")
WL_DSP_OP2(wl_high_halves, "pkhtb %0, %2, %1, asr #16")
/* c + a0 * b0 + a1 * b1; with b's halves exchanged; low * low; high * low */
WL_DSP_OP3(wl_smlad, "smlad %0, %1, %2, %3")
WL_DSP_OP3(wl_smladx, "smladx %0, %1, %2, %3")
WL_DSP_OP3(wl_smlabb, "smlabb %0, %1, %2, %3")
WL_DSP_OP3(wl_smlatb, "smlatb %0, %1, %2, %3")
/* c + (a * b + 2^31) / 2^32 */
WL_DSP_OP3(wl_smmlar, "smmlar %0, %1, %2, %3")

/* The larger of each of four signed bytes. */
static inline uint32_t wl_max4(uint32_t a, uint32_t b)
{
    uint32_t result;
    __asm__("ssub8 %0, %1, %2\n\tsel %0, %1, %2" : "=&r"(result) : "r"(a), "r"(b));
    return result;
}
#elif defined(WL_NN_EMULATE)
#define WL_DSP 1
#define WL_ASSEMBLY 0
#define WL_LOW(x) ((int32_t)(int16_t)((x)&0xffffu))
#define WL_HIGH(x) ((int32_t)(int16_t)((x) >> 16))
static inline uint32_t wl_sxtb16(uint32_t a)
{
    return (uint32_t)(uint16_t)(int8_t)(a & 0xffu) |
           (uint32_t)(uint16_t)(int8_t)((a >> 16) & 0xffu) << 16;
}
static inline uint32_t wl_sxtb16_odd(uint32_t a) { return wl_sxtb16(a >> 8); }
static inline uint32_t wl_low_halves(uint32_t a, uint32_t b) { return (a & 0xffffu) | b << 16; }
static inline uint32_t wl_high_halves(uint32_t a, uint32_t b)
{
    return a >> 16 | (b & 0xffff0000u);
}
static inline int32_t wl_smlad(uint32_t a, uint32_t b, int32_t c)
{
    return c + WL_LOW(a) * WL_LOW(b) + WL_HIGH(a) * WL_HIGH(b);
}
static inline int32_t wl_smladx(uint32_t a, uint32_t b, int32_t c)
{
    return c + WL_LOW(a) * WL_HIGH(b) + WL_HIGH(a) * WL_LOW(b);
}
static inline int32_t wl_smlabb(uint32_t a, uint32_t b, int32_t c)
{
    return c + WL_LOW(a) * WL_LOW(b);
}
static inline int32_t wl_smlatb(uint32_t a, uint32_t b, int32_t c)
{
    return c + WL_HIGH(a) * WL_LOW(b);
}
static inline int32_t wl_smmlar(uint32_t a, uint32_t b, int32_t c)
{
    const int64_t product = (int64_t)(int32_t)a * (int32_t)b;
    return (int32_t)((uint32_t)c + (uint32_t)((uint64_t)(product + ((int64_t)1 << 31)) >> 32));
}
static inline uint32_t wl_max4(uint32_t a, uint32_t b)
{
    uint32_t result = 0;
    for (uint32_t shift = 0; shift < 32; shift += 8) {
        const int8_t x = (int8_t)(a >> shift & 0xffu), y = (int8_t)(b >> shift & 0xffu);
        result |= (uint32_t)(uint8_t)(x > y ? x : y) << shift;
    }
    return result;
}
#else
#define WL_DSP 0
#define WL_ASSEMBLY 0
#endif

#define WL_INLINE static inline __attribute__((always_inline))

static inline uint32_t wl_load32(const int8_t *from)
{
    uint32_t word;
    __builtin_memcpy(&word, from, 4);
    return word;
}

static inline uint32_t wl_pair_at(const int16_t *at)
{
    uint32_t word;
    __builtin_memcpy(&word, at, 4);
    return word;
}

static inline void wl_store32(int8_t *to, uint32_t word) { __builtin_memcpy(to, &word, 4); }

static inline int32_t wl_clamp(int32_t x, int32_t low, int32_t high)
{
    return x < low ? low : x > high ? high : x;
}

/* What a layer does to its sums, beside the records. */
typedef struct {
    int32_t zero, low, high;
} wl_out_t;

/* (x * multiplier + 2^30) / 2^31, then / 2^right, as wl_nn.h rounds. */
int32_t wl_scaled(int32_t x, int32_t multiplier, uint32_t right);

/* What is put out for a sum. */
int8_t wl_exact(int32_t acc, const wl_requant_t *r, const wl_out_t *o);

/*
 * The short way, for right shifts of 1..22, the full range of int8 and |acc| < 2^30. Rounding a
 * right shift of h away from zero is adding half, less 1 where h is negative. Where h is negative
 * acc is, too; where only acc is, h is 0 and half - 1 still rounds to 0. So acc's sign serves, and
 * all that is added can be added before the product is known. 2 * m does not fit a signed factor,
 * 2 * m - 2^32 does; the rest is acc once more.
 */
typedef struct {
    int32_t factor; /* 2 * m - 2^32; for doubled sums m */
    int32_t added;  /* half + (zero << right) */
    uint32_t shift; /* right - 1 */
} wl_short_t;

int wl_all_short(const wl_requant_t *records, size_t count, const wl_out_t *o);

WL_INLINE wl_short_t wl_short_of(const wl_requant_t *r, const wl_out_t *o, int doubled)
{
    wl_short_t s;
    s.factor = doubled ? r->multiplier : (int32_t)((uint32_t)r->multiplier << 1);
    s.shift = ~(uint32_t)r->shift & 31u;
    s.added = (int32_t)((uint32_t)(2 * o->zero + 1) << s.shift);
    return s;
}

/* One bit less than the whole shift is still to be shifted out: SSAT does it on the way. */
WL_INLINE int8_t wl_saturated_half(int32_t x)
{
#if defined(__ARM_ARCH) && __ARM_ARCH >= 7 && !defined(__aarch64__)
    int32_t result;
    __asm__("ssat %0, #8, %1, asr #1" : "=r"(result) : "r"(x));
    return (int8_t)result;
#else
    return (int8_t)wl_clamp(x >> 1, -128, 127);
#endif
}

WL_INLINE int8_t wl_shortly(int32_t acc, const wl_short_t *s, int doubled)
{
    int32_t x = s->added + (acc >> 31);
#if WL_DSP
    x = wl_smmlar((uint32_t)acc, (uint32_t)s->factor, doubled ? x : x + acc);
#else
    const int64_t product = (int64_t)acc * s->factor;
    const uint32_t low = (uint32_t)product;
    x += (int32_t)(product >> 32) + (int32_t)(low >> 31) + (doubled ? 0 : acc);
#endif
    return wl_saturated_half(x >> s->shift);
}

/*
 * The sums of up to four pixels or one with every output channel. `columns`: depth4 / 2 times four
 * (one) words of two int16, k and k + 2, then k + 1 and k + 3 of each four, for each pixel.
 */
typedef struct {
    const int8_t *weights;
    const wl_requant_t *requant;
    size_t depth4;     /* products of a sum, rounded up to 4 */
    size_t channels;   /* of the output */
    wl_out_t out;
    int is_short;
} wl_matrix_t;

void wl_matrix_four(const wl_matrix_t *m, const void *columns, int8_t *out);
void wl_matrix_one(const wl_matrix_t *m, const void *column, int8_t *out);

/* One channel of a 3 x 3 depthwise convolution: what a row of outputs needs. */
typedef struct {
    int32_t bias[2]; /* twice the record's, twice */
    int32_t added, factor;
    uint32_t shift;
    size_t step;         /* bytes of a pixel */
    int16_t weights[12]; /* w0 w1 w2 w1 of each row */
} wl_lane_t;

typedef struct {
    const int16_t *rows[3]; /* cells, at a multiple of 4 */
    const int16_t *end;     /* of the pairs of outputs: rows[0] + count / 2 * 2 * stride */
    uint32_t odd;           /* one more output */
} wl_cells_t;

#if WL_ASSEMBLY
typedef struct {
    const int8_t *weights;
    const wl_requant_t *requant;
    const void *columns;
    size_t skip;
    const void *end;
    int32_t twice_zero; /* 2 * zero + 1 */
    int8_t *out;
    size_t step, left;
} wl_four_t;

void wl_four_m4(const wl_four_t *f);
#endif

/* A row of outputs of one channel, at a stride of 1 or 2. */
void wl_lane1(const wl_lane_t *l, const wl_cells_t *cells, int8_t *out);
void wl_lane2(const wl_lane_t *l, const wl_cells_t *cells, int8_t *out);

/* 1 if every window begins in the input or its padding and holds some of the input. */
int wl_windows_valid(uint32_t in, uint32_t out, uint32_t kernel, uint32_t stride, uint32_t pad);

/* `fours` times four bytes become columns; `pixels` is 4 or 1. */
void wl_widen(const int8_t *from, size_t fours, void *to, size_t pixels);
/* Four columns at once, of bytes that begin `step` apart. */
void wl_widen_four(const int8_t *from, size_t step, size_t fours, void *to);

#endif
