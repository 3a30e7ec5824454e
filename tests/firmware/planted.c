/* SPDX-License-Identifier: Apache-2.0 */
/* A max pool with the error that $PLANTED names, for the test that the sanitizers find errors. */
#include <stdlib.h>
#include <string.h>

#include "wl_nn.h"

void __real_wl_max_pool(const wl_pool_t *p, const int8_t *in, int8_t *out);
void __wrap_wl_max_pool(const wl_pool_t *p, const int8_t *in, int8_t *out);

static volatile int hidden;

void __wrap_wl_max_pool(const wl_pool_t *p, const int8_t *in, int8_t *out)
{
    const char *planted = getenv("PLANTED") ? getenv("PLANTED") : "";

    __real_wl_max_pool(p, in, out);
    if (strcmp(planted, "reads behind its input") == 0)
        hidden ^= in[p->in_h * p->in_w * p->in_c];
    if (strcmp(planted, "writes before its output") == 0)
        out[-1] = (int8_t)(out[-1] + 1);
    if (strcmp(planted, "shifts by too much") == 0)
        hidden ^= 1 << (p->in_h + 31);
}
