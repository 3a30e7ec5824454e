/* SPDX-License-Identifier: Apache-2.0 */
/* Where layer records meet the kernels of wl_nn.h: shapes, sizes, calls. */
#ifndef WL_LAYER_H
#define WL_LAYER_H

#include "wl_blob.h"

/*
 * Whether shapes follow from the operator, weights and parameters have the size and values that
 * its kernel needs, and the scratch suffices. Tables, tensors and the record's ranges are checked
 * already. Returns a wl_blob_reason.
 */
int wl_layer_check(const wl_blob *blob, const wl_blob_layer *layer);

/* Run it on a checked blob. */
void wl_layer_run(const wl_blob *blob, const wl_blob_layer *layer, uint8_t *arena);

#endif
