/* SPDX-License-Identifier: Apache-2.0 */
#include "wl_cmd.h"

#include "wl_nn.h"
#include "wl_smp.h"
#include "wl_status.h"

#ifndef WL_BUILD
#define WL_BUILD 0u
#endif

static void put_u32(wl_exchange *x, uint32_t value)
{
    wl_put_u32(x->out + x->out_size, value);
    x->out_size += 4;
}

static void put_bytes(wl_exchange *x, const void *data, uint32_t size)
{
    wl_copy(x->out + x->out_size, data, size);
    x->out_size += size;
}

static int wrong_length(wl_exchange *x)
{
    x->detail = x->size;
    return WL_LENGTH;
}

/* An area or page byte is followed by three zero bytes. */
static int zeros_follow(const uint8_t *at)
{
    return (at[1] | at[2] | at[3]) == 0;
}

static int ping(wl_exchange *x)
{
    if (x->size > 64)
        return wrong_length(x);
    put_bytes(x, x->in, x->size);
    return WL_OK;
}

/* Replies of PROTOCOL.md section 3; little-endian, without padding. */
typedef struct {
    uint16_t protocol, blob_version;
    uint32_t max_payload, cpuid, features, tick_hz, arena_bytes, slot_bytes, program_bytes, kernels;
    uint32_t build, active_crc, active_bytes, sequence, stack_free;
    char board[24];
} device_page;

typedef struct {
    uint8_t id[8];
    uint32_t input_bytes, output_bytes, raw_len;
    uint16_t layers, waists, goldens, flags;
    uint32_t arena_bytes;
} head_page;

typedef struct {
    uint32_t bytes, raw_len, crc, ticks_low, ticks_high, inlined;
} output_page;

typedef char replies_are_exact[(sizeof(device_page) == 80 && sizeof(head_page) == 32 &&
                                sizeof(output_page) == 24)
                                   ? 1
                                   : -1];

static void info_device(const wl_device *d, wl_exchange *x)
{
    const wl_board *b = d->board;
    const wl_seal *seal = d->head.blob ? wl_slots_seal(&d->slots) : NULL;
    device_page page;

    page.protocol = WL_PROTOCOL;
    page.blob_version = WL_BLOB_VERSION;
    page.max_payload = b->max_payload;
    page.cpuid = b->cpuid;
    page.features = b->features | (WL_SMP ? WL_FEATURE_SMP : 0u);
    page.tick_hz = b->tick_hz;
    page.arena_bytes = b->arena_bytes;
    page.slot_bytes = wl_slots_capacity(&d->slots);
    page.program_bytes = b->flash->program_bytes;
    page.kernels = WL_NN_VERSION;
    page.build = WL_BUILD;
    page.active_crc = seal ? seal->blob_crc : 0;
    page.active_bytes = seal ? seal->blob_bytes : 0;
    page.sequence = d->slots.sequence;
    page.stack_free = board_stack_free();
    for (uint32_t i = 0, end = 0; i < sizeof page.board; i++) {
        end = end || b->name[i] == 0;
        page.board[i] = end ? 0 : b->name[i];
    }
    put_bytes(x, &page, sizeof page);
}

static void info_head(const wl_head *head, wl_exchange *x)
{
    const wl_blob_header *h = head->blob->header;
    head_page page;

    wl_copy(page.id, h->id, sizeof page.id);
    page.input_bytes = head->blob->input_bytes;
    page.output_bytes = h->output_bytes;
    page.raw_len = head->blob->raw_len;
    page.layers = h->n_layers;
    page.waists = h->n_waists;
    page.goldens = h->n_goldens;
    page.flags = wl_head_keeps_input(head) ? 1u : 0u;
    page.arena_bytes = h->arena_bytes;
    put_bytes(x, &page, sizeof page);
}

static int info(const wl_device *d, wl_exchange *x)
{
    if (x->size != 4)
        return wrong_length(x);
    if (!zeros_follow(x->in) || x->in[0] > 1)
        return WL_ARGUMENT;
    if (x->in[0] == 0)
        info_device(d, x);
    else if (d->head.blob == NULL)
        return WL_NOT_NOW;
    else
        info_head(&d->head, x);
    return WL_OK;
}

static int load(wl_device *d, wl_exchange *x)
{
    uint32_t offset, size;
    int status;

    if (x->size < 8)
        return wrong_length(x);
    offset = wl_get_u32(x->in + 4);
    size = x->size - 8;
    if (!zeros_follow(x->in) || x->in[0] > WL_AREA_INPUT)
        return WL_ARGUMENT;
    if (x->in[0] == WL_AREA_BLOB) {
        status = wl_slots_load(&d->slots, offset, x->in + 8, size, &x->detail);
        if (status == WL_OK)
            put_u32(x, wl_crc32(0, wl_slots_loaded(&d->slots, offset), size));
    } else if (d->head.blob == NULL) {
        return WL_NOT_NOW;
    } else {
        status = wl_head_input(&d->head, offset, x->in + 8, size, &x->detail);
        if (status == WL_OK)
            put_u32(x, wl_head_input_crc(&d->head, offset, size));
    }
    if (status == WL_OK)
        put_u32(x, offset + size);
    return status;
}

