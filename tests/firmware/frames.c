/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The firmware's frames for tests:
 *   frames encode                  hex of header and payload, one a line -> hex of the frame
 *   frames decode LIMIT            bytes -> hex of header and payload of each sound frame, one a line
 *   frames noise COUNT BER SEED    -> frames sent, delivered, wrong
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "board.h"
#include "wl_frame.h"

#define PAYLOAD_MAX 512u

/* The parts of the firmware that need a board are linked, not used. */
void board_ticks_start(void) {}
uint32_t board_ticks(void) { return 0; }
void board_mark(int high) { (void)high; }
size_t board_read(uint8_t *data, size_t size) { (void)data; return size - size; }
void board_write(const uint8_t *data, size_t size) { (void)data; (void)size; }
uint32_t board_stack_free(void) { return 0; }
void board_reset(void) {}

typedef struct {
    uint8_t *bytes;
    size_t size;
} sink;

static void collect(void *context, const uint8_t *data, size_t size)
{
    sink *s = context;

    if (size > 0)
        memcpy(s->bytes + s->size, data, size);
    s->size += size;
}

static void print_hex(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        printf("%02x", data[i]);
    putchar('\n');
}

static int encode(void)
{
    static char line[20000];
    static uint8_t data[9000], coded[10000];

    while (fgets(line, sizeof line, stdin)) {
        size_t size = strcspn(line, "\n") / 2;
        sink s = {coded, 0};
        for (size_t i = 0; i < size; i++) {
            unsigned value;
            sscanf(line + 2 * i, "%2x", &value);
            data[i] = (uint8_t)value;
        }
        wl_frame_emit(data, wl_frame_seal(data, size), collect, &s);
        print_hex(coded, s.size);
    }
    return 0;
}

static int decode(size_t limit)
{
    /* From the heap, of exactly the size: a sanitizer sees a byte too many. */
    uint8_t *room = malloc(limit + WL_FRAME_OVERHEAD);
    wl_parser parser;
    int byte;

    wl_parser_init(&parser, room, limit + WL_FRAME_OVERHEAD);
    while ((byte = getchar()) != EOF) {
        size_t size = wl_parser_push(&parser, (uint8_t)byte);
        if (size > 0)
            print_hex(room, size);
    }
    free(room);
    return 0;
}

static uint64_t state;

static uint64_t draw(void) /* xorshift64* */
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545f4914f6cdd1du;
}

static size_t gap(double ber)
{
    return (size_t)(log(((double)(draw() >> 11) + 1.0) / 9007199254740993.0) / log1p(-ber));
}

static int noise(long count, double ber)
{
    static uint8_t now[PAYLOAD_MAX + 8], before[PAYLOAD_MAX + 8], line[2 * PAYLOAD_MAX];
    uint8_t *room = malloc(PAYLOAD_MAX + WL_FRAME_OVERHEAD);
    size_t now_size = 0, before_size = 0, next = gap(ber);
    long delivered = 0, wrong = 0;
    wl_parser parser;

    wl_parser_init(&parser, room, PAYLOAD_MAX + WL_FRAME_OVERHEAD);
    for (long n = 0; n < count; n++) {
        sink s = {line, 0};
        memcpy(before, now, now_size);
        before_size = now_size;
        now_size = WL_HEADER_BYTES + draw() % (PAYLOAD_MAX + 1);
        for (size_t i = 0; i < now_size; i++)
            now[i] = (uint8_t)(draw() >> 32);
        now[3] = 0;
        wl_frame_emit(now, wl_frame_seal(now, now_size), collect, &s);
        for (; next < 8 * s.size; next += 1 + gap(ber))
            line[next / 8] ^= (uint8_t)(1u << next % 8);
        next -= 8 * s.size;
        for (size_t i = 0; i < s.size; i++) {
            size_t size = wl_parser_push(&parser, line[i]);
            if (size == now_size && memcmp(room, now, size) == 0)
                delivered++;
            else if (size > 0 && (size != before_size || memcmp(room, before, size) != 0))
                wrong++;
        }
    }
    printf("%ld %ld %ld\n", count, delivered, wrong);
    free(room);
    return 0;
}

int main(int count, char **arguments)
{
    if (count == 2 && strcmp(arguments[1], "encode") == 0)
        return encode();
    if (count == 3 && strcmp(arguments[1], "decode") == 0)
        return decode((size_t)atol(arguments[2]));
    if (count == 5 && strcmp(arguments[1], "noise") == 0) {
        state = strtoull(arguments[4], NULL, 0) | 1u;
        return noise(atol(arguments[2]), atof(arguments[3]));
    }
    return 2;
}
