/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device under sanitizers, told what to do by fuzz/driver.py on standard input:
 *     u32 what, a, b, size; u8 data[size]
 * what 0: a blob for a device with an arena of `a` bytes; accepted, it runs on an input of seed b.
 *      -> u32 reason, record, layers run, output bytes, tensor bytes, new edges; the waist tensors,
 *         then the output
 * what 1: begin a device: arena of `a` bytes, slots of b and (data) u32 bytes -> nothing
 * what 2: bytes that reach it together -> u32 layers run, new edges, size; the bytes it sent
 * While a layer runs, all of the arena and the blob that it has no business with is poisoned.
 */
#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wl_cmd.h"
#include "wl_status.h"

#define PAGE 1024u
#define MAX_PAYLOAD 512u
#define SENT_MAX (1u << 16)
#define EDGES (1u << 16)

static wl_head *running;
static uint32_t layer, layers_run, arena_bytes;
static uint8_t *arena;
static uint8_t edge_seen[EDGES];
static uint32_t new_edges;

void __sanitizer_cov_trace_pc(void);
__attribute__((no_sanitize("address"), no_sanitize("undefined"))) void __sanitizer_cov_trace_pc(void)
{
    static uint32_t last;
    uint32_t here = (uint32_t)((uintptr_t)__builtin_return_address(0) * 0x9e3779b1u >> 8);

    new_edges += !edge_seen[(here ^ last) % EDGES];
    edge_seen[(here ^ last) % EDGES] = 1;
    last = here >> 1;
}

static void *get(size_t size)
{
    void *data = NULL;

    if (posix_memalign(&data, 16, size ? size : 1) != 0)
        abort();
    return data;
}

static void open_all(void)
{
    ASAN_UNPOISON_MEMORY_REGION(arena, arena_bytes);
    if (running->blob)
        ASAN_UNPOISON_MEMORY_REGION(running->blob->base, running->blob->header->blob_bytes);
}

static void allow_tensor(uint32_t number)
{
    const wl_blob_tensor *t = &running->blob->tensors[number];

    ASAN_UNPOISON_MEMORY_REGION(arena + t->offset, wl_tensor_bytes(t));
}

static void allow_tables(void)
{
    const wl_blob *b = running->blob;
    const wl_blob_header *h = b->header;

    ASAN_UNPOISON_MEMORY_REGION(b->tensors, h->n_tensors * sizeof *b->tensors);
    ASAN_UNPOISON_MEMORY_REGION(b->layers, h->n_layers * sizeof *b->layers);
    ASAN_UNPOISON_MEMORY_REGION(b->waists, h->n_waists * sizeof *b->waists);
}

static void allow_layer(const wl_blob_layer *l)
{
    const uint8_t *base = running->blob->base;

    for (uint32_t k = 0; k < l->n_in; k++)
        allow_tensor(l->in[k]);
    allow_tensor(l->out);
    ASAN_UNPOISON_MEMORY_REGION(arena + l->scratch, l->scratch_bytes);
    ASAN_UNPOISON_MEMORY_REGION(base + l->weights, l->weights_bytes);
    ASAN_UNPOISON_MEMORY_REGION(base + l->params, l->params_bytes);
}

static void allow_waists(void)
{
    const wl_blob *b = running->blob;

    ASAN_UNPOISON_MEMORY_REGION(arena + b->header->output, b->header->output_bytes);
    for (uint32_t k = 0; k < b->header->n_waists; k++) {
        allow_tensor(b->waists[k].tensor);
        ASAN_UNPOISON_MEMORY_REGION(arena + b->waists[k].scratch, b->waists[k].scratch_bytes);
        if (b->waists[k].table != 0)
            ASAN_UNPOISON_MEMORY_REGION(b->base + b->waists[k].table, 256);
    }
}

/* Called before each layer and before the waist is encoded, and while a marker settles. */
void board_ticks_start(void)
{
    const wl_blob_header *h = running->blob->header;

    if (running->mark != WL_MARK_OFF || layer > h->n_layers)
        return;
    ASAN_POISON_MEMORY_REGION(arena, arena_bytes);
    ASAN_POISON_MEMORY_REGION(running->blob->base + sizeof *h, h->blob_bytes - sizeof *h);
    allow_tables();
    if (layer < h->n_layers) {
        layers_run++;
        allow_layer(&running->blob->layers[layer++]);
    } else
        allow_waists();
}

uint32_t board_ticks(void)
{
    static uint32_t now;

    open_all();
    return now += 100000; /* so that markers settle */
}

void board_mark(int high) { (void)high; }
uint32_t board_stack_free(void) { return 0xffffffffu; }

/* What came with the request, and is thrown away. */
static const uint8_t *arrived;
static size_t arrived_bytes;

size_t board_read(uint8_t *data, size_t size)
{
    size = size < arrived_bytes ? size : arrived_bytes;
    if (size > 0)
        memcpy(data, arrived, size);
    arrived += size;
    arrived_bytes -= size;
    return size;
}

static uint8_t sent[SENT_MAX];
static size_t sent_bytes;

void board_write(const uint8_t *data, size_t size)
{
    if (size > sizeof sent - sent_bytes)
        abort();
    memcpy(sent + sent_bytes, data, size);
    sent_bytes += size;
}

static wl_device device;
static wl_board board = {.name = "fuzz", .tick_hz = 1000000, .max_payload = MAX_PAYLOAD};
static wl_flash flash;
static uint8_t *memory;
static uint32_t memory_bytes;

