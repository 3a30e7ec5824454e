/* SPDX-License-Identifier: Apache-2.0 */
/* Statuses of replies: PROTOCOL.md section 2. */
#ifndef WL_STATUS_H
#define WL_STATUS_H

enum wl_status {
    WL_OK = 0,
    WL_UNKNOWN = 1,
    WL_LENGTH = 2,
    WL_ARGUMENT = 3,
    WL_NOT_NOW = 4,
    WL_ORDER = 5,
    WL_FLASH = 6,
    WL_REFUSED = 7,
    WL_CRC = 8,
    WL_NO_ROOM = 9
};

#endif
