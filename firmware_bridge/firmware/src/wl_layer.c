/* SPDX-License-Identifier: Apache-2.0 */
#include "wl_layer.h"

#include "wl_nn.h"

/* `second` is the last input; the last three are NULL while a layer is only checked. */
typedef struct {
    const wl_blob_tensor *in, *second, *out;
    const int8_t *weights;
    const wl_requant_t *records;
    const uint8_t *arena;
    const int8_t *from;
    int8_t *to;
} parts;

static int same_shape(const wl_blob_tensor *a, const wl_blob_tensor *b)
{
    return a->height == b->height && a->width == b->width && a->channels == b->channels;
}

static int flat(const wl_blob_tensor *tensor)
{
    return tensor->height == 1 && tensor->width == 1;
}

/* Sizes of what the layer points to, and whether the records are sound. */
static int fits(const wl_blob_layer *layer, const parts *p, size_t weights, size_t records,
                size_t scratch)
{
    if (layer->weights_bytes != weights ||
        layer->params_bytes != records * sizeof(wl_requant_t) ||
        (records > 0 && !wl_requant_valid(p->records, records)))
        return WL_BLOB_WEIGHTS;
    return layer->scratch_bytes >= scratch ? WL_BLOB_OK : WL_BLOB_SCRATCH;
}

/*
 * Each operator once, for checking it (arena NULL) and for running it: the parameters are the same,
 * and code is short on small parts. Running returns nothing of interest.
 */
static int do_conv(const wl_blob_layer *layer, const parts *p, void *scratch)
{
    wl_conv2d_t conv = {p->in->height,     p->in->width,       p->in->channels,  p->out->height,
                        p->out->width,     p->out->channels,   layer->kernel_h,  layer->kernel_w,
                        layer->stride_h,   layer->stride_w,    layer->pad_top,   layer->pad_left,
                        p->in->zero_point, p->out->zero_point, layer->act_min,   layer->act_max,
                        p->weights,        p->records};

    if (scratch != NULL) {
        wl_conv2d(&conv, p->from, p->to, scratch);
        return WL_BLOB_OK;
    }
    return wl_conv2d_valid(&conv) ? fits(layer, p, wl_conv2d_weight_bytes(&conv),
                                         wl_conv2d_records(&conv), wl_conv2d_scratch_bytes(&conv))
                                  : WL_BLOB_SHAPE;
}

static int do_depthwise(const wl_blob_layer *layer, const parts *p, void *scratch)
{
    uint32_t multiplier = (uint32_t)p->out->channels / p->in->channels;
    wl_depthwise_t depthwise = {p->in->height,
                                p->in->width,
                                p->in->channels,
                                p->out->height,
                                p->out->width,
                                (uint8_t)multiplier,
                                layer->kernel_h,
                                layer->kernel_w,
                                layer->stride_h,
                                layer->stride_w,
                                layer->pad_top,
                                layer->pad_left,
                                p->in->zero_point,
                                p->out->zero_point,
                                layer->act_min,
                                layer->act_max,
                                (const int16_t *)(const void *)p->weights,
                                p->records};

    if (scratch != NULL) {
        wl_depthwise(&depthwise, p->from, p->to, scratch);
        return WL_BLOB_OK;
    }
    if (multiplier > 255u || p->out->channels != p->in->channels * multiplier ||
        !wl_depthwise_valid(&depthwise))
        return WL_BLOB_SHAPE;
    return fits(layer, p, wl_depthwise_weight_bytes(&depthwise), wl_depthwise_records(&depthwise),
                wl_depthwise_scratch_bytes(&depthwise));
}

static int do_dense(const wl_blob_layer *layer, const parts *p, void *scratch)
{
    uint32_t inputs = wl_tensor_bytes(p->in);
    wl_dense_t dense = {(uint16_t)inputs, p->out->channels, p->out->zero_point, layer->act_min,
                        layer->act_max,   p->weights,       p->records};

    if (scratch != NULL) {
        wl_dense(&dense, p->from, p->to, scratch);
        return WL_BLOB_OK;
    }
    if (inputs > 65535u || !flat(p->out) || !wl_dense_valid(&dense))
        return WL_BLOB_SHAPE;
    return fits(layer, p, wl_dense_weight_bytes(&dense), wl_dense_records(&dense),
                wl_dense_scratch_bytes(&dense));
}

static int do_pool(const wl_blob_layer *layer, const parts *p, void *scratch)
{
    wl_pool_t pool = {p->in->height,    p->in->width,    p->in->channels,  p->out->height,
                      p->out->width,    layer->kernel_h, layer->kernel_w,  layer->stride_h,
                      layer->stride_w,  layer->pad_top,  layer->pad_left,  layer->act_min,
                      layer->act_max};

    if (scratch == NULL)
        return p->out->channels == p->in->channels && wl_pool_valid(&pool)
                   ? fits(layer, p, 0, 0, 0)
                   : WL_BLOB_SHAPE;
    if (layer->op == WL_OP_MAXPOOL)
        wl_max_pool(&pool, p->from, p->to);
    else
        wl_average_pool(&pool, p->from, p->to);
    return WL_BLOB_OK;
}

static int do_add(const wl_blob_layer *layer, const parts *p, void *scratch)
{
    wl_add_t add = {wl_tensor_bytes(p->out), layer->act_min, layer->act_max, p->records};

    if (scratch != NULL) {
        wl_add(&add, p->from, (const int8_t *)(p->arena + p->second->offset), p->to);
        return WL_BLOB_OK;
    }
    if (!same_shape(p->in, p->out) || !same_shape(p->second, p->out))
        return WL_BLOB_SHAPE;
    /* The records must be in the blob before wl_add_valid looks at them. */
    int bad = fits(layer, p, 0, 3, 0);
    return bad != WL_BLOB_OK || wl_add_valid(&add) ? bad : WL_BLOB_WEIGHTS;
}

