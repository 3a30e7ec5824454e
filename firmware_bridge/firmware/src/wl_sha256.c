/* SPDX-License-Identifier: Apache-2.0 */
#include "wl_sha256.h"

#define BLOCK 64u
#define LENGTH_BYTES 8u

static const uint32_t constants[BLOCK] = {
    0x428a2f98u, 0x71374491u, 0xb5c0fbcfu, 0xe9b5dba5u, 0x3956c25bu, 0x59f111f1u, 0x923f82a4u,
    0xab1c5ed5u, 0xd807aa98u, 0x12835b01u, 0x243185beu, 0x550c7dc3u, 0x72be5d74u, 0x80deb1feu,
    0x9bdc06a7u, 0xc19bf174u, 0xe49b69c1u, 0xefbe4786u, 0x0fc19dc6u, 0x240ca1ccu, 0x2de92c6fu,
    0x4a7484aau, 0x5cb0a9dcu, 0x76f988dau, 0x983e5152u, 0xa831c66du, 0xb00327c8u, 0xbf597fc7u,
    0xc6e00bf3u, 0xd5a79147u, 0x06ca6351u, 0x14292967u, 0x27b70a85u, 0x2e1b2138u, 0x4d2c6dfcu,
    0x53380d13u, 0x650a7354u, 0x766a0abbu, 0x81c2c92eu, 0x92722c85u, 0xa2bfe8a1u, 0xa81a664bu,
    0xc24b8b70u, 0xc76c51a3u, 0xd192e819u, 0xd6990624u, 0xf40e3585u, 0x106aa070u, 0x19a4c116u,
    0x1e376c08u, 0x2748774cu, 0x34b0bcb5u, 0x391c0cb3u, 0x4ed8aa4au, 0x5b9cca4fu, 0x682e6ff3u,
    0x748f82eeu, 0x78a5636fu, 0x84c87814u, 0x8cc70208u, 0x90befffau, 0xa4506cebu, 0xbef9a3f7u,
    0xc67178f2u};

static uint32_t turned(uint32_t x, uint32_t by)
{
    return x >> by | x << (32u - by);
}

/* Byte i of the message with its padding: a 1 bit, zeros, the length in bits, big-endian. */
static uint32_t byte_at(const uint8_t *data, size_t size, size_t i, size_t padded)
{
    if (i < size)
        return data[i];
    if (i == size)
        return 0x80;
    return i < padded - LENGTH_BYTES
               ? 0
               : (uint32_t)((uint64_t)size * 8u >> 8u * (padded - 1u - i)) & 0xffu;
}

static void add_block(uint32_t state[8], uint32_t w[16])
{
    uint32_t s[8];

    for (size_t i = 0; i < 8; i++)
        s[i] = state[i];
    for (size_t t = 0; t < BLOCK; t++) {
        uint32_t *word = &w[t % 16u];
        if (t >= 16) {
            const uint32_t a = w[(t + 1u) % 16u], b = w[(t + 14u) % 16u];
            *word += (turned(a, 7) ^ turned(a, 18) ^ a >> 3) + w[(t + 9u) % 16u] +
                     (turned(b, 17) ^ turned(b, 19) ^ b >> 10);
        }
        const uint32_t first = s[7] + (turned(s[4], 6) ^ turned(s[4], 11) ^ turned(s[4], 25)) +
                               ((s[4] & s[5]) ^ (~s[4] & s[6])) + constants[t] + *word;
        const uint32_t second = (turned(s[0], 2) ^ turned(s[0], 13) ^ turned(s[0], 22)) +
                                ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        for (size_t i = 7; i > 0; i--)
            s[i] = s[i - 1];
        s[4] += first;
        s[0] = first + second;
    }
    for (size_t i = 0; i < 8; i++)
        state[i] += s[i];
}

void wl_sha256(const uint8_t *data, size_t size, uint8_t digest[WL_SHA256_BYTES])
{
    const size_t padded = (size + 1u + LENGTH_BYTES + BLOCK - 1u) / BLOCK * BLOCK;
    uint32_t state[8] = {0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au,
                         0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u};

    for (size_t at = 0; at < padded; at += BLOCK) {
        uint32_t w[16];
        for (size_t i = 0; i < BLOCK; i++)
            w[i / 4] = w[i / 4] << 8 | byte_at(data, size, at + i, padded);
        add_block(state, w);
    }
    for (size_t i = 0; i < WL_SHA256_BYTES; i++)
        digest[i] = (uint8_t)(state[i / 4] >> (24u - 8u * (i % 4)));
}