static int erase(uint32_t offset)
{
    if (offset % PAGE != 0 || offset >= memory_bytes)
        abort();
    memset(memory + offset, 0xff, PAGE);
    return 0;
}

static int program(uint32_t offset, const uint8_t *data, uint32_t size)
{
    if (offset % flash.program_bytes != 0 || size % flash.program_bytes != 0 ||
        offset + size > memory_bytes)
        abort();
    for (uint32_t i = 0; i < size; i++) {
        if (memory[offset + i] != 0xff)
            abort(); /* not erased */
        memory[offset + i] = data[i];
    }
    return 0;
}

void board_reset(void) { wl_device_init(&device, &board); }

static void new_arena(uint32_t size)
{
    if (arena)
        ASAN_UNPOISON_MEMORY_REGION(arena, arena_bytes);
    free(arena);
    arena_bytes = size;
    arena = get(size);
    memset(arena, 0xa5, size);
}

static void begin(uint32_t arena_size, uint32_t slot_bytes, uint32_t second_bytes)
{
    new_arena(arena_size);
    free(memory);
    free(board.frames);
    memory_bytes = slot_bytes + second_bytes;
    memory = get(memory_bytes);
    memset(memory, 0xff, memory_bytes);
    flash = (wl_flash){.base = memory, .slot_bytes = slot_bytes, .second_bytes = second_bytes,
                       .page_bytes = PAGE, .program_bytes = 8, .erase = erase, .program = program};
    board.arena = arena;
    board.arena_bytes = arena_size;
    board.flash = &flash;
    board.frames = get(2 * (MAX_PAYLOAD + WL_FRAME_OVERHEAD));
    running = &device.head;
    running->blob = NULL;
    wl_device_init(&device, &board);
}

static void put(const void *data, size_t size)
{
    if (size > 0 && fwrite(data, 1, size, stdout) != size)
        exit(1);
}

static void take(const uint8_t *data, size_t size)
{
    layer = layers_run = new_edges = 0;
    sent_bytes = 0;
    arrived = data;
    arrived_bytes = size;
    running = &device.head;
    while (arrived_bytes > 0) {
        uint8_t bytes[128];
        size_t got = board_read(bytes, sizeof bytes);
        wl_device_take(&device, bytes, got);
    }
    const uint32_t reply[] = {layers_run, new_edges, (uint32_t)sent_bytes};
    put(reply, sizeof reply);
    put(sent, sent_bytes);
}

static void run(wl_head *head, int golden)
{
    layer = 0;
    if (wl_head_run(head, golden, WL_ALL_LAYERS) != WL_OK)
        abort();
}

/* All of the input in pieces, as LOAD brings it. */
static void feed(wl_head *head, uint32_t seed)
{
    uint32_t at = 0, detail;
    uint8_t piece[100];

    while (at < head->blob->input_bytes) {
        uint32_t size = head->blob->input_bytes - at;
        size = size < sizeof piece ? size : (uint32_t)sizeof piece;
        for (uint32_t i = 0; i < size; i++)
            piece[i] = (uint8_t)((at + i + 1u) * (seed | 1u) * 0x9e3779b1u >> 24);
        if (wl_head_input(head, at, piece, size, &detail) != WL_OK)
            abort();
        at += size;
    }
}

static void take_blob(const uint8_t *data, uint32_t size, uint32_t arena_size, uint32_t seed)
{
    static wl_head head;
    wl_blob blob = {0};
    uint8_t *base = get(size);
    uint32_t record = 0, tensors = 0;
    int reason;

    if (size > 0)
        memcpy(base, data, size);
    new_arena(arena_size);
    layers_run = new_edges = 0;
    running = &head;
    head.arena = arena;
    head.arena_bytes = arena_size;
    head.mark = WL_MARK_OFF;
    wl_head_set(&head, NULL);
    reason = wl_blob_check(base, size, arena_size, &blob, &record);
    if (reason == WL_BLOB_OK) {
        wl_head_set(&head, &blob);
        if (blob.header->n_goldens > 0)
            run(&head, blob.header->n_goldens - 1);
        feed(&head, seed);
        run(&head, -1);
        for (uint32_t k = 0; k < blob.header->n_waists; k++)
            tensors += wl_tensor_bytes(&blob.tensors[blob.waists[k].tensor]);
    }
    const uint32_t reply[] = {(uint32_t)reason, record,  layers_run,
                              head.output_bytes, tensors, new_edges};
    put(reply, sizeof reply);
    if (reason == WL_BLOB_OK) {
        for (uint32_t k = 0; k < blob.header->n_waists; k++) {
            const wl_blob_tensor *t = &blob.tensors[blob.waists[k].tensor];
            put(arena + t->offset, wl_tensor_bytes(t));
        }
        put(arena + blob.header->output, head.output_bytes);
    }
    wl_head_set(&head, NULL);
    free(base);
}

int main(void)
{
    uint32_t told[4];

    while (fread(told, sizeof told, 1, stdin) == 1) {
        uint8_t *data = malloc(told[3] ? told[3] : 1);
        if (fread(data, 1, told[3], stdin) != told[3])
            return 1;
        if (told[0] == 0)
            take_blob(data, told[3], told[1], told[2]);
        else if (told[0] == 1)
            begin(told[1], told[2], told[3] == 4 ? wl_get_u32(data) : told[2]);
        else
            take(data, told[3]);
        fflush(stdout);
        free(data);
    }
    free(arena);
    free(memory);
    free(board.frames);
    return 0;
}
