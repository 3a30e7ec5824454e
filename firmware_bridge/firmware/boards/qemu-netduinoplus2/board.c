/* SPDX-License-Identifier: Apache-2.0 */
/*
 * STM32F405 as QEMU has it: a real part's 1 MB and 128 kB (RM0090). Its flash cannot be programmed
 * in QEMU, so that the slots are RAM: the first takes a head as large as may be beside an arena,
 * the second a small one. The clock set-up registers do nothing in QEMU.
 */
#define BOARD_NAME "qemu-netduinoplus2"
#define CLOCK_HZ 168000000u
#define ARENA_BYTES (29u << 10)
#define SLOT_BYTES (82u << 10)
#define SECOND_BYTES (10u << 10)
#define MAX_PAYLOAD 512u
#define RING_BYTES 1024u

#include "ram_board.h"

#define USART 0x40011000u /* USART1 */
#include "stm32_usart.h"

#define USART_ON 0x202cu /* UE, RXNEIE, TE, RE */
#define USART1_IRQ 37u

void board_interrupt(uint32_t number)
{
    if (number == USART1_IRQ)
        while (USART_SR & USART_RXNE)
            cortexm_received((uint8_t)USART_DR);
}

const wl_board *board_init(void)
{
    USART_CR1 = USART_ON;
    /* After a reset QEMU looks for bytes again only when one is taken. */
    (void)USART_DR;
    (void)cortexm_start(&board, ring, RING_BYTES);
    cortexm_enable(USART1_IRQ);
    return &board;
}

void board_mark(int high)
{
    (void)high;
}
