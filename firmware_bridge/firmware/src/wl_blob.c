/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checks of PROTOCOL.md section 5, in its order. Sizes are compared as uint64_t where a sum or
 * product of hostile numbers could wrap.
 */
#include "wl_blob.h"

#include "waist.h"
#include "wl_frame.h"
#include "wl_layer.h"
#include "wl_nn.h"

#define NEVER (-2) /* nothing writes it */
#define INPUT (-1) /* there from the start */

typedef struct {
    uint32_t at, size;
} range;

static int inside(uint32_t at, uint32_t size, uint32_t limit)
{
    return at <= limit && size <= limit - at;
}

static int overlap(range a, range b)
{
    /* An empty range lies nowhere. */
    return a.size > 0 && b.size > 0 && a.at < b.at + b.size && b.at < a.at + a.size;
}

static range tensor_range(const wl_blob_tensor *tensor)
{
    return (range){tensor->offset, wl_tensor_bytes(tensor)};
}

static int all_zero(const uint32_t *words, uint32_t count)
{
    uint32_t any = 0;

    for (uint32_t i = 0; i < count; i++)
        any |= words[i];
    return any == 0;
}

/* Bytes at `at` lie behind the header; `at` is where the kernels and the structs want it. */
static int in_blob(const wl_blob *blob, uint32_t at, uint32_t size, uint32_t align)
{
    return at % align == 0 && at >= sizeof(wl_blob_header) &&
           inside(at, size, blob->header->blob_bytes);
}

static int check_header(wl_blob *blob, uint32_t size, uint32_t arena_bytes)
{
    const wl_blob_header *h = blob->header;

    if (h->magic != WL_BLOB_MAGIC || h->version != WL_BLOB_VERSION || h->kernels != WL_NN_VERSION)
        return WL_BLOB_HEADER;
    if (h->n_tensors < 1 || h->n_tensors > WL_BLOB_COUNT_MAX || h->n_layers > WL_BLOB_COUNT_MAX ||
        h->n_inputs < 1 || h->n_inputs > h->n_tensors || h->n_waists < 1 ||
        h->n_waists > WL_BLOB_COUNT_MAX || h->n_goldens > WL_BLOB_COUNT_MAX || h->zero != 0)
        return WL_BLOB_COUNTS;
    if (h->blob_bytes != size ||
        !in_blob(blob, h->tensors, h->n_tensors * (uint32_t)sizeof(wl_blob_tensor), 4) ||
        !in_blob(blob, h->layers, h->n_layers * (uint32_t)sizeof(wl_blob_layer), 4) ||
        !in_blob(blob, h->waists, h->n_waists * (uint32_t)sizeof(wl_blob_waist), 4) ||
        !in_blob(blob, h->goldens, h->n_goldens * (uint32_t)sizeof(wl_blob_golden), 4))
        return WL_BLOB_TABLES;
    return h->arena_bytes <= arena_bytes ? WL_BLOB_OK : WL_BLOB_ARENA;
}

static void find_tables(wl_blob *blob)
{
    const wl_blob_header *h = blob->header;

    blob->tensors = (const wl_blob_tensor *)(const void *)(blob->base + h->tensors);
    blob->layers = (const wl_blob_layer *)(const void *)(blob->base + h->layers);
    blob->waists = (const wl_blob_waist *)(const void *)(blob->base + h->waists);
    blob->goldens = (const wl_blob_golden *)(const void *)(blob->base + h->goldens);
}

static int check_tensors(wl_blob *blob, uint32_t *record)
{
    uint64_t inputs = 0;

    for (*record = 0; *record < blob->header->n_tensors; ++*record) {
        const wl_blob_tensor *t = &blob->tensors[*record];
        uint64_t size = (uint64_t)t->height * t->width * t->channels;
        if (size == 0 || t->zero != 0 || t->offset % 4 != 0 || size > blob->header->arena_bytes ||
            !inside(t->offset, (uint32_t)size, blob->header->arena_bytes))
            return WL_BLOB_TENSOR;
        if (*record < blob->header->n_inputs)
            inputs += size;
    }
    if (inputs > blob->header->arena_bytes)
        return WL_BLOB_TENSOR;
    blob->input_bytes = (uint32_t)inputs;
    return WL_BLOB_OK;
}

/* The layer that first writes tensor t, INPUT or NEVER. */
static int born(const wl_blob *blob, uint32_t t)
{
    if (t < blob->header->n_inputs)
        return INPUT;
    for (int i = 0; i < (int)blob->header->n_layers; i++)
        if (blob->layers[i].out == t)
            return i;
    return NEVER;
}

