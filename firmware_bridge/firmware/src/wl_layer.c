/* SPDX-License-Identifier: Apache-2.0 */
#include "wl_layer.h"

#include "wl_nn.h"

typedef struct {
    const wl_blob_tensor *in, *second, *out;
    const int8_t *weights;
    const wl_requant_t *records;
} parts;

static parts parts_of(const wl_blob *blob, const wl_blob_layer *layer)
{
    return (parts){&blob->tensors[layer->in[0]],
                   layer->n_in > 1 ? &blob->tensors[layer->in[1]] : NULL,
                   &blob->tensors[layer->out],
                   (const int8_t *)(blob->base + layer->weights),
                   (const wl_requant_t *)(const void *)(blob->base + layer->params)};
}

static wl_conv2d_t conv_of(const wl_blob_layer *l, const parts *p)
{
    return (wl_conv2d_t){p->in->height,   p->in->width,      p->in->channels,   p->out->height,
                         p->out->width,   p->out->channels,  l->kernel_h,       l->kernel_w,
                         l->stride_h,     l->stride_w,       l->pad_top,        l->pad_left,
                         p->in->zero_point, p->out->zero_point, l->act_min,     l->act_max,
                         p->weights,      p->records};
}

static wl_depthwise_t depthwise_of(const wl_blob_layer *l, const parts *p)
{
    uint32_t multiplier = (uint32_t)p->out->channels / p->in->channels;

    return (wl_depthwise_t){p->in->height,
                            p->in->width,
                            p->in->channels,
                            p->out->height,
                            p->out->width,
                            (uint8_t)(multiplier <= 255u ? multiplier : 0u),
                            l->kernel_h,
                            l->kernel_w,
                            l->stride_h,
                            l->stride_w,
                            l->pad_top,
                            l->pad_left,
                            p->in->zero_point,
                            p->out->zero_point,
                            l->act_min,
                            l->act_max,
                            (const int16_t *)(const void *)p->weights,
                            p->records};
}

static wl_dense_t dense_of(const wl_blob_layer *l, const parts *p)
{
    uint32_t inputs = wl_tensor_bytes(p->in);

    return (wl_dense_t){(uint16_t)(inputs <= 65535u ? inputs : 0u),
                        p->out->channels,
                        p->out->zero_point,
                        l->act_min,
                        l->act_max,
                        p->weights,
                        p->records};
}

static wl_pool_t pool_of(const wl_blob_layer *l, const parts *p)
{
    return (wl_pool_t){p->in->height, p->in->width, p->in->channels, p->out->height,
                       p->out->width, l->kernel_h,  l->kernel_w,     l->stride_h,
                       l->stride_w,   l->pad_top,   l->pad_left,     l->act_min,
                       l->act_max};
}

static wl_mean_t mean_of(const wl_blob_layer *l, const parts *p)
{
    return (wl_mean_t){(uint32_t)p->in->height * p->in->width,
                       p->in->channels,
                       p->out->zero_point,
                       l->act_min,
                       l->act_max,
                       p->records};
}

static wl_add_t add_of(const wl_blob_layer *l, const parts *p)
{
    return (wl_add_t){wl_tensor_bytes(p->out), l->act_min, l->act_max, p->records};
}

static wl_pad_t pad_of(const wl_blob_layer *l, const parts *p)
{
    return (wl_pad_t){p->in->height,   p->in->width,     p->in->channels, p->out->height,
                      p->out->width,   p->out->channels, l->pad_top,      l->pad_left,
                      l->pad_front,    p->out->zero_point};
}

static int same_shape(const wl_blob_tensor *a, const wl_blob_tensor *b)
{
    return a->height == b->height && a->width == b->width && a->channels == b->channels;
}

