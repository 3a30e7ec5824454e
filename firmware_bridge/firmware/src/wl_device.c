/* SPDX-License-Identifier: Apache-2.0 */
/* Requests in, replies out: PROTOCOL.md section 2. */
#include "wl_cmd.h"
#include "wl_smp.h"
#include "wl_status.h"

#define REPLY 0x80u

/* Throw away what came meanwhile: it can only be a duplicate. */
static void drop_waiting(wl_device *d)
{
    uint8_t waste[64];

    while (board_read(waste, sizeof waste) > 0) {
    }
    wl_parser_reset(&d->parser);
}

/* Small pieces together: a write may cost much more than a byte. */
typedef struct {
    uint8_t bytes[64];
    size_t size;
} gather;

static void flush(gather *g)
{
    if (g->size > 0)
        board_write(g->bytes, g->size);
    g->size = 0;
}

static void emit(void *context, const uint8_t *data, size_t size)
{
    gather *g = context;

    for (size_t i = 0; i < size; i++) {
        if (g->size == sizeof g->bytes)
            flush(g);
        g->bytes[g->size++] = data[i];
    }
}

static void answer(wl_device *d, size_t size, uint32_t crc)
{
    const uint8_t *request = d->parser.data;
    wl_exchange x = {request + WL_HEADER_BYTES, (uint32_t)size - WL_HEADER_BYTES,
                  d->reply + WL_HEADER_BYTES, 0, 0, 0};
    int status = request[2] != 0 ? WL_ARGUMENT : wl_carry_out(d, request[0], &x);

    if (status != WL_OK) {
        wl_put_u32(x.out, x.reason);
        wl_put_u32(x.out + 4, x.detail);
        x.out_size = 8;
    }
    d->reply[0] = (uint8_t)(request[0] | REPLY);
    d->reply[1] = request[1];
    d->reply[2] = (uint8_t)status;
    d->reply[3] = 0;
    d->reply_bytes = (uint32_t)wl_frame_seal(d->reply, x.out_size + WL_HEADER_BYTES);
    d->request_crc = crc;
}

/* One device has one line. Only in firmware that is built with it. */
static wl_smp smp;

static void take_frame(wl_device *d, size_t size)
{
    const uint8_t *request = d->parser.data;
    uint32_t crc = wl_get_u32(request + size);
    gather out;

    if (request[0] == 0 || (request[0] & REPLY) != 0)
        return; /* an echo of our own */
    if (d->reply_bytes == 0 || request[1] != d->reply[1] || crc != d->request_crc)
        answer(d, size, crc);
    drop_waiting(d);
    out.size = 0;
    wl_frame_emit(d->reply, d->reply_bytes, emit, &out);
    flush(&out);
    if (WL_SMP && d->after == WL_UPDATE) {
        d->updating = 1;
        wl_smp_begin(&smp, d->board, &d->slots);
    } else if (d->after == WL_RESTART) {
        d->after = WL_GO_ON;
        board_reset();
    }
    d->after = WL_GO_ON;
}

/* A host that speaks the bridge again, or whose RESET was answered but not heard, is heard. */
static void update(wl_device *d, const uint8_t *data, size_t size)
{
    size_t frame = 0;

    for (size_t i = 0; i < size && frame == 0; i++)
        frame = wl_smp_take(&smp, data[i]);
    if (frame == 0)
        return;
    d->updating = 0;
    d->reply_bytes = 0; /* it was overwritten */
    wl_take_active(d);
    wl_copy(d->parser.data, smp.bridge, frame + WL_CRC_BYTES);
    take_frame(d, frame);
}

void wl_device_init(wl_device *device, const wl_board *board)
{
    device->board = board;
    device->reply = board->frames + board->max_payload + WL_FRAME_OVERHEAD;
    device->reply_bytes = device->request_crc = 0;
    device->after = WL_GO_ON;
    device->updating = 0;
    wl_parser_init(&device->parser, board->frames, board->max_payload + WL_FRAME_OVERHEAD);
    wl_slots_open(&device->slots, board->flash, board->arena_bytes);
    device->head.arena = board->arena;
    device->head.arena_bytes = board->arena_bytes;
    device->head.tick_hz = board->tick_hz;
    device->head.mark = WL_MARK_OFF;
    device->head.settle_us = 0;
    wl_take_active(device);
}

void wl_device_take(wl_device *device, const uint8_t *data, size_t size)
{
    if (WL_SMP && device->updating) {
        update(device, data, size);
        return;
    }
    for (size_t i = 0; i < size; i++) {
        size_t frame = wl_parser_push(&device->parser, data[i]);
        if (frame > 0) {
            take_frame(device, frame);
            return; /* with one request outstanding, what follows it is a duplicate */
        }
    }
}
