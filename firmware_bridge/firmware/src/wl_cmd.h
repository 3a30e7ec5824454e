/* SPDX-License-Identifier: Apache-2.0 */
/* A device: PROTOCOL.md sections 2 and 3. Bytes of a board in, replies out. */
#ifndef WL_CMD_H
#define WL_CMD_H

#include "board.h"
#include "wl_frame.h"
#include "wl_head.h"
#include "wl_slots.h"

#define WL_PROTOCOL 1u

enum wl_command {
    WL_PING = 1,
    WL_INFO = 2,
    WL_LOAD = 3,
    WL_COMMIT = 4,
    WL_INFER = 5,
    WL_READ = 6,
    WL_MARK = 7,
    WL_RESET = 8
};

enum wl_area { WL_AREA_BLOB = 0, WL_AREA_INPUT = 1, WL_AREA_OUTPUT = 2, WL_AREA_TICKS = 3, WL_AREA_ARENA = 4 };

/* Kinds of RESET. */
enum wl_after { WL_GO_ON, WL_RESTART, WL_UPDATE };

typedef struct {
    const wl_board *board;
    wl_parser parser;
    wl_slots slots;
    wl_head head;
    uint8_t *reply;       /* header, payload, CRC: kept until the next request */
    uint32_t reply_bytes; /* 0: none yet */
    uint32_t request_crc; /* of the request it answers */
    enum wl_after after;  /* what is done once the reply has left */
    int updating;         /* the line is the update mode's */
} wl_device;

/* A request and where its reply goes: `out` takes board->max_payload bytes. */
typedef struct {
    const uint8_t *in;
    uint32_t size;
    uint8_t *out;
    uint32_t out_size;
    uint32_t reason, detail; /* of an error */
} wl_exchange;

/* The payload of the reply to `command`; returns a wl_status. */
int wl_carry_out(wl_device *device, uint8_t command, wl_exchange *x);

/* Use the head of the active slot. */
void wl_take_active(wl_device *device);

void wl_device_init(wl_device *device, const wl_board *board);

/* Take bytes of the line; answers through board_write. */
void wl_device_take(wl_device *device, const uint8_t *data, size_t size);

#endif