static int full_clamp(const wl_blob_layer *layer)
{
    return layer->act_min == -128 && layer->act_max == 127;
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

static int check_conv(const wl_blob_layer *layer, const parts *p)
{
    wl_conv2d_t conv = conv_of(layer, p);

    return wl_conv2d_valid(&conv) ? fits(layer, p, wl_conv2d_weight_bytes(&conv),
                                         wl_conv2d_records(&conv), wl_conv2d_scratch_bytes(&conv))
                                  : WL_BLOB_SHAPE;
}

static int check_depthwise(const wl_blob_layer *layer, const parts *p)
{
    wl_depthwise_t dw = depthwise_of(layer, p);

    if (p->out->channels != (uint32_t)p->in->channels * dw.multiplier || !wl_depthwise_valid(&dw))
        return WL_BLOB_SHAPE;
    return fits(layer, p, wl_depthwise_weight_bytes(&dw), wl_depthwise_records(&dw),
                wl_depthwise_scratch_bytes(&dw));
}

static int check_dense(const wl_blob_layer *layer, const parts *p)
{
    wl_dense_t dense = dense_of(layer, p);

    if (p->out->height != 1 || p->out->width != 1 || !wl_dense_valid(&dense))
        return WL_BLOB_SHAPE;
    return fits(layer, p, wl_dense_weight_bytes(&dense), wl_dense_records(&dense),
                wl_dense_scratch_bytes(&dense));
}

static int check_pool(const wl_blob_layer *layer, const parts *p)
{
    wl_pool_t pool = pool_of(layer, p);

    if (p->out->channels != p->in->channels || !wl_pool_valid(&pool))
        return WL_BLOB_SHAPE;
    return fits(layer, p, 0, 0, 0);
}

static int check_add(const wl_blob_layer *layer, const parts *p)
{
    wl_add_t add = add_of(layer, p);

    if (!same_shape(p->in, p->out) || !same_shape(p->second, p->out))
        return WL_BLOB_SHAPE;
    int bad = fits(layer, p, 0, 3, 0);
    if (bad != WL_BLOB_OK)
        return bad;
    return wl_add_valid(&add) ? WL_BLOB_OK : WL_BLOB_WEIGHTS;
}

static wl_concat_t concat_of(const wl_blob *blob, const wl_blob_layer *layer, uint32_t k,
                             uint32_t at)
{
    const wl_blob_tensor *out = &blob->tensors[layer->out];

    return (wl_concat_t){(uint32_t)out->height * out->width,
                         blob->tensors[layer->in[k]].channels, out->channels, (uint16_t)at};
}

static int check_concat(const wl_blob *blob, const wl_blob_layer *layer, const parts *p)
{
    uint32_t at = 0;

    for (uint32_t k = 0; k < layer->n_in; k++) {
        const wl_blob_tensor *in = &blob->tensors[layer->in[k]];
        wl_concat_t concat = concat_of(blob, layer, k, at);
        at += in->channels;
        if (in->height != p->out->height || in->width != p->out->width ||
            at > p->out->channels || !wl_concat_valid(&concat))
            return WL_BLOB_SHAPE;
    }
    if (at != p->out->channels)
        return WL_BLOB_SHAPE;
    return full_clamp(layer) ? fits(layer, p, 0, 0, 0) : WL_BLOB_CLAMP;
}

static int check_pad(const wl_blob_layer *layer, const parts *p)
{
    wl_pad_t pad = pad_of(layer, p);

    if (!wl_pad_valid(&pad))
        return WL_BLOB_SHAPE;
    return full_clamp(layer) ? fits(layer, p, 0, 0, 0) : WL_BLOB_CLAMP;
}

static int check_mean(const wl_blob_layer *layer, const parts *p)
{
    wl_mean_t mean = mean_of(layer, p);

    if (p->out->height != 1 || p->out->width != 1 || p->out->channels != p->in->channels)
        return WL_BLOB_SHAPE;
    /* The bias may depend on what wl_mean_valid finds in its record, so that must be in the blob. */
    int bad = fits(layer, p, 0, 1, 0);
    if (bad != WL_BLOB_OK)
        return bad;
    return wl_mean_valid(&mean) ? WL_BLOB_OK : WL_BLOB_SHAPE;
}

static int check_lookup(const wl_blob_layer *layer, const parts *p)
{
    if (!same_shape(p->in, p->out))
        return WL_BLOB_SHAPE;
    return full_clamp(layer) ? fits(layer, p, 256, 0, 0) : WL_BLOB_CLAMP;
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
    parts p = parts_of(blob, layer);

    if (!unused_are_zero(layer) ||
        (layer->op == WL_OP_ADD ? layer->n_in != 2 : layer->op != WL_OP_CONCAT && layer->n_in != 1))
        return WL_BLOB_LAYER;
    switch (layer->op) {
    case WL_OP_CONV:
        return check_conv(layer, &p);
    case WL_OP_DEPTHWISE:
        return check_depthwise(layer, &p);
    case WL_OP_FC:
        return check_dense(layer, &p);
    case WL_OP_MAXPOOL:
    case WL_OP_AVGPOOL:
        return check_pool(layer, &p);
    case WL_OP_ADD:
        return check_add(layer, &p);
    case WL_OP_CONCAT:
        return check_concat(blob, layer, &p);
    case WL_OP_PAD:
        return check_pad(layer, &p);
    case WL_OP_MEAN:
        return check_mean(layer, &p);
    case WL_OP_LOOKUP:
        return check_lookup(layer, &p);
    default:
        return WL_BLOB_LAYER;
    }
}

static void run_concat(const wl_blob *blob, const wl_blob_layer *layer, const uint8_t *arena,
                       int8_t *out)
{
    uint32_t at = 0;

    for (uint32_t k = 0; k < layer->n_in; k++) {
        const wl_blob_tensor *in = &blob->tensors[layer->in[k]];
        wl_concat_t concat = concat_of(blob, layer, k, at);
        wl_concat(&concat, (const int8_t *)(arena + in->offset), out);
        at += in->channels;
    }
}

void wl_layer_run(const wl_blob *blob, const wl_blob_layer *layer, uint8_t *arena)
{
    parts p = parts_of(blob, layer);
    const int8_t *in = (const int8_t *)(arena + p.in->offset);
    int8_t *out = (int8_t *)(arena + p.out->offset);
    void *scratch = arena + layer->scratch;

    switch (layer->op) {
    case WL_OP_CONV: {
        wl_conv2d_t conv = conv_of(layer, &p);
        wl_conv2d(&conv, in, out, scratch);
        break;
    }
    case WL_OP_DEPTHWISE: {
        wl_depthwise_t depthwise = depthwise_of(layer, &p);
        wl_depthwise(&depthwise, in, out, scratch);
        break;
    }
    case WL_OP_FC: {
        wl_dense_t dense = dense_of(layer, &p);
        wl_dense(&dense, in, out, scratch);
        break;
    }
    case WL_OP_MAXPOOL: {
        wl_pool_t pool = pool_of(layer, &p);
        wl_max_pool(&pool, in, out);
        break;
    }
    case WL_OP_AVGPOOL: {
        wl_pool_t pool = pool_of(layer, &p);
        wl_average_pool(&pool, in, out);
        break;
    }
    case WL_OP_ADD: {
        wl_add_t add = add_of(layer, &p);
        wl_add(&add, in, (const int8_t *)(arena + p.second->offset), out);
        break;
    }
    case WL_OP_CONCAT:
        run_concat(blob, layer, arena, out);
        break;
    case WL_OP_PAD: {
        wl_pad_t pad = pad_of(layer, &p);
        wl_pad(&pad, in, out);
        break;
    }
    case WL_OP_MEAN: {
        wl_mean_t mean = mean_of(layer, &p);
        wl_mean(&mean, in, out);
        break;
    }
    default:
        wl_lookup(p.weights, wl_tensor_bytes(p.out), in, out);
    }
}
