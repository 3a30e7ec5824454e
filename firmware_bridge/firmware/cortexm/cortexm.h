/* SPDX-License-Identifier: Apache-2.0 */
/* What all Cortex-M boards share: start, ticks, sleep, a ring for the receiver's interrupt. */
#ifndef CORTEXM_H
#define CORTEXM_H

#include <stddef.h>
#include <stdint.h>

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

/* In .big: large, and what it holds at start does not matter. */
#define BIG __attribute__((section(".big"), aligned(16)))

/* Called for device interrupt `number`; each board has one. */
void board_interrupt(uint32_t number);

void cortexm_enable(uint32_t interrupt);
uint32_t cortexm_cpuid(void);

/* Features of the processor, and WL_FEATURE_CYCLES if ticks are counted by DWT. */
uint32_t cortexm_features(void);

/* Sleep unless `ready`, checked with interrupts off so that none is missed. */
void cortexm_wait(int (*ready)(void));

uint32_t cortexm_stack_free(void);
__attribute__((noreturn)) void cortexm_reset(void);

/* Memory that behaves like flash, for boards whose code memory cannot be written. */
int cortexm_ram_erase(uint8_t *base, uint32_t offset, uint32_t page_bytes);
int cortexm_ram_program(uint8_t *base, uint32_t offset, const uint8_t *data, uint32_t size);

/* Filled by one interrupt, emptied by the main loop. */
typedef struct {
    uint8_t *bytes;
    uint32_t mask; /* size - 1, a power of two */
    volatile uint32_t head, tail;
} cortexm_ring;

static inline void cortexm_ring_put(cortexm_ring *ring, uint8_t byte)
{
    uint32_t head = ring->head;

    if (head - ring->tail <= ring->mask) {
        ring->bytes[head & ring->mask] = byte;
        ring->head = head + 1u;
    }
}

static inline size_t cortexm_ring_take(cortexm_ring *ring, uint8_t *data, size_t size)
{
    size_t count = 0;
    uint32_t tail = ring->tail;

    while (count < size && tail != ring->head)
        data[count++] = ring->bytes[tail++ & ring->mask];
    ring->tail = tail;
    return count;
}

#endif