static int do_concat(const wl_blob *blob, const wl_blob_layer *layer, const parts *p, void *scratch)
{
    uint32_t at = 0;

    for (uint32_t k = 0; k < layer->n_in; k++) {
        const wl_blob_tensor *in = &blob->tensors[layer->in[k]];
        wl_concat_t concat = {(uint32_t)in->height * in->width, in->channels, p->out->channels,
                              (uint16_t)at};
        at += in->channels;
        if (scratch != NULL)
            wl_concat(&concat, (const int8_t *)(p->arena + in->offset), p->to);
        else if (in->height != p->out->height || in->width != p->out->width ||
                 at > p->out->channels || !wl_concat_valid(&concat))
            return WL_BLOB_SHAPE;
    }
    return at == p->out->channels ? fits(layer, p, 0, 0, 0) : WL_BLOB_SHAPE;
}

static int do_pad(const wl_blob_layer *layer, const parts *p, void *scratch)
{
    wl_pad_t pad = {p->in->height,   p->in->width,   p->in->channels,  p->out->height,
                    p->out->width,   p->out->channels, layer->pad_top, layer->pad_left,
                    layer->pad_front, p->out->zero_point};

    if (scratch == NULL)
        return wl_pad_valid(&pad) ? fits(layer, p, 0, 0, 0) : WL_BLOB_SHAPE;
    wl_pad(&pad, p->from, p->to);
    return WL_BLOB_OK;
}

static int do_mean(const wl_blob_layer *layer, const parts *p, void *scratch)
{
    wl_mean_t mean = {(uint32_t)p->in->height * p->in->width,
                      p->in->channels,
                      p->out->zero_point,
                      layer->act_min,
                      layer->act_max,
                      p->records};

    if (scratch != NULL) {
        wl_mean(&mean, p->from, p->to);
        return WL_BLOB_OK;
    }
    if (!flat(p->out) || p->out->channels != p->in->channels)
        return WL_BLOB_SHAPE;
    /* As for add. */
    int bad = fits(layer, p, 0, 1, 0);
    return bad != WL_BLOB_OK || wl_mean_valid(&mean) ? bad : WL_BLOB_SHAPE;
}

static int do_lookup(const wl_blob_layer *layer, const parts *p, void *scratch)
{
    if (scratch == NULL)
        return same_shape(p->in, p->out) ? fits(layer, p, 256, 0, 0) : WL_BLOB_SHAPE;
    wl_lookup(p->weights, wl_tensor_bytes(p->out), p->from, p->to);
    return WL_BLOB_OK;
}

/* Check (arena NULL) or run. */
static int do_layer(const wl_blob *blob, const wl_blob_layer *layer, uint8_t *arena)
{
    const wl_blob_tensor *in = &blob->tensors[layer->in[0]], *out = &blob->tensors[layer->out];
    void *scratch = arena ? arena + layer->scratch : NULL;
    const parts p = {in,
                     &blob->tensors[layer->in[layer->n_in - 1]],
                     out,
                     (const int8_t *)(blob->base + layer->weights),
                     (const wl_requant_t *)(const void *)(blob->base + layer->params),
                     arena,
                     arena ? (const int8_t *)(arena + in->offset) : NULL,
                     arena ? (int8_t *)(arena + out->offset) : NULL};

    switch (layer->op) {
    case WL_OP_CONV:
        return do_conv(layer, &p, scratch);
    case WL_OP_DEPTHWISE:
        return do_depthwise(layer, &p, scratch);
    case WL_OP_FC:
        return do_dense(layer, &p, scratch);
    case WL_OP_MAXPOOL:
    case WL_OP_AVGPOOL:
        return do_pool(layer, &p, scratch);
    case WL_OP_ADD:
        return do_add(layer, &p, scratch);
    case WL_OP_CONCAT:
        return do_concat(blob, layer, &p, scratch);
    case WL_OP_PAD:
        return do_pad(layer, &p, scratch);
    case WL_OP_MEAN:
        return do_mean(layer, &p, scratch);
    default:
        return do_lookup(layer, &p, scratch);
    }
}

/* Fields that an operator does not use are zero: a later version may use them. */
static int unused_are_zero(const wl_blob_layer *l)
{
    int windowed = l->op <= WL_OP_DEPTHWISE || l->op == WL_OP_MAXPOOL || l->op == WL_OP_AVGPOOL;
    int window = l->kernel_h | l->kernel_w | l->stride_h | l->stride_w;

    return (windowed || window == 0) &&
           (windowed || l->op == WL_OP_PAD || (l->pad_top | l->pad_left) == 0) &&
           (l->op == WL_OP_PAD || l->pad_front == 0);
}

int wl_layer_check(const wl_blob *blob, const wl_blob_layer *layer)
{
    if (!unused_are_zero(layer) ||
        (layer->op == WL_OP_ADD ? layer->n_in != 2 : layer->op != WL_OP_CONCAT && layer->n_in != 1))
        return WL_BLOB_LAYER;
    if ((layer->op == WL_OP_CONCAT || layer->op == WL_OP_PAD || layer->op == WL_OP_LOOKUP) &&
        (layer->act_min != -128 || layer->act_max != 127))
        return WL_BLOB_CLAMP;
    return do_layer(blob, layer, NULL);
}

void wl_layer_run(const wl_blob *blob, const wl_blob_layer *layer, uint8_t *arena)
{
    (void)do_layer(blob, layer, arena);
}
