/* SPDX-License-Identifier: Apache-2.0 */
#include "wl_smp.h"

#include "wl_cbor.h"
#include "wl_status.h"

/* Header of a message: op and version u8, flags u8, length u16, group u16, sequence u8, command u8. */
#define HEADER_BYTES 8u
#define READ 0u
#define WRITE 2u
#define GROUP_OS 0u
#define GROUP_IMAGE 1u
#define OS_ECHO 0u
#define OS_RESET 5u
#define OS_PARAMETERS 6u
#define IMAGE_STATE 0u
#define IMAGE_UPLOAD 1u

/* MCUmgr's codes: of any group, and of the image group. */
enum { ENOMEM = 2, EINVAL = 3, ENOTSUP = 8 };
enum {
    IMAGE_UNKNOWN = 1,
    IMAGE_FLASH_WRITE_FAILED = 12,
    IMAGE_INVALID_SLOT = 14,
    IMAGE_INVALID_LENGTH = 21,
    IMAGE_INVALID_HEADER = 22,
    IMAGE_TOO_LARGE = 30,
    IMAGE_OVERRUN = 31
};

/* Of the image group, in what a command returns. */
#define IMAGE 0x10000u

typedef struct {
    uint32_t operation, version, group, command;
    const uint8_t *map; /* the request's, well formed */
    size_t size;
    wl_cbor_out out; /* pairs of the reply */
    uint32_t pairs;
    int restart;
} exchange;

static uint32_t frame_bytes(const wl_smp *smp)
{
    return smp->board->max_payload + WL_FRAME_OVERHEAD;
}

void wl_smp_begin(wl_smp *smp, const wl_board *board, wl_slots *slots)
{
    smp->board = board;
    smp->slots = slots;
    smp->length = 0;
    wl_smp_line_init(&smp->line, board->frames, frame_bytes(smp));
    wl_parser_init(&smp->parser, smp->bridge, sizeof smp->bridge);
}

static void key(exchange *x, const char *name)
{
    wl_cbor_put_text(&x->out, name);
    x->pairs++;
}

static void put_number(exchange *x, const char *name, uint32_t value)
{
    key(x, name);
    wl_cbor_put(&x->out, WL_CBOR_UINT, value);
}

static void put_bool(exchange *x, const char *name, int value)
{
    key(x, name);
    wl_cbor_put_bool(&x->out, value);
}

static int has(const exchange *x, const char *name, enum wl_cbor_type type, wl_cbor_item *item)
{
    return wl_cbor_find(x->map, x->size, name, type, item);
}

static uint32_t echo(exchange *x)
{
    wl_cbor_item said;

    if (!has(x, "d", WL_CBOR_TEXT, &said))
        return EINVAL;
    key(x, "r");
    wl_cbor_put_string(&x->out, WL_CBOR_TEXT, said.bytes, said.number);
    return 0;
}

static uint32_t parameters(const wl_smp *smp, exchange *x)
{
    put_number(x, "buf_size", frame_bytes(smp));
    put_number(x, "buf_count", 1);
    return 0;
}

/* "0.0." and how often a head was committed. */
static void put_version(exchange *x, uint32_t sequence)
{
    char text[] = "0.0.4294967295";
    size_t end = 5;

    for (uint32_t rest = sequence; rest > 9; rest /= 10)
        end++;
    text[end] = 0;
    for (; end > 4; sequence /= 10)
        text[--end] = (char)('0' + sequence % 10);
    key(x, "version");
    wl_cbor_put_text(&x->out, text);
}

/*
 * The head in force, if there is one: SMP's slot 0 is what runs, wherever it lies, and a head has no
 * other state. Its hash is of the whole blob.
 */
static uint32_t list(const wl_smp *smp, exchange *x)
{
    const wl_slots *slots = smp->slots;
    const uint32_t before = x->pairs + 1u;
    uint8_t digest[WL_SHA256_BYTES];

    key(x, "images");
    wl_cbor_put(&x->out, WL_CBOR_ARRAY, slots->active >= 0);
    if (slots->active < 0)
        return 0;
    wl_cbor_put(&x->out, WL_CBOR_MAP, 6);
    put_number(x, "slot", 0);
    put_version(x, wl_slots_seal(slots)->sequence);
    wl_sha256(slots->blob.base, slots->blob.header->blob_bytes, digest);
    key(x, "hash");
    wl_cbor_put_string(&x->out, WL_CBOR_BYTES, digest, sizeof digest);
    put_bool(x, "bootable", 1);
    put_bool(x, "confirmed", 1);
    put_bool(x, "active", 1);
    x->pairs = before;
    return 0;
}

static uint32_t image_error(int status)
{
    switch (status) {
    case WL_OK:
        return 0;
    case WL_NO_ROOM:
        return IMAGE | IMAGE_TOO_LARGE;
    case WL_FLASH:
        return IMAGE | IMAGE_FLASH_WRITE_FAILED;
    case WL_REFUSED:
    case WL_CRC:
        return IMAGE | IMAGE_INVALID_HEADER;
    default:
        return IMAGE | IMAGE_UNKNOWN;
    }
}

/* What only the first request of an upload says. */
static uint32_t begin_upload(wl_smp *smp, const exchange *x)
{
    wl_cbor_item item;

    smp->length = 0;
    if (has(x, "image", WL_CBOR_UINT, &item) && item.number != 0)
        return IMAGE | IMAGE_INVALID_SLOT;
    smp->has_sha = has(x, "sha", WL_CBOR_BYTES, &item);
    if (smp->has_sha && item.number != WL_SHA256_BYTES)
        return EINVAL;
    if (smp->has_sha)
        wl_copy(smp->sha, item.bytes, WL_SHA256_BYTES);
    if (!has(x, "len", WL_CBOR_UINT, &item) || item.number == 0)
        return IMAGE | IMAGE_INVALID_LENGTH;
    if (item.number > wl_slots_capacity(smp->slots))
        return IMAGE | IMAGE_TOO_LARGE;
    smp->length = item.number;
    return 0;
}

