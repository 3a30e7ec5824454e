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
        if (records[i].shift > -1 || records[i].shift < -22)
            return 0;
    return 1;
}
