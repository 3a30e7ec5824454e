/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What all Cortex-M boards share: start, ticks, sleep, the receiver's ring, slots in RAM.
 *
 * cortexm.c has all of board.h but board_init and board_mark. A board's own files add what is
 * declared here as its own.
 */
#ifndef CORTEXM_H
#define CORTEXM_H

#include "board.h"

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

/* In .big: large, and what it holds at start does not matter. */
#define BIG __attribute__((section(".big"), aligned(16)))

/* The board's own: device interrupt `number`. */
void board_interrupt(uint32_t number);

/* The board's own: send a byte once there is room; wait until all have left. */
void uart_put(uint8_t byte);
void uart_drain(void);

/*
 * Where in the ring the next byte will be put. cortexm.c has one that follows cortexm_received; a
 * board whose DMA fills the ring has its own.
 */
uint32_t cortexm_filled(void);

/* Of a receiver's interrupt: put a byte into the ring; one too many is lost, and its frame. */
void cortexm_received(uint8_t byte);

/* Add what the processor says to `board`; the ring is `ring_bytes` at `ring`. */
const wl_board *cortexm_start(wl_board *board, uint8_t *ring, uint32_t ring_bytes);

void cortexm_enable(uint32_t interrupt);

/* Of a wl_flash whose base is RAM: it behaves like flash, and forgets. */
int cortexm_ram_erase(uint32_t offset);
int cortexm_ram_program(uint32_t offset, const uint8_t *data, uint32_t size);

#endif
