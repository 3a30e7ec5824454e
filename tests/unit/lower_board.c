/* SPDX-License-Identifier: Apache-2.0 */
/* The firmware's blob checks and interpreter for the tests: no link, no slots, no clock. */
#include "board.h"
#include "wl_head.h"

void board_ticks_start(void) {}
uint32_t board_ticks(void) { return 0; }
void board_mark(int high) { (void)high; }

int lower_check(const uint8_t *blob, uint32_t size, uint32_t arena_bytes, uint32_t *record)
{
    wl_blob found;
    return wl_blob_check(blob, size, arena_bytes, &found, record);
}

/* Run a checked blob on its golden input; the output lies in the arena. Returns its bytes. */
uint32_t lower_run(const uint8_t *blob, uint32_t size, uint8_t *arena, uint32_t arena_bytes,
                    uint32_t layers)
{
    uint32_t record;
    wl_blob found;
    wl_head head = {0};
    if (wl_blob_check(blob, size, arena_bytes, &found, &record) != 0)
        return 0xffffffffu;
    head.arena = arena;
    head.arena_bytes = arena_bytes;
    wl_head_set(&head, &found);
    if (wl_head_run(&head, 0, layers) != 0)
        return 0xffffffffu;
    return head.output_bytes;
}

/*
 * Run a checked blob on `count` inputs, one behind the other, and put each output, of `stride` bytes
 * at most, at a multiple of `stride`, its size into `sizes`. Returns how many ran.
 */
uint32_t lower_many(const uint8_t *blob, uint32_t size, uint8_t *arena, uint32_t arena_bytes,
                    const uint8_t *inputs, uint32_t count, uint8_t *outputs, uint32_t stride,
                    uint32_t *sizes)
{
    uint32_t record, done;
    wl_blob found;
    wl_head head = {0};
    if (wl_blob_check(blob, size, arena_bytes, &found, &record) != 0)
        return 0;
    head.arena = arena;
    head.arena_bytes = arena_bytes;
    wl_head_set(&head, &found);
    for (done = 0; done < count; done++) {
        const uint8_t *from = inputs + (size_t)done * found.input_bytes;
        if (wl_head_input(&head, 0, from, found.input_bytes, &record) != 0 ||
            wl_head_run(&head, -1, WL_ALL_LAYERS) != 0 || head.output_bytes > stride)
            return done;
        sizes[done] = head.output_bytes;
        for (uint32_t i = 0; i < head.output_bytes; i++)
            outputs[(size_t)done * stride + i] = arena[found.header->output + i];
    }
    return done;
}