/* All of it is there: the checks that COMMIT makes, and the client's own hash before them. */
static uint32_t end_upload(wl_smp *smp, exchange *x)
{
    const uint8_t *blob = wl_slots_loaded(smp->slots, 0);
    const uint32_t length = smp->length;
    uint8_t digest[WL_SHA256_BYTES];
    uint32_t reason, detail, differs = 0;

    smp->length = 0;
    if (smp->has_sha) {
        wl_sha256(blob, length, digest);
        for (size_t i = 0; i < sizeof digest; i++)
            differs |= (uint32_t)digest[i] ^ smp->sha[i];
        put_bool(x, "match", differs == 0);
    }
    if (differs)
        return 0;
    return image_error(
        wl_slots_commit(smp->slots, length, wl_crc32(0, blob, length), &reason, &detail));
}

/* Whatever is not what comes next is answered with the offset that does. */
static uint32_t upload(wl_smp *smp, exchange *x)
{
    wl_slots *slots = smp->slots;
    wl_cbor_item off, data;
    uint32_t bad, size, detail;

    if (!has(x, "off", WL_CBOR_UINT, &off) || !has(x, "data", WL_CBOR_BYTES, &data))
        return EINVAL;
    if (off.number == 0 && (bad = begin_upload(smp, x)) != 0)
        return bad;
    if (off.number != 0 && (smp->length == 0 || off.number != slots->loaded)) {
        put_number(x, "off", smp->length == 0 ? 0 : slots->loaded);
        return 0;
    }
    size = data.number;
    if (size > smp->length - off.number)
        return IMAGE | IMAGE_OVERRUN;
    if (off.number + size < smp->length)
        size -= size % slots->flash->program_bytes;
    bad = image_error(wl_slots_load(slots, off.number, data.bytes, size, &detail));
    if (bad == 0 && off.number + size == smp->length)
        bad = end_upload(smp, x);
    put_number(x, "off", off.number + size);
    return bad;
}

static uint32_t carry_out(wl_smp *smp, exchange *x)
{
    const uint32_t is_write = x->operation == WRITE;

    if (x->size > 0 && !wl_cbor_is_map(x->map, x->size))
        return EINVAL;
    if (x->group == GROUP_OS && x->command == OS_ECHO && is_write)
        return echo(x);
    if (x->group == GROUP_OS && x->command == OS_RESET && is_write) {
        x->restart = 1;
        return 0;
    }
    if (x->group == GROUP_OS && x->command == OS_PARAMETERS && !is_write)
        return parameters(smp, x);
    if (x->group == GROUP_IMAGE && x->command == IMAGE_STATE && !is_write)
        return list(smp, x);
    if (x->group == GROUP_IMAGE && x->command == IMAGE_UPLOAD && is_write)
        return upload(smp, x);
    return ENOTSUP;
}

/* Instead of what was put: version 2 of the protocol says whose code it is. */
static void put_error(exchange *x, uint32_t code)
{
    x->out.size = x->pairs = 0;
    x->out.full = 0;
    if ((code & IMAGE) != 0 && x->version > 0) {
        key(x, "err");
        wl_cbor_put(&x->out, WL_CBOR_MAP, 2);
        put_number(x, "group", GROUP_IMAGE);
        put_number(x, "rc", code & ~IMAGE);
        x->pairs = 1;
    } else {
        put_number(x, "rc", (code & IMAGE) != 0 ? EINVAL : code);
    }
}

static void answer(wl_smp *smp, const uint8_t *request, size_t size)
{
    uint8_t *frame = smp->board->frames + frame_bytes(smp), *reply = frame + WL_SMP_FRONT;
    exchange x = {.operation = request[0] & 7u,
                  .version = request[0] >> 3 & 3u,
                  .group = (uint32_t)request[4] << 8 | request[5],
                  .command = request[7],
                  .map = request + HEADER_BYTES,
                  .size = size - HEADER_BYTES};
    uint32_t code;

    /* In front of the pairs, the map's own byte. */
    x.out.data = reply + HEADER_BYTES + 1;
    x.out.capacity = frame_bytes(smp) - WL_SMP_AROUND - HEADER_BYTES - 1u;
    code = carry_out(smp, &x);
    if (code == 0 && x.out.full)
        code = ENOMEM;
    if (code != 0)
        put_error(&x, code);
    reply[HEADER_BYTES] = (uint8_t)(WL_CBOR_MAP << 5 | x.pairs);
    wl_copy(reply, request, HEADER_BYTES);
    reply[0] = (uint8_t)(request[0] + 1u);
    reply[1] = 0;
    reply[2] = (uint8_t)((x.out.size + 1u) >> 8);
    reply[3] = (uint8_t)(x.out.size + 1u);
    wl_smp_line_send(frame, HEADER_BYTES + 1u + x.out.size, board_write);
    if (x.restart && code == 0)
        board_reset();
}

size_t wl_smp_take(wl_smp *smp, uint8_t byte)
{
    const uint8_t *request = smp->line.data + WL_SMP_FRONT;
    size_t size = wl_smp_line_push(&smp->line, byte);

    if (size >= HEADER_BYTES && ((uint32_t)request[2] << 8 | request[3]) == size - HEADER_BYTES &&
        ((request[0] & 7u) == READ || (request[0] & 7u) == WRITE))
        answer(smp, request, size);
    return wl_parser_push(&smp->parser, byte);
}