/* The last layer that reads tensor t; behind all layers for a waist tensor, NEVER for none. */
static int dies(const wl_blob *blob, uint32_t t)
{
    int last = NEVER;

    for (uint32_t i = 0; i < blob->header->n_waists; i++)
        if (blob->waists[i].tensor == t)
            return (int)blob->header->n_layers;
    for (int i = 0; i < (int)blob->header->n_layers; i++)
        for (uint32_t k = 0; k < blob->layers[i].n_in; k++)
            if (blob->layers[i].in[k] == t)
                last = i;
    return last;
}

static int check_record(const wl_blob *blob, const wl_blob_layer *layer)
{
    if (layer->op < WL_OP_CONV || layer->op > WL_OP_LOOKUP || layer->n_in < 1 ||
        layer->n_in > WL_INPUTS_MAX || layer->out >= blob->header->n_tensors ||
        (layer->none[0] | layer->none[1] | layer->none[2]) != 0 || !all_zero(layer->zero, 4))
        return WL_BLOB_LAYER;
    for (uint32_t k = 0; k < WL_INPUTS_MAX; k++)
        if (k < layer->n_in ? layer->in[k] >= blob->header->n_tensors
                            : layer->in[k] != WL_NO_TENSOR)
            return WL_BLOB_LAYER;
    return WL_BLOB_OK;
}

static int check_order(const wl_blob *blob, uint32_t index)
{
    const wl_blob_layer *layer = &blob->layers[index];

    for (uint32_t k = 0; k < layer->n_in; k++) {
        int from = born(blob, layer->in[k]);
        if (from == NEVER || from >= (int)index)
            return WL_BLOB_ORDER;
    }
    return born(blob, layer->out) == (int)index ? WL_BLOB_OK : WL_BLOB_TWICE;
}

static int data_in_blob(const wl_blob *blob, uint32_t at, uint32_t size)
{
    return size == 0 ? at == 0 : in_blob(blob, at, size, 8);
}

static int check_ranges(const wl_blob *blob, const wl_blob_layer *layer)
{
    if (layer->act_min > layer->act_max)
        return WL_BLOB_CLAMP;
    if (!data_in_blob(blob, layer->weights, layer->weights_bytes) ||
        !data_in_blob(blob, layer->params, layer->params_bytes))
        return WL_BLOB_WEIGHTS;
    if (layer->scratch % 8 != 0 ||
        !inside(layer->scratch, layer->scratch_bytes, blob->header->arena_bytes))
        return WL_BLOB_SCRATCH;
    return WL_BLOB_OK;
}

/* What layer `index` writes touches nothing that is read then or later. */
static int check_overlap(const wl_blob *blob, uint32_t index)
{
    const wl_blob_layer *layer = &blob->layers[index];
    range out = tensor_range(&blob->tensors[layer->out]);
    range scratch = {layer->scratch, layer->scratch_bytes};

    if (overlap(out, scratch))
        return WL_BLOB_OVERLAP;
    for (uint32_t t = 0; t < blob->header->n_tensors; t++) {
        range other = tensor_range(&blob->tensors[t]);
        if (!overlap(out, other) && !overlap(scratch, other))
            continue;
        int from = born(blob, t);
        if (from != NEVER && from < (int)index && dies(blob, t) >= (int)index)
            return WL_BLOB_OVERLAP;
    }
    return WL_BLOB_OK;
}

static int check_layers(const wl_blob *blob, uint32_t *record)
{
    int bad = WL_BLOB_OK;
    uint32_t count = blob->header->n_layers;

    /* born and dies read all records, so these come first. */
    for (*record = 0; *record < count; ++*record)
        if ((bad = check_record(blob, &blob->layers[*record])) != WL_BLOB_OK)
            return bad;
    for (*record = 0; *record < count; ++*record)
        if ((bad = check_order(blob, *record)) != WL_BLOB_OK ||
            (bad = check_ranges(blob, &blob->layers[*record])) != WL_BLOB_OK ||
            (bad = wl_layer_check(blob, &blob->layers[*record])) != WL_BLOB_OK ||
            (bad = check_overlap(blob, *record)) != WL_BLOB_OK)
            return bad;
    return bad;
}

/* Inputs that are read by the first layers, or by the waist, must not lie on each other. */
static int check_inputs(const wl_blob *blob, uint32_t *record)
{
    for (*record = 0; *record < blob->header->n_inputs; ++*record)
        for (uint32_t t = 0; t < *record; t++)
            if (overlap(tensor_range(&blob->tensors[t]), tensor_range(&blob->tensors[*record])))
                return WL_BLOB_OVERLAP;
    return WL_BLOB_OK;
}

