/* SPDX-License-Identifier: Apache-2.0 */
/* As much of CBOR (RFC 8949) as SMP needs: maps of text keys, read where they lie; small maps written. */
#ifndef WL_CBOR_H
#define WL_CBOR_H

#include <stddef.h>
#include <stdint.h>

enum wl_cbor_type {
    WL_CBOR_UINT = 0,
    WL_CBOR_NEGATIVE = 1,
    WL_CBOR_BYTES = 2,
    WL_CBOR_TEXT = 3,
    WL_CBOR_ARRAY = 4,
    WL_CBOR_MAP = 5,
    WL_CBOR_TAG = 6,
    WL_CBOR_SIMPLE = 7
};

/*
 * `number`: the value, or bytes of a string (at `bytes`), or items of an array, pairs of a map;
 * UINT32_MAX for all that are larger.
 */
typedef struct {
    uint8_t type;
    uint32_t number;
    const uint8_t *bytes;
} wl_cbor_item;

/* 1 if the bytes are one map, whole, with text keys, nested 4 deep at most. */
int wl_cbor_is_map(const uint8_t *data, size_t size);

/* What a map that wl_cbor_is_map took has for `key`: 1 and *item, if it is of that type; else 0. */
int wl_cbor_find(const uint8_t *data, size_t size, const char *key, enum wl_cbor_type type,
                 wl_cbor_item *item);

/* Bytes written so far; what does not fit is left out, and `full` set. */
typedef struct {
    uint8_t *data;
    size_t capacity, size;
    int full;
} wl_cbor_out;

/* A type and its number: an unsigned integer, or the beginning of a map or array. */
void wl_cbor_put(wl_cbor_out *out, enum wl_cbor_type type, uint32_t number);
/* Of type WL_CBOR_BYTES or WL_CBOR_TEXT. */
void wl_cbor_put_string(wl_cbor_out *out, enum wl_cbor_type type, const uint8_t *data, size_t size);
void wl_cbor_put_text(wl_cbor_out *out, const char *text);
void wl_cbor_put_bool(wl_cbor_out *out, int value);

#endif
