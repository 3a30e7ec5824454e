/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every power cut of an update, one after the other:
 *     slots OLD NEW PAGE CHUNK UNIT
 * OLD and NEW are blobs. A simulated flash holds OLD, NEW is loaded and committed, and the power
 * fails inside operation k when t bytes of it are done, for every k and every t; what was being
 * changed is then as it was before, as it should become, or noise. After each cut the slots must
 * hold OLD or NEW, whole, and take another update. Prints operations, cuts, times OLD, times NEW.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "board.h"
#include "wl_frame.h"
#include "wl_slots.h"
#include "wl_status.h"

#define ARENA (1u << 16)

enum torn { CLEAN, NOISE, RAGGED, WAYS };

void board_ticks_start(void) {}
uint32_t board_ticks(void) { return 0; }
void board_mark(int high) { (void)high; }
size_t board_read(uint8_t *data, size_t size) { (void)data; return size - size; }
void board_write(const uint8_t *data, size_t size) { (void)data; (void)size; }
uint32_t board_stack_free(void) { return 0; }
void board_reset(void) {}

static uint8_t *memory;
static wl_flash flash;
static long operation, cut_operation;
static uint32_t cut_bytes, cut_size; /* of the operation that is cut */
static enum torn way;
static jmp_buf power_failed;
static uint32_t noise = 1;

static void fail(const char *what)
{
    fprintf(stderr, "slots: operation %ld, %u bytes, way %d: %s\n", cut_operation, cut_bytes, way,
            what);
    exit(1);
}

static uint8_t random_byte(void)
{
    noise = noise * 1664525u + 1013904223u;
    return (uint8_t)(noise >> 24);
}

/* One operation that turns `size` bytes at `at` into `to` (NULL: erased), or part of it. */
static int change(uint8_t *at, const uint8_t *to, uint32_t size)
{
    uint32_t may = size;
    int cut = operation++ == cut_operation;

    if (cut)
        cut_size = size;
    if (cut && cut_bytes < size)
        may = cut_bytes;
    for (uint32_t i = 0; i < may; i++)
        at[i] = to ? (uint8_t)(at[i] & to[i]) : 0xff;
    if (!cut)
        return 0;
    /* What was half done may read as anything between; programming can only clear bits. */
    if (way == NOISE)
        for (uint32_t i = may; i < size && i < may + flash.program_bytes; i++)
            at[i] = to ? (uint8_t)(at[i] & (to[i] | random_byte())) : random_byte();
    if (way == RAGGED)
        for (uint32_t i = may; i < size; i++)
            if (random_byte() & 1)
                at[i] = to ? (uint8_t)(at[i] & to[i]) : (uint8_t)(at[i] | random_byte());
    longjmp(power_failed, 1);
}

static int erase(uint32_t offset)
{
    if (offset % flash.page_bytes != 0 || offset >= 2 * flash.slot_bytes)
        fail("erased what is no page");
    return change(memory + offset, NULL, flash.page_bytes);
}

static int program(uint32_t offset, const uint8_t *data, uint32_t size)
{
    if (offset % flash.program_bytes != 0 || size % flash.program_bytes != 0 ||
        offset + size > 2 * flash.slot_bytes)
        fail("programmed what is no unit");
    for (uint32_t i = 0; i < size; i++)
        if (memory[offset + i] != 0xff)
            fail("programmed what was not erased");
    return change(memory + offset, data, size);
}

static void update(wl_slots *slots, const uint8_t *blob, uint32_t size, uint32_t chunk)
{
    uint32_t reason, detail;

    for (uint32_t at = 0; at < size; at += chunk)
        if (wl_slots_load(slots, at, blob + at, size - at < chunk ? size - at : chunk, &detail) !=
            WL_OK)
            fail("LOAD refused");
    if (wl_slots_commit(slots, size, wl_crc32(0, blob, size), &reason, &detail) != WL_OK)
        fail("COMMIT refused");
}

static int holds(const wl_slots *slots, const uint8_t *blob, uint32_t size)
{
    return slots->active >= 0 && slots->blob.header->blob_bytes == size &&
           memcmp(slots->blob.base, blob, size) == 0;
}

static uint8_t *read_file(const char *path, uint32_t *size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = aligned_alloc(16, 1u << 20);

    if (file == NULL)
        fail(path);
    *size = (uint32_t)fread(data, 1, 1u << 20, file);
    fclose(file);
    return data;
}

int main(int count, char **arguments)
{
    static wl_slots slots; /* static: longjmp leaves it alone */
    static long cuts, olds, news;
    static uint32_t old_size, new_size, chunk;
    static uint8_t *old, *new, *before;
    uint32_t total;

    if (count != 6)
        return 2;
    old = read_file(arguments[1], &old_size);
    new = read_file(arguments[2], &new_size);
    flash.page_bytes = (uint32_t)atol(arguments[3]);
    chunk = (uint32_t)atol(arguments[4]);
    flash.program_bytes = (uint32_t)atol(arguments[5]);
    flash.slot_bytes = (new_size + 32 + flash.page_bytes - 1) / flash.page_bytes * flash.page_bytes;
    total = 2 * flash.slot_bytes;
    flash.base = memory = aligned_alloc(16, total);
    flash.erase = erase;
    flash.program = program;
    before = malloc(total);

    cut_operation = -1;
    memset(memory, 0xff, total);
    wl_slots_open(&slots, &flash, ARENA);
    /* Three times, so that both slots have held something. */
    update(&slots, new, new_size, chunk);
    update(&slots, new, new_size, chunk);
    update(&slots, old, old_size, chunk);
    memcpy(before, memory, total);
    operation = 0;
    update(&slots, new, new_size, chunk);
    const long operations = operation;

    for (cut_operation = 0; cut_operation < operations; cut_operation++)
        for (way = CLEAN; way < WAYS; way++)
            for (cut_bytes = 0;; cut_bytes++) {
                memcpy(memory, before, total);
                wl_slots_open(&slots, &flash, ARENA);
                if (!holds(&slots, old, old_size))
                    fail("the old head is not there to begin with");
                operation = 0;
                if (setjmp(power_failed) == 0) {
                    update(&slots, new, new_size, chunk);
                    fail("the cut did not come");
                }
                cuts++;
                wl_slots_open(&slots, &flash, ARENA);
                if (holds(&slots, old, old_size))
                    olds++;
                else if (holds(&slots, new, new_size))
                    news++;
                else
                    fail("neither old nor new");
                operation = 1000000; /* no more cuts: the next update must succeed */
                update(&slots, new, new_size, chunk);
                wl_slots_open(&slots, &flash, ARENA);
                if (!holds(&slots, new, new_size))
                    fail("the update after the cut did not last");
                if (cut_bytes >= cut_size)
                    break;
            }
    printf("%ld %ld %ld %ld\n", operations, cuts, olds, news);
    free(old);
    free(new);
    free(before);
    free(memory);
    return 0;
}
