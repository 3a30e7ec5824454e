/* SPDX-License-Identifier: Apache-2.0 */
#include "wl_nn_core.h"

int wl_requant_valid(const wl_requant_t *records, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const wl_requant_t *r = &records[i];
        if (r->bias < -WL_NN_MAX_BIAS || r->bias > WL_NN_MAX_BIAS || r->multiplier < 0 ||
            r->shift < -31 || r->shift > 30)
            return 0;
    }
    return 1;
}

int wl_all_short(const wl_requant_t *records, size_t count, const wl_out_t *o)
{
    if (o->low != -128 || o->high != 127)
        return 0;
    for (size_t i = 0; i < count; i++)
        if (records[i].shift > -1 || records[i].shift < -22 || records[i].multiplier < 1 << 30)
            return 0;
    return 1;
}

int32_t wl_scaled(int32_t x, int32_t multiplier, uint32_t right)
{
    const int32_t high = (int32_t)(((int64_t)x * multiplier + (1 << 30)) >> 31);
    const int32_t mask = (int32_t)((1u << right) - 1u);
    return (high >> right) + ((high & mask) > (mask >> 1) + (high < 0));
}

int8_t wl_exact(int32_t acc, const wl_requant_t *r, const wl_out_t *o)
{
    const uint32_t left = r->shift > 0 ? (uint32_t)r->shift & 31u : 0;
    const uint32_t right = r->shift < 0 ? (0u - (uint32_t)r->shift) & 31u : 0;
    const int32_t y = wl_scaled((int32_t)((uint32_t)acc << left), r->multiplier, right);
    return (int8_t)wl_clamp(y + o->zero, o->low, o->high);
}
