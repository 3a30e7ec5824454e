/* SPDX-License-Identifier: Apache-2.0 */
#include "wl_head.h"

#include "board.h"
#include "waist.h"
#include "wl_frame.h"
#include "wl_layer.h"
#include "wl_status.h"

#define STORED 0x80000000u

void wl_head_set(wl_head *head, const wl_blob *blob)
{
    head->blob = blob;
    head->input_got = head->output_bytes = 0;
}

int wl_head_keeps_input(const wl_head *head)
{
    return head->blob->input_bytes <= head->arena_bytes - head->blob->header->arena_bytes;
}

/* Where input byte `offset` belongs in the input tensors, and how many follow it there. */
static uint8_t *input_tensor(const wl_head *head, uint32_t offset, uint32_t *size)
{
    const wl_blob_tensor *tensor = head->blob->tensors;

    while (offset >= wl_tensor_bytes(tensor))
        offset -= wl_tensor_bytes(tensor++);
    *size = wl_tensor_bytes(tensor) - offset;
    return head->arena + tensor->offset + offset;
}

/* The same for input that waits: behind the head's arena if there is room, else in the tensors. */
static uint8_t *stored_input(const wl_head *head, uint32_t offset, uint32_t *size)
{
    if (!wl_head_keeps_input(head))
        return input_tensor(head, offset, size);
    *size = head->blob->input_bytes - offset;
    return head->arena + head->arena_bytes - *size;
}

int wl_head_input(wl_head *head, uint32_t offset, const uint8_t *data, uint32_t size,
                  uint32_t *detail)
{
    *detail = head->blob->input_bytes;
    if (offset > *detail || size > *detail - offset)
        return WL_NO_ROOM;
    *detail = head->input_got;
    if (offset != 0 && offset != *detail)
        return WL_ORDER;
    head->output_bytes = 0; /* it may lie where the input goes */
    head->input_got = offset + size;
    for (uint32_t at = 0, here; at < size; at += here) {
        uint8_t *to = stored_input(head, offset + at, &here);
        here = here < size - at ? here : size - at;
        wl_copy(to, data + at, here);
    }
    return WL_OK;
}

uint32_t wl_head_input_crc(const wl_head *head, uint32_t offset, uint32_t size)
{
    uint32_t crc = 0;

    for (uint32_t at = 0, here; at < size; at += here) {
        const uint8_t *from = stored_input(head, offset + at, &here);
        here = here < size - at ? here : size - at;
        crc = wl_crc32(crc, from, here);
    }
    return crc;
}

static void fill_inputs(const wl_head *head, const uint8_t *from)
{
    for (uint32_t at = 0, here; at < head->blob->input_bytes; at += here) {
        uint8_t *to = input_tensor(head, at, &here);
        wl_copy(to, from + at, here);
    }
}

static void wait_us(const wl_head *head, uint32_t us)
{
    uint32_t ticks = us * (head->tick_hz / 1000000u);

    board_ticks_start();
    while (board_ticks() < ticks) {
    }
}

static void edge(const wl_head *head, int high)
{
    board_mark(high);
    wait_us(head, head->settle_us);
}

static void mark_layer(const wl_head *head, uint32_t index)
{
    if (head->mark == WL_MARK_LAYERS)
        edge(head, index % 2 == 0);
    if (head->mark == WL_MARK_PULSES)
        for (uint32_t pulse = 0; pulse <= index; pulse++) {
            edge(head, 1);
            edge(head, 0);
        }
}

/* Pack one waist tensor's codes. A table of its own bytes saves a second way to copy. */
static void pack(const uint8_t *values, const uint8_t *table, uint32_t bits, uint32_t count,
                 uint8_t *packed)
{
    if (table == NULL)
        wl_copy(packed, values, count);
    else
        waist_table_encode(values, count, table, bits, packed);
}

/* Encode it behind `out`; returns the bytes written. */
static uint32_t encode(const wl_head *head, const wl_blob_waist *waist, uint8_t *out)
{
    const wl_blob_tensor *tensor = &head->blob->tensors[waist->tensor];
    const uint8_t *values = head->arena + tensor->offset;
    const uint8_t *table = waist->table ? head->blob->base + waist->table : NULL;
    uint32_t count = wl_tensor_bytes(tensor);
    uint32_t size = (uint32_t)waist_packed_size(count, waist->bits);
    size_t coded;

    if (waist->coder == WL_CODER_CTX) {
        uint8_t *nodes = head->arena + waist->scratch;
        waist_ctx ctx = {waist->planes,
                         waist->rows,
                         waist->columns,
                         waist->interleaved,
                         waist->bits,
                         (waist_ctx_node *)(void *)nodes,
                         nodes + 4u * waist_ctx_nodes(waist->bits)};
        if (waist_ctx_encode(&ctx, values, table, out + 4, size - 1u, &coded) == WAIST_OK) {
            wl_put_u32(out, (uint32_t)coded);
            return (uint32_t)coded + 4u;
        }
    }
    pack(values, table, waist->bits, count, out + 4);
    wl_put_u32(out, size | STORED);
    return size + 4u;
}

int wl_head_run(wl_head *head, int golden, uint32_t layers)
{
    const wl_blob *blob = head->blob;
    const wl_blob_header *h = blob->header;
    uint32_t size = 0, count = layers < h->n_layers ? layers : h->n_layers;

    if (golden < 0 && head->input_got != blob->input_bytes)
        return WL_NOT_NOW;
    head->output_bytes = 0;
    if (golden >= 0)
        fill_inputs(head, blob->base + blob->goldens[golden].input);
    else if (wl_head_keeps_input(head))
        fill_inputs(head, stored_input(head, 0, &size));
    if (!wl_head_keeps_input(head))
        head->input_got = 0;
    if (head->mark == WL_MARK_HEAD)
        edge(head, 1);
    for (uint32_t i = 0; i < count; i++) {
        mark_layer(head, i);
        board_ticks_start();
        wl_layer_run(blob, &blob->layers[i], head->arena);
        head->ticks[i] = board_ticks();
    }
    if (head->mark == WL_MARK_HEAD || head->mark == WL_MARK_LAYERS)
        edge(head, 0);
    for (uint32_t i = count; i <= h->n_layers; i++)
        head->ticks[i] = 0;
    if (layers != WL_ALL_LAYERS)
        return WL_OK;
    size = 0;
    board_ticks_start();
    for (uint32_t i = 0; i < h->n_waists; i++)
        size += encode(head, &blob->waists[i], head->arena + h->output + size);
    head->ticks[h->n_layers] = board_ticks();
    head->output_bytes = size;
    return WL_OK;
}