static int check_codes(const wl_blob *blob, const wl_blob_waist *waist, uint32_t count)
{
    const uint8_t *table = blob->base + waist->table;

    if (waist->bits < 1 || waist->bits > 8 || waist->coder > WL_CODER_CTX ||
        waist->interleaved > 1 || waist->zero[0] != 0 || waist->zero[1] != 0 || waist->zero[2] != 0)
        return WL_BLOB_CODES;
    if (waist->planes == 0 || waist->planes > count || waist->rows == 0 ||
        waist->rows > count / waist->planes || waist->columns == 0 ||
        (uint64_t)waist->planes * waist->rows * waist->columns != count)
        return WL_BLOB_CODES;
    if (waist->table == 0)
        return waist->bits == 8 ? WL_BLOB_OK : WL_BLOB_CODES;
    if (!in_blob(blob, waist->table, 256, 1))
        return WL_BLOB_CODES;
    for (uint32_t i = 0; i < 256; i++)
        if (table[i] >> waist->bits != 0)
            return WL_BLOB_CODES;
    return WL_BLOB_OK;
}

/* What coding one waist tensor needs; PROTOCOL.md section 5, "Waist". */
static uint64_t waist_scratch(const wl_blob_waist *waist)
{
    if (waist->coder == WL_CODER_NONE)
        return 0;
    return 4u * (uint64_t)waist_ctx_nodes(waist->bits) + waist->columns;
}

static int check_waist_ranges(const wl_blob *blob, const wl_blob_waist *waist)
{
    const wl_blob_header *h = blob->header;
    range scratch = {waist->scratch, waist->scratch_bytes}, output = {h->output, h->output_bytes};

    if (waist->scratch % 4 != 0 || !inside(scratch.at, scratch.size, h->arena_bytes) ||
        scratch.size < waist_scratch(waist))
        return WL_BLOB_WAIST_SCRATCH;
    if (overlap(scratch, output))
        return WL_BLOB_OUTPUT;
    for (uint32_t i = 0; i < h->n_waists; i++) {
        range other = tensor_range(&blob->tensors[blob->waists[i].tensor]);
        if (overlap(scratch, other) || overlap(output, other))
            return WL_BLOB_OUTPUT;
    }
    return WL_BLOB_OK;
}

static int check_waists(wl_blob *blob, uint32_t *record)
{
    const wl_blob_header *h = blob->header;
    uint64_t total = 0, raw = 0;
    int bad;

    for (*record = 0; *record < h->n_waists; ++*record) {
        const wl_blob_waist *waist = &blob->waists[*record];
        if (waist->tensor >= h->n_tensors || born(blob, waist->tensor) == NEVER)
            return WL_BLOB_WAIST;
        uint32_t count = wl_tensor_bytes(&blob->tensors[waist->tensor]);
        if ((bad = check_codes(blob, waist, count)) != WL_BLOB_OK)
            return bad;
        raw += waist_packed_size(count, waist->bits);
        total += 4u + (uint64_t)waist_packed_size(count, waist->bits);
    }
    *record = 0;
    if (total != h->output_bytes || !inside(h->output, h->output_bytes, h->arena_bytes))
        return WL_BLOB_OUTPUT;
    blob->raw_len = (uint32_t)raw;
    for (; *record < h->n_waists; ++*record)
        if ((bad = check_waist_ranges(blob, &blob->waists[*record])) != WL_BLOB_OK)
            return bad;
    return WL_BLOB_OK;
}

static int check_goldens(const wl_blob *blob, uint32_t *record)
{
    for (*record = 0; *record < blob->header->n_goldens; ++*record)
        if (!in_blob(blob, blob->goldens[*record].input, blob->input_bytes, 1))
            return WL_BLOB_GOLDEN;
    return WL_BLOB_OK;
}

int wl_blob_check(const uint8_t *base, uint32_t size, uint32_t arena_bytes, wl_blob *blob,
                  uint32_t *record)
{
    int bad;

    *record = 0;
    if (size < sizeof(wl_blob_header))
        return WL_BLOB_HEADER;
    blob->base = base;
    blob->header = (const wl_blob_header *)(const void *)base;
    if ((bad = check_header(blob, size, arena_bytes)) != WL_BLOB_OK)
        return bad;
    *record = wl_crc32(0, base + 16, size - 16u);
    if (*record != blob->header->crc)
        return WL_BLOB_CRC;
    find_tables(blob);
    if ((bad = check_tensors(blob, record)) != WL_BLOB_OK ||
        (bad = check_inputs(blob, record)) != WL_BLOB_OK ||
        (bad = check_layers(blob, record)) != WL_BLOB_OK ||
        (bad = check_waists(blob, record)) != WL_BLOB_OK)
        return bad;
    return check_goldens(blob, record);
}
