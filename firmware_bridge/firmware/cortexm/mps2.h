/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arm's MPS2/MPS3 FPGA images, as QEMU has them. A board.c defines BOARD_NAME, CLOCK_HZ, MPS2_UART
 * (base of a CMSDK APB UART; Arm DDI 0479C, 4.3), MPS2_RX_IRQ and, where there is one, MPS2_LED
 * (FPGAIO LED0, the marker), then includes this.
 */
#define ARENA_BYTES (8u << 20)
#define SLOT_BYTES (2u << 20)
#define SECOND_BYTES SLOT_BYTES
#define MAX_PAYLOAD 1024u
#define RING_BYTES 2048u

#include "ram_board.h"

#define UART_DATA REGISTER(MPS2_UART + 0x00)
#define UART_STATE REGISTER(MPS2_UART + 0x04)
#define UART_CTRL REGISTER(MPS2_UART + 0x08)
#define UART_CLEAR REGISTER(MPS2_UART + 0x0c)
#define UART_DIVIDER REGISTER(MPS2_UART + 0x10)
#define UART_TX_FULL 1u
#define UART_RX_FULL 2u
#define UART_RX_IRQ 2u
#define UART_ON 0xbu /* transmitter, receiver, receiver's interrupt */
#define UART_DIVIDER_MIN 16u

void board_interrupt(uint32_t number)
{
    if (number != MPS2_RX_IRQ)
        return;
    UART_CLEAR = UART_RX_IRQ;
    while (UART_STATE & UART_RX_FULL)
        cortexm_received((uint8_t)UART_DATA);
}

const wl_board *board_init(void)
{
#ifdef MPS2_LED
    board.features |= WL_FEATURE_MARKER;
#endif
    UART_DIVIDER = UART_DIVIDER_MIN;
    UART_CTRL = UART_ON;
    /* After a reset QEMU looks for bytes again only when one is taken. */
    (void)UART_DATA;
    (void)cortexm_start(&board, ring, RING_BYTES);
    cortexm_enable(MPS2_RX_IRQ);
    return &board;
}

void uart_put(uint8_t byte)
{
    uart_drain();
    UART_DATA = byte;
}

void uart_drain(void)
{
    while (UART_STATE & UART_TX_FULL) {
    }
}

void board_mark(int high)
{
#ifdef MPS2_LED
    REGISTER(MPS2_LED) = high != 0;
#else
    (void)high;
#endif
}
