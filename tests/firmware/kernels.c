/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a list of layers on a bare Cortex-M and writes, for each, SysTick's count and the output.
 *
 * Input and output are files of the host, by semihosting: `net.bin` and `out.bin` in the directory
 * of the emulator. net.bin is loaded at NET: u32 number of layers, then for each `step_t`, whose
 * offsets count from NET; the pointers in the parameters are addresses. Tensors lie behind it.
 */
#include <stddef.h>
#include <stdint.h>

#include "waist.h"
#include "wl_frame.h"
#include "wl_nn.h"

#ifndef NET_AT
#define NET_AT 0x21000000u
#endif
#define NET ((uint8_t *)NET_AT)
#define NET_BYTES (16u << 20)
#define SYSTICK ((volatile uint32_t *)0xE000E010u)

enum { CONV, DEPTHWISE, DENSE, MAX_POOL, AVERAGE_POOL, MEAN, ADD, CONCAT, PAD, LOOKUP, CODE };

typedef struct {
    uint32_t kind, parameters, in, second, out, out_bytes, scratch;
} step_t;

/* CODE: the values at `in`, coded as the firmware does it; the output is u32 size, then payload. */
typedef struct {
    waist_ctx ctx; /* nodes and above lie in scratch */
    uint32_t table, coder; /* table 0: none, the bytes as they are */
} code_t;

extern uint32_t _estack;
void start(void);

static volatile uint32_t wraps;

static void tick(void) { wraps++; }

__attribute__((section(".vectors"), used)) static void *const vectors[16] = {
    [0] = &_estack,
    [1] = start,
    [15] = tick,
};

static uint32_t host(uint32_t operation, const void *arguments)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = arguments;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static uint32_t open_file(const char *name, uint32_t length, uint32_t mode)
{
    const uint32_t arguments[3] = {(uint32_t)name, mode, length};
    return host(1, arguments);
}

static void write_file(uint32_t file, const void *data, uint32_t count)
{
    const uint32_t arguments[3] = {file, (uint32_t)data, count};
    host(5, arguments);
}

/* The trace of the emulator shows where a layer begins and ends. */
__attribute__((noinline, used)) void layer_begins(void) { __asm__ volatile(""); }
__attribute__((noinline, used)) void layer_ends(void) { __asm__ volatile(""); }

static void code(code_t *c, const uint8_t *values, uint8_t *out, uint8_t *scratch)
{
    const uint32_t count = c->ctx.planes * c->ctx.rows * c->ctx.columns;
    const uint8_t *table = c->table ? NET + c->table : NULL;
    const uint32_t bits = c->ctx.bits, packed = (uint32_t)waist_packed_size(count, bits);
    size_t size;

    c->ctx.nodes = (waist_ctx_node *)(void *)scratch;
    c->ctx.above = scratch + 4 * waist_ctx_nodes(bits);
    if (!c->coder || waist_ctx_encode(&c->ctx, values, table, out + 4, packed - 1, &size)) {
        if (table)
            waist_table_encode(values, count, table, bits, out + 4);
        else
            wl_copy(out + 4, values, count);
        size = packed;
    }
    *(uint32_t *)(void *)out = (uint32_t)size;
}

static void run(const step_t *s, void *p)
{
    int8_t *const in = (int8_t *)NET + s->in, *const out = (int8_t *)NET + s->out;
    void *const scratch = NET + s->scratch;
    switch (s->kind) {
    case CONV:
        wl_conv2d(p, in, out, scratch);
        break;
    case DEPTHWISE:
        wl_depthwise(p, in, out, scratch);
        break;
    case DENSE:
        wl_dense(p, in, out, scratch);
        break;
    case MAX_POOL:
        wl_max_pool(p, in, out);
        break;
    case AVERAGE_POOL:
        wl_average_pool(p, in, out);
        break;
    case MEAN:
        wl_mean(p, in, out);
        break;
    case ADD:
        wl_add(p, in, (int8_t *)NET + s->second, out);
        break;
    case CONCAT:
        wl_concat(p, in, out);
        break;
    case PAD:
        wl_pad(p, in, out);
        break;
    case CODE:
        code(p, (const uint8_t *)in, (uint8_t *)out, scratch);
        break;
    default:
        break;
    }
}

void start(void)
{
    const uint32_t net = open_file("net.bin", 7, 1), result = open_file("out.bin", 7, 5);
    const uint32_t arguments[3] = {net, (uint32_t)NET, NET_BYTES};
    host(6, arguments);

    const uint32_t count = *(const uint32_t *)NET;
    const step_t *step = (const step_t *)(NET + 4);
    SYSTICK[1] = 0xffffffu;
    SYSTICK[0] = 7;
    for (uint32_t i = 0; i < count; i++, step++) {
        uint32_t ticks;
        layer_begins();
        SYSTICK[2] = 0;
        wraps = 0;
        run(step, NET + step->parameters);
        ticks = 0xffffffu - SYSTICK[2];
        layer_ends();
        ticks += wraps << 24;
        write_file(result, &ticks, 4);
        write_file(result, NET + step->out, step->out_bytes);
    }
    host(0x18, (const void *)0x20026);
    for (;;)
        ;
}
