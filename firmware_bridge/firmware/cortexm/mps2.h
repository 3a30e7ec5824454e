/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arm's MPS2/MPS3 FPGA images, as QEMU has them. A board.c defines MPS2_NAME, MPS2_CLOCK_HZ,
 * MPS2_UART (base of a CMSDK APB UART; Arm DDI 0479C, 4.3), MPS2_RX_IRQ and, where there is one,
 * MPS2_LED (FPGAIO LED0, the marker), then includes this.
 */
#include "board.h"
#include "cortexm.h"
#include "wl_frame.h"

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

#define MAX_PAYLOAD 1024u
#define RING_BYTES 2048u /* more than the longest frame on the line */
#define ARENA_BYTES (8u << 20)
#define SLOT_BYTES (2u << 20)
#define PAGE_BYTES 4096u

static uint8_t arena[ARENA_BYTES] BIG;
static uint8_t slots[WL_SLOTS * SLOT_BYTES] BIG;
static uint8_t frames[2u * (MAX_PAYLOAD + WL_FRAME_OVERHEAD)] BIG;
static uint8_t ring_bytes[RING_BYTES] BIG;
static cortexm_ring ring = {ring_bytes, RING_BYTES - 1u, 0, 0};

void board_interrupt(uint32_t number)
{
    if (number != MPS2_RX_IRQ)
        return;
    UART_CLEAR = UART_RX_IRQ;
    while (UART_STATE & UART_RX_FULL)
        cortexm_ring_put(&ring, (uint8_t)UART_DATA);
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
    static wl_board board = {.name = MPS2_NAME,
                             .tick_hz = MPS2_CLOCK_HZ,
                             .arena = arena,
                             .arena_bytes = ARENA_BYTES,
                             .flash = &flash,
                             .frames = frames,
                             .max_payload = MAX_PAYLOAD};

    board.cpuid = cortexm_cpuid();
    board.features = cortexm_features() | WL_FEATURE_EMULATED;
#ifdef MPS2_LED
    board.features |= WL_FEATURE_MARKER;
#endif
    UART_DIVIDER = UART_DIVIDER_MIN;
    UART_CTRL = UART_ON;
    /* After a reset QEMU looks for bytes again only when one is taken. */
    (void)UART_DATA;
    cortexm_enable(MPS2_RX_IRQ);
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
        while (UART_STATE & UART_TX_FULL) {
        }
        UART_DATA = data[i];
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

uint32_t board_stack_free(void)
{
    return cortexm_stack_free();
}

void board_reset(void)
{
    while (UART_STATE & UART_TX_FULL) {
    }
    cortexm_reset();
}
