/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The head blob: ../../PROTOCOL.md section 5 as C. Little-endian hosts and devices only; every
 * struct is its own layout, without padding, so that a blob is read in place.
 *
 * wl_blob_check finds everything that could make a head read or write where it must not. After it
 * has returned 0, wl_head_run needs no further check.
 */
#ifndef WL_BLOB_H
#define WL_BLOB_H

#include <stddef.h>
#include <stdint.h>

#define WL_BLOB_MAGIC 0x31424c57u /* "WLB1" */
#define WL_BLOB_VERSION 2u
#define WL_BLOB_ALIGN 16u
#define WL_BLOB_COUNT_MAX 256u
#define WL_INPUTS_MAX 4u
#define WL_NO_TENSOR 0xffffu

enum wl_op {
    WL_OP_CONV = 1,
    WL_OP_DEPTHWISE = 2,
    WL_OP_FC = 3,
    WL_OP_MAXPOOL = 4,
    WL_OP_AVGPOOL = 5,
    WL_OP_ADD = 6,
    WL_OP_CONCAT = 7,
    WL_OP_PAD = 8,
    WL_OP_MEAN = 9,
    WL_OP_LOOKUP = 10
};

enum wl_coder { WL_CODER_NONE = 0, WL_CODER_CTX = 1 };

typedef struct {
    uint32_t magic;
    uint16_t version, kernels;
    uint32_t blob_bytes, crc, arena_bytes;
    uint16_t n_tensors, n_layers, n_inputs, n_waists, n_goldens, zero;
    uint32_t tensors, layers, waists, goldens;
    uint32_t output, output_bytes;
    uint8_t id[8];
} wl_blob_header;

typedef struct {
    uint32_t offset;
    uint16_t height, width, channels;
    int8_t zero_point;
    uint8_t zero;
} wl_blob_tensor;

typedef struct {
    uint8_t op, n_in;
    uint16_t out, in[WL_INPUTS_MAX];
    uint8_t kernel_h, kernel_w, stride_h, stride_w;
    uint8_t pad_top, pad_left, pad_front, none[3];
    int8_t act_min, act_max;
    uint32_t weights, weights_bytes;
    uint32_t params, params_bytes;
    uint32_t scratch, scratch_bytes;
    uint32_t zero[4];
} wl_blob_layer;

typedef struct {
    uint16_t tensor;
    uint8_t bits, coder;
    uint32_t table;
    uint32_t planes, rows, columns;
    uint8_t interleaved, zero[3];
    uint32_t scratch, scratch_bytes;
} wl_blob_waist;

typedef struct {
    uint32_t input, crc;
} wl_blob_golden;

typedef char wl_blob_layout_is_exact[(sizeof(wl_blob_header) == 64 && sizeof(wl_blob_tensor) == 12 &&
                                      sizeof(wl_blob_layer) == 64 && sizeof(wl_blob_waist) == 32 &&
                                      sizeof(wl_blob_golden) == 8)
                                         ? 1
                                         : -1];

/* Why a blob is refused; the numbers are those of PROTOCOL.md. */
enum wl_blob_reason {
    WL_BLOB_OK = 0,
    WL_BLOB_HEADER = 1,
    WL_BLOB_COUNTS = 2,
    WL_BLOB_TABLES = 3,
    WL_BLOB_ARENA = 4,
    WL_BLOB_TENSOR = 5,
    WL_BLOB_LAYER = 6,
    WL_BLOB_ORDER = 7,
    WL_BLOB_TWICE = 8,
    WL_BLOB_SHAPE = 9,
    WL_BLOB_CLAMP = 10,
    WL_BLOB_WEIGHTS = 11,
    WL_BLOB_SCRATCH = 12,
    WL_BLOB_OVERLAP = 13,
    WL_BLOB_WAIST = 14,
    WL_BLOB_CODES = 15,
    WL_BLOB_WAIST_SCRATCH = 16,
    WL_BLOB_OUTPUT = 17,
    WL_BLOB_GOLDEN = 18,
    WL_BLOB_CRC = 19 /* its own status in a reply */
};

/* A blob that was checked, and where its tables lie. */
typedef struct {
    const uint8_t *base;
    const wl_blob_header *header;
    const wl_blob_tensor *tensors;
    const wl_blob_layer *layers;
    const wl_blob_waist *waists;
    const wl_blob_golden *goldens;
    uint32_t input_bytes, raw_len;
} wl_blob;

/*
 * Check `size` bytes at `base` (divisible by WL_BLOB_ALIGN) for a device whose arena has
 * arena_bytes; fill *blob. Returns a wl_blob_reason; *record is the number of the tensor, layer,
 * waist or golden that was refused, or the CRC found.
 */
int wl_blob_check(const uint8_t *base, uint32_t size, uint32_t arena_bytes, wl_blob *blob,
                  uint32_t *record);

static inline uint32_t wl_tensor_bytes(const wl_blob_tensor *tensor)
{
    return (uint32_t)tensor->height * tensor->width * tensor->channels;
}

#endif
