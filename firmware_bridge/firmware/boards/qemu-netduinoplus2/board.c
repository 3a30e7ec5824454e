/* SPDX-License-Identifier: Apache-2.0 */
/*
 * STM32F405 as QEMU has it: a real part's 1 MB and 128 kB (RM0090). QEMU maps 64 kB of RAM more,
 * which stays painted: what is not there on the part must not be written. Its flash cannot be
 * programmed, so that the slots are RAM. The clock set-up registers do nothing in QEMU.
 */
#include "board.h"
#include "cortexm.h"
#include "wl_frame.h"

#define USART1 0x40011000u
#define USART_SR REGISTER(USART1 + 0x00)
#define USART_DR REGISTER(USART1 + 0x04)
#define USART_CR1 REGISTER(USART1 + 0x0c)
#define USART_RXNE (1u << 5)
#define USART_TXE (1u << 7)
#define USART_TC (1u << 6)
#define USART_ON 0x202cu /* UE, RXNEIE, TE, RE */
#define USART1_IRQ 37u

#define CLOCK_HZ 168000000u
#define BEYOND 0x20020000u
#define BEYOND_WORDS 16384u
#define PAINT 0xc0de5a5au

#define MAX_PAYLOAD 512u
#define RING_BYTES 1024u
#define ARENA_BYTES (72u << 10)
#define SLOT_BYTES (20u << 10)
#define PAGE_BYTES 1024u

static uint8_t arena[ARENA_BYTES] BIG;
static uint8_t slots[WL_SLOTS * SLOT_BYTES] BIG;
static uint8_t frames[2u * (MAX_PAYLOAD + WL_FRAME_OVERHEAD)] BIG;
static uint8_t ring_bytes[RING_BYTES] BIG;
static cortexm_ring ring = {ring_bytes, RING_BYTES - 1u, 0, 0};

void board_interrupt(uint32_t number)
{
    if (number == USART1_IRQ)
        while (USART_SR & USART_RXNE)
            cortexm_ring_put(&ring, (uint8_t)USART_DR);
}

static int erase(uint32_t offset)
{
    return cortexm_ram_erase(slots, offset, PAGE_BYTES);
}

static int program(uint32_t offset, const uint8_t *data, uint32_t size)
{
    return cortexm_ram_program(slots, offset, data, size);
}

const wl_board *board_init(void)
{
    static const wl_flash flash = {slots, SLOT_BYTES, PAGE_BYTES, 4, erase, program};
    static wl_board board = {.name = "qemu-netduinoplus2",
                             .tick_hz = CLOCK_HZ,
                             .arena = arena,
                             .arena_bytes = ARENA_BYTES,
                             .flash = &flash,
                             .frames = frames,
                             .max_payload = MAX_PAYLOAD};

    for (uint32_t i = 0; i < BEYOND_WORDS; i++)
        REGISTER(BEYOND + 4u * i) = PAINT;
    board.cpuid = cortexm_cpuid();
    board.features = cortexm_features() | WL_FEATURE_EMULATED;
    USART_CR1 = USART_ON;
    /* After a reset QEMU looks for bytes again only when one is taken. */
    (void)USART_DR;
    cortexm_enable(USART1_IRQ);
    return &board;
}

static int arrived(void)
{
    return ring.head != ring.tail;
}

void board_wait(void)
{
    cortexm_wait(arrived);
}

size_t board_read(uint8_t *data, size_t size)
{
    return cortexm_ring_take(&ring, data, size);
}

void board_write(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        while ((USART_SR & USART_TXE) == 0) {
        }
        USART_DR = data[i];
    }
}

void board_mark(int high)
{
    (void)high;
}

/* 0 too if RAM was written that the part has not got. */
uint32_t board_stack_free(void)
{
    for (uint32_t i = 0; i < BEYOND_WORDS; i++)
        if (REGISTER(BEYOND + 4u * i) != PAINT)
            return 0;
    return cortexm_stack_free();
}

void board_reset(void)
{
    while ((USART_SR & USART_TC) == 0) {
    }
    cortexm_reset();
}
