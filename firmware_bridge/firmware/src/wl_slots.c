/* SPDX-License-Identifier: Apache-2.0 */
#include "wl_slots.h"

#include "wl_frame.h"
#include "wl_status.h"

#define SEAL_BYTES ((uint32_t)sizeof(wl_seal))
#define ERASED 0xffu

typedef char seal_is_exact[sizeof(wl_seal) == 32 ? 1 : -1];

static const wl_seal *seal_of(const wl_flash *flash, int slot)
{
    return (const wl_seal *)(const void *)(flash->base + (uint32_t)slot * flash->slot_bytes);
}

static uint32_t seal_crc(const wl_seal *seal)
{
    return wl_crc32(0, (const uint8_t *)seal, SEAL_BYTES - 4u);
}

/* Bytes of a slot behind its seal. */
static uint32_t room(const wl_flash *flash, int slot)
{
    uint32_t size = slot == 1 && flash->second_bytes > 0 ? flash->second_bytes : flash->slot_bytes;

    return size - SEAL_BYTES;
}

static int sealed(const wl_flash *flash, int slot)
{
    const wl_seal *seal = seal_of(flash, slot);

    return seal->magic == WL_SEAL_MAGIC && seal->crc == seal_crc(seal) &&
           seal->blob_bytes <= room(flash, slot);
}

static int usable(const wl_slots *slots, const wl_seal *seal, wl_blob *blob)
{
    const uint8_t *base = (const uint8_t *)(seal + 1);
    uint32_t record;

    return wl_crc32(0, base, seal->blob_bytes) == seal->blob_crc &&
           wl_blob_check(base, seal->blob_bytes, slots->arena_bytes, blob, &record) == WL_BLOB_OK;
}

void wl_slots_open(wl_slots *slots, const wl_flash *flash, uint32_t arena_bytes)
{
    slots->flash = flash;
    slots->arena_bytes = arena_bytes;
    slots->active = -1;
    slots->loading = 0;
    slots->sequence = slots->loaded = 0;
    for (int slot = 0; slot < (int)WL_SLOTS; slot++) {
        const wl_seal *seal = seal_of(flash, slot);
        wl_blob blob;
        if (!sealed(flash, slot))
            continue;
        /* A blob that this firmware refuses still counts: the next must be newer than it. */
        if (seal->sequence > slots->sequence)
            slots->sequence = seal->sequence;
        if ((slots->active < 0 || seal->sequence > wl_slots_seal(slots)->sequence) &&
            usable(slots, seal, &blob)) {
            slots->active = slot;
            slots->blob = blob;
        }
    }
}

/* The slot that is not active. */
static int inactive(const wl_slots *slots)
{
    return slots->active == 0;
}

uint32_t wl_slots_capacity(const wl_slots *slots)
{
    return room(slots->flash, inactive(slots));
}

const wl_seal *wl_slots_seal(const wl_slots *slots)
{
    return seal_of(slots->flash, slots->active);
}

/* Offset of the slot that is not active. */
static uint32_t other(const wl_slots *slots)
{
    return inactive(slots) ? slots->flash->slot_bytes : 0;
}

const uint8_t *wl_slots_loaded(const wl_slots *slots, uint32_t offset)
{
    return slots->flash->base + other(slots) + SEAL_BYTES + offset;
}

/* Erase the page at `page` of the slot, if the bytes up to `end` are the first to reach into it. */
static int erase_up_to(const wl_slots *slots, uint32_t begin, uint32_t end)
{
    const wl_flash *flash = slots->flash;
    uint32_t page = begin + flash->page_bytes - 1u - (begin + flash->page_bytes - 1u) % flash->page_bytes;

    for (; page < end; page += flash->page_bytes)
        if (flash->erase(other(slots) + page) != 0)
            return WL_FLASH;
    return WL_OK;
}

/* Write `size` bytes at `at` in the slot, the last unit filled up with 0xff. */
static int program(const wl_slots *slots, uint32_t at, const uint8_t *data, uint32_t size)
{
    const wl_flash *flash = slots->flash;
    uint32_t rest = size % flash->program_bytes, whole = size - rest, to = other(slots) + at;
    uint8_t last[WL_PROGRAM_MAX];

    if (whole > 0 && flash->program(to, data, whole) != 0)
        return WL_FLASH;
    if (rest == 0)
        return WL_OK;
    for (uint32_t i = 0; i < flash->program_bytes; i++)
        last[i] = i < rest ? data[whole + i] : ERASED;
    return flash->program(to + whole, last, flash->program_bytes) == 0 ? WL_OK : WL_FLASH;
}

int wl_slots_load(wl_slots *slots, uint32_t offset, const uint8_t *data, uint32_t size,
                  uint32_t *detail)
{
    uint32_t begin = offset == 0 ? 0 : SEAL_BYTES + offset, end = SEAL_BYTES + offset + size;
    int status;

    *detail = wl_slots_capacity(slots);
    if (offset > *detail || size > *detail - offset)
        return WL_NO_ROOM;
    *detail = slots->loading ? slots->loaded : 0;
    if (offset != 0 && offset != *detail)
        return WL_ORDER;
    /* A chunk that filled its last unit up ends the blob. */
    if (offset % slots->flash->program_bytes != 0)
        return WL_ARGUMENT;
    *detail = offset;
    slots->loading = 0;
    status = erase_up_to(slots, begin, end);
    if (status == WL_OK)
        status = program(slots, SEAL_BYTES + offset, data, size);
    if (status == WL_OK) {
        slots->loading = 1;
        slots->loaded = offset + size;
    }
    return status;
}

static int seal_now(wl_slots *slots, uint32_t blob_bytes, uint32_t crc)
{
    wl_seal seal = {WL_SEAL_MAGIC, slots->sequence + 1u, blob_bytes, crc, {0, 0, 0}, 0};
    const uint8_t *at = slots->flash->base + other(slots);

    for (uint32_t i = 0; i < SEAL_BYTES; i++)
        if (at[i] != ERASED)
            return WL_FLASH;
    seal.crc = seal_crc(&seal);
    if (slots->flash->program(other(slots), (const uint8_t *)&seal, SEAL_BYTES) != 0)
        return WL_FLASH;
    return sealed(slots->flash, inactive(slots)) ? WL_OK : WL_FLASH;
}

int wl_slots_commit(wl_slots *slots, uint32_t blob_bytes, uint32_t crc, uint32_t *reason,
                    uint32_t *detail)
{
    const uint8_t *base = wl_slots_loaded(slots, 0);
    wl_blob blob;
    int found;

    *reason = 0;
    *detail = slots->loading ? slots->loaded : 0;
    if (!slots->loading || blob_bytes != slots->loaded)
        return WL_NOT_NOW;
    *detail = wl_crc32(0, base, blob_bytes);
    if (*detail != crc)
        return WL_CRC;
    found = wl_blob_check(base, blob_bytes, slots->arena_bytes, &blob, detail);
    if (found != WL_BLOB_OK) {
        *reason = (uint32_t)found;
        return found == WL_BLOB_CRC ? WL_CRC : WL_REFUSED;
    }
    slots->loading = 0;
    if (seal_now(slots, blob_bytes, crc) != WL_OK)
        return WL_FLASH;
    slots->active = inactive(slots);
    slots->sequence++;
    slots->blob = blob;
    return WL_OK;
}
