/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 (FIPS 180-4) of bytes that lie in one piece: 0.3 kB of stack, no table but its constants. */
#ifndef WL_SHA256_H
#define WL_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define WL_SHA256_BYTES 32u

void wl_sha256(const uint8_t *data, size_t size, uint8_t digest[WL_SHA256_BYTES]);

#endif
