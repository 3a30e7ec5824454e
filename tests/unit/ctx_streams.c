/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The context coder on records of test_c_ctx.py: the stream it must make, then streams that nobody
 * honest sent. Every buffer is allocated at its exact size, so that sanitizers see a byte too far.
 * What decodes must be what the encoder makes of it.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "waist.h"

#define CHECK(truth)                                                      \
    do {                                                                  \
        if (!(truth)) {                                                   \
            printf("record %lu, line %d: %s\n", records, __LINE__, #truth); \
            exit(1);                                                      \
        }                                                                 \
    } while (0)

static unsigned long records, accepted, refused;
static uint32_t seed = 12345;

static uint32_t random_word(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed;
}

static uint8_t *copy(const uint8_t *from, size_t size)
{
    uint8_t *to = malloc(size ? size : 1);
    if (size)
        memcpy(to, from, size);
    return to;
}

/* The codes in a buffer of just their size. */
static uint8_t *unpacked(const waist_ctx *ctx, const uint8_t *packed)
{
    const size_t count = ctx->planes * ctx->rows * ctx->columns;
    uint8_t *codes = malloc(count);

    CHECK(waist_unpack(packed, count, ctx->bits, codes) == WAIST_OK);
    return codes;
}

/* Decode from a buffer of just this size; what is accepted must be what is encoded again. */
static void hostile(const waist_ctx *ctx, const uint8_t *bytes, size_t size, size_t count)
{
    uint8_t *data = malloc(size), *codes = malloc(count), *again = malloc(size);
    size_t coded = 0;

    if (size)
        memcpy(data, bytes, size);
    if (waist_ctx_decode(ctx, data, size, codes) == WAIST_OK) {
        accepted++;
        CHECK(waist_ctx_encode(ctx, codes, NULL, again, size, &coded) == WAIST_OK);
        CHECK(coded == size && !memcmp(again, data, size));
    } else {
        refused++;
    }
    free(data);
    free(codes);
    free(again);
}

static void attack(const waist_ctx *ctx, const uint8_t *stream, size_t size, size_t count)
{
    uint8_t *bytes = copy(stream, size + 8);

    memset(bytes + size, 0, 8);
    for (size_t cut = 0; cut < size; cut += 1 + cut / 8)
        hostile(ctx, bytes, cut, count);
    for (size_t more = 1; more <= 8; more++)
        hostile(ctx, bytes, size + more, count);
    for (int i = 0; i < 20 && size; i++) {
        const size_t at = random_word() % size;
        const uint8_t was = bytes[at];
        bytes[at] ^= (uint8_t)(1u << random_word() % 8);
        hostile(ctx, bytes, size, count);
        bytes[at] = was;
    }
    for (int i = 0; i < 10; i++) {
        for (size_t k = 0; k < size + 8; k++)
            bytes[k] = (uint8_t)(i < 2 ? 0u - (unsigned)i : random_word());
        hostile(ctx, bytes, random_word() % (size + 8), count);
    }
    free(bytes);
}

static int record(FILE *file)
{
    uint32_t head[7];
    uint8_t *packed, *codes, *stream, *out, *back, table[256];
    waist_ctx ctx;
    size_t whole, count, size, coded = 0;

    if (fread(head, sizeof head, 1, file) != 1)
        return 0;
    ctx.planes = head[0];
    ctx.rows = head[1];
    ctx.columns = head[2];
    ctx.interleaved = (int)head[3];
    ctx.bits = head[4];
    ctx.nodes = malloc(waist_ctx_nodes(ctx.bits) * sizeof *ctx.nodes);
    ctx.above = malloc(ctx.columns);
    whole = head[5];
    size = head[6];
    packed = malloc(whole);
    stream = malloc(size + 8);
    out = malloc(size);
    count = ctx.planes * ctx.rows * ctx.columns;
    back = malloc(count);
    CHECK(fread(packed, 1, whole, file) == whole && fread(stream, 1, size, file) == size);
    memset(stream + size, 0, 8);
    CHECK(whole == waist_packed_size(count, ctx.bits));
    codes = unpacked(&ctx, packed);
    CHECK(waist_ctx_encode(&ctx, codes, NULL, out, size, &coded) == WAIST_OK);
    CHECK(coded == size && !memcmp(out, stream, size));
    for (size_t less = 0; less < size; less += 1 + less / 4) {
        uint8_t *small = malloc(less);
        CHECK(waist_ctx_encode(&ctx, codes, NULL, small, less, &coded) == WAIST_TOO_LONG);
        CHECK(coded <= less);
        free(small);
    }
    CHECK(waist_ctx_decode(&ctx, out, size, back) == WAIST_OK && !memcmp(back, codes, count));
    attack(&ctx, stream, size, count);
    for (unsigned value = 0; value < 256; value++)
        table[value] = (uint8_t)((value ^ 0xa5u) & ((1u << ctx.bits) - 1u));
    for (size_t k = 0; k < count; k++) /* other values of the same codes */
        back[k] = codes[k] ^ 0xa5u;
    CHECK(waist_ctx_encode(&ctx, back, table, out, size, &coded) == WAIST_OK);
    CHECK(coded == size && !memcmp(out, stream, size));
    ctx.bits = 9;
    CHECK(waist_ctx_encode(&ctx, codes, NULL, out, size, &coded) == WAIST_BAD_BITS);
    CHECK(waist_ctx_decode(&ctx, out, size, back) == WAIST_BAD_BITS);
    free(ctx.nodes);
    free(ctx.above);
    free(packed);
    free(codes);
    free(stream);
    free(out);
    free(back);
    records++;
    return 1;
}

int main(int argc, char **argv)
{
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;

    CHECK(file != NULL && waist_ctx_nodes(0) == 0 && waist_ctx_nodes(9) == 0);
    for (uint32_t bits = 1; bits <= 4; bits++)
        CHECK(waist_ctx_nodes(bits) * sizeof(waist_ctx_node) <= 4096);
    while (record(file))
        ;
    fclose(file);
    printf("%lu records, %lu hostile streams refused, %lu accepted\n", records, refused, accepted);
    return 0;
}
