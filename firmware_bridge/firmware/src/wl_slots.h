/* SPDX-License-Identifier: Apache-2.0 */
/* Two blob slots with commit: PROTOCOL.md section 6. Old or new, never neither. */
#ifndef WL_SLOTS_H
#define WL_SLOTS_H

#include "wl_blob.h"

#define WL_SLOTS 2u
#define WL_SEAL_MAGIC 0x4c414557u
#define WL_PROGRAM_MAX 32u

/*
 * Memory that is read directly, erased to 0xff by pages and written in program_bytes, each once
 * after an erase. Slot 0 lies at base, slot 1 behind it, whole pages; base is divisible by
 * WL_BLOB_ALIGN. Offsets count from base. erase and program return 0, or not 0 where they failed.
 */
typedef struct {
    const uint8_t *base;
    uint32_t slot_bytes, page_bytes, program_bytes; /* program_bytes divides 32 */
    int (*erase)(uint32_t offset);
    int (*program)(uint32_t offset, const uint8_t *data, uint32_t size);
    uint32_t second_bytes; /* of slot 1, where it is smaller; 0: slot_bytes */
} wl_flash;

typedef struct {
    uint32_t magic, sequence, blob_bytes, blob_crc, zero[3], crc;
} wl_seal;

typedef struct {
    const wl_flash *flash;
    uint32_t arena_bytes;
    int active;        /* slot, or -1 */
    uint32_t sequence; /* highest seen */
    int loading;       /* the inactive slot is erased and takes bytes */
    uint32_t loaded;   /* bytes written to it */
    wl_blob blob;      /* of the active slot */
} wl_slots;

/* Find the active slot; reads only. */
void wl_slots_open(wl_slots *slots, const wl_flash *flash, uint32_t arena_bytes);

/* Largest blob that wl_slots_load takes now: in the slot that is not active. */
uint32_t wl_slots_capacity(const wl_slots *slots);

/*
 * The seal of the active slot; there must be one.
 */
const wl_seal *wl_slots_seal(const wl_slots *slots);

/* Write blob bytes at `offset`. Returns a status; *detail as PROTOCOL.md says. */
int wl_slots_load(wl_slots *slots, uint32_t offset, const uint8_t *data, uint32_t size,
                  uint32_t *detail);

/* What was just written there, as it is read back; after wl_slots_load returned 0. */
const uint8_t *wl_slots_loaded(const wl_slots *slots, uint32_t offset);

/* Check what was loaded, seal it and make it active. Returns a status. */
int wl_slots_commit(wl_slots *slots, uint32_t blob_bytes, uint32_t crc, uint32_t *reason,
                    uint32_t *detail);

#endif