void wl_take_active(wl_device *d)
{
    wl_head_set(&d->head, d->slots.active < 0 ? NULL : &d->slots.blob);
}

static int commit(wl_device *d, wl_exchange *x)
{
    int status;

    if (x->size != 8)
        return wrong_length(x);
    status = wl_slots_commit(&d->slots, wl_get_u32(x->in), wl_get_u32(x->in + 4), &x->reason,
                             &x->detail);
    if (status == WL_OK) {
        wl_take_active(d);
        put_u32(x, d->slots.sequence);
        put_u32(x, (uint32_t)d->slots.active);
    }
    return status;
}

static int infer(wl_device *d, wl_exchange *x)
{
    const wl_blob *blob = d->head.blob;
    uint32_t index, layers, room;
    uint64_t ticks = 0;
    output_page page;
    int status;

    if (x->size != 8)
        return wrong_length(x);
    if (blob == NULL)
        return WL_NOT_NOW;
    index = wl_get_u16(x->in + 2);
    layers = wl_get_u16(x->in + 4);
    if (x->in[0] > 1 || (x->in[1] | x->in[6] | x->in[7]) != 0 ||
        index >= (x->in[0] == 0 ? 1u : blob->header->n_goldens) ||
        (layers != WL_ALL_LAYERS && layers > blob->header->n_layers))
        return WL_ARGUMENT;
    status = wl_head_run(&d->head, x->in[0] == 0 ? -1 : (int)index, layers);
    if (status != WL_OK)
        return status;
    for (uint32_t i = 0; i <= blob->header->n_layers; i++)
        ticks += d->head.ticks[i];
    const uint8_t *output = d->board->arena + blob->header->output;
    room = d->board->max_payload - (uint32_t)sizeof page;
    page.bytes = d->head.output_bytes;
    page.raw_len = page.bytes > 0 ? blob->raw_len : 0;
    page.crc = wl_crc32(0, output, page.bytes);
    page.ticks_low = (uint32_t)ticks;
    page.ticks_high = (uint32_t)(ticks >> 32);
    page.inlined = room < page.bytes ? room : page.bytes;
    put_bytes(x, &page, sizeof page);
    put_bytes(x, output, page.inlined);
    return WL_OK;
}

/* What an area of READ holds; NULL where there is none. */
static const uint8_t *area(const wl_device *d, uint32_t which, uint32_t *size)
{
    const wl_head *head = &d->head;

    switch (which) {
    case WL_AREA_BLOB:
        *size = head->blob->header->blob_bytes;
        return head->blob->base;
    case WL_AREA_OUTPUT:
        *size = head->output_bytes;
        return head->arena + head->blob->header->output;
    case WL_AREA_TICKS:
        *size = 4u * (head->blob->header->n_layers + 1u);
        return (const uint8_t *)head->ticks;
    case WL_AREA_ARENA:
        *size = head->arena_bytes;
        return head->arena;
    default:
        return NULL;
    }
}

static int read(const wl_device *d, wl_exchange *x)
{
    const uint8_t *from;
    uint32_t offset, count;

    if (x->size != 12)
        return wrong_length(x);
    if (d->head.blob == NULL)
        return WL_NOT_NOW;
    offset = wl_get_u32(x->in + 4);
    count = wl_get_u32(x->in + 8);
    from = area(d, x->in[0], &x->detail);
    if (from == NULL || !zeros_follow(x->in) || count > d->board->max_payload)
        return WL_ARGUMENT;
    if (offset > x->detail || count > x->detail - offset)
        return WL_NO_ROOM;
    put_bytes(x, from + offset, count);
    return WL_OK;
}

static int mark(wl_device *d, wl_exchange *x)
{
    if (x->size != 4)
        return wrong_length(x);
    if (x->in[0] > WL_MARK_PULSES || x->in[1] != 0)
        return WL_ARGUMENT;
    d->head.mark = x->in[0];
    d->head.settle_us = wl_get_u16(x->in + 2);
    return WL_OK;
}

static int reset(wl_device *d, wl_exchange *x)
{
    if (x->size != 4)
        return wrong_length(x);
    if (x->in[0] > WL_SMP || !zeros_follow(x->in))
        return WL_ARGUMENT;
    d->after = x->in[0] == 0 ? WL_RESTART : WL_UPDATE;
    return WL_OK;
}

int wl_carry_out(wl_device *d, uint8_t command, wl_exchange *x)
{
    switch (command) {
    case WL_PING:
        return ping(x);
    case WL_INFO:
        return info(d, x);
    case WL_LOAD:
        return load(d, x);
    case WL_COMMIT:
        return commit(d, x);
    case WL_INFER:
        return infer(d, x);
    case WL_READ:
        return read(d, x);
    case WL_MARK:
        return mark(d, x);
    case WL_RESET:
        return reset(d, x);
    default:
        return WL_UNKNOWN;
    }
}
