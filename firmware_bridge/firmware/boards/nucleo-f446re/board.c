/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NUCLEO-F446RE: USART2 on the ST-LINK's virtual port (PA2, PA3), received by circular DMA, slots
 * in flash, marker PA5 (LD2, D13). Sections and registers: RM0390; nothing here was run on a board.
 */
#include "cortexm.h"
#include "wl_frame.h"

#define USART 0x40004400u /* USART2 */
#include "stm32_usart.h"

#define RCC 0x40023800u
#define RCC_CR REGISTER(RCC + 0x00)
#define RCC_PLLCFGR REGISTER(RCC + 0x04)
#define RCC_CFGR REGISTER(RCC + 0x08)
#define RCC_AHB1ENR REGISTER(RCC + 0x30)
#define RCC_APB1ENR REGISTER(RCC + 0x40)
#define FLASH_ACR REGISTER(0x40023c00u)
#define FLASH_KEYR REGISTER(0x40023c04u)
#define FLASH_SR REGISTER(0x40023c0cu)
#define FLASH_CR REGISTER(0x40023c10u)
#define GPIOA_MODER REGISTER(0x40020000u)
#define GPIOA_PUPDR REGISTER(0x4002000cu)
#define GPIOA_BSRR REGISTER(0x40020018u)
#define GPIOA_AFRL REGISTER(0x40020020u)
#define DMA1_HIFCR REGISTER(0x4002600cu)
#define DMA1_S5CR REGISTER(0x40026088u)
#define DMA1_S5NDTR REGISTER(0x4002608cu)
#define DMA1_S5PAR REGISTER(0x40026090u)
#define DMA1_S5M0AR REGISTER(0x40026094u)

/* 16 MHz / 8 * 168 / 2 = 168 MHz, the most without over-drive (6.3.2, 5.1.3); 5 wait states (3.4.1). */
#define CLOCK_HZ 168000000u
#define APB1_HZ 42000000u
#define PLL_SETUP 0x27002a08u /* R 2, Q 7, P 2, N 168, M 8, from HSI */
#define HSI_ON 1u
#define PLL_ON (1u << 24)
#define PLL_READY (1u << 25)
#define BUS_SETUP 0x00009400u /* APB2 / 2, APB1 / 4 */
#define SWITCH_PLL 2u
#define SWITCHED_PLL 8u
#define ACR_SETUP 0x00000705u /* both caches, prefetch, 5 wait states */
#define ACR_DATA_RESET (1u << 12)
#define ACR_DATA_ON (1u << 10)

#define ENABLE_GPIOA 1u
#define ENABLE_DMA1 (1u << 21)
#define ENABLE_USART2 (1u << 17)
#define USART_ON 0x201cu /* UE, IDLEIE, TE, RE */
#define USART_DMA_RX (1u << 6)
#define USART2_IRQ 38u
#define DMA1_S5_IRQ 16u
#define DMA_ON 0x08000519u /* channel 4, byte by byte, memory counts up, circular, half, full, EN */
#define DMA_S5_CLEAR (0x3du << 6)

#define FLASH_BUSY (1u << 16)
#define FLASH_ERRORS 0x1f2u
#define FLASH_KEY1 0x45670123u
#define FLASH_KEY2 0xcdef89abu
#define FLASH_WORDS (2u << 8)
#define FLASH_PROGRAM 1u
#define FLASH_ERASE 2u
#define FLASH_START (1u << 16)
#define FLASH_LOCK (1u << 31)

#ifndef WL_BAUD
#define WL_BAUD 921600u
#endif

#define MAX_PAYLOAD 512u
#define RING_BYTES 2048u
#define ARENA_BYTES (112u << 10)
#define SLOT_BYTES (128u << 10)
#define SLOTS_BASE 0x08040000u
#define SLOTS_SECTOR 6u

static uint8_t arena[ARENA_BYTES] BIG;
static uint8_t frames[2u * (MAX_PAYLOAD + WL_FRAME_OVERHEAD)] BIG;
static uint8_t ring[RING_BYTES] BIG;

static int flash_wait(void)
{
    while (FLASH_SR & FLASH_BUSY) {
    }
    uint32_t errors = FLASH_SR & FLASH_ERRORS;
    FLASH_SR = errors;
    return errors != 0;
}

static void flash_unlock(uint32_t control)
{
    if (FLASH_CR & FLASH_LOCK) {
        FLASH_KEYR = FLASH_KEY1;
        FLASH_KEYR = FLASH_KEY2;
    }
    (void)flash_wait();
    FLASH_CR = control;
}

/* The data cache does not see flash change (3.4.2). */
static int flash_done(int failed)
{
    FLASH_CR = FLASH_LOCK;
    FLASH_ACR &= ~ACR_DATA_ON;
    FLASH_ACR |= ACR_DATA_RESET;
    FLASH_ACR &= ~ACR_DATA_RESET;
    FLASH_ACR |= ACR_DATA_ON;
    return failed;
}

/* 3.6.3; one to two seconds in which no code runs from flash, while the DMA goes on receiving. */
static int erase(uint32_t offset)
{
    uint32_t setup = FLASH_WORDS | FLASH_ERASE | (SLOTS_SECTOR + offset / SLOT_BYTES) << 3;

    flash_unlock(setup);
    FLASH_CR = setup | FLASH_START;
    return flash_done(flash_wait());
}

/* 3.6.4, word by word. */
static int program(uint32_t offset, const uint8_t *data, uint32_t size)
{
    int failed = 0;

    flash_unlock(FLASH_WORDS | FLASH_PROGRAM);
    for (uint32_t i = 0; i < size && !failed; i += 4) {
        REGISTER(SLOTS_BASE + offset + i) = wl_get_u32(data + i);
        failed = flash_wait();
    }
    return flash_done(failed);
}

static void start_clock(void)
{
    FLASH_ACR = ACR_SETUP;
    while (FLASH_ACR != ACR_SETUP) { /* the wait states must be in force first */
    }
    RCC_PLLCFGR = PLL_SETUP;
    RCC_CR |= HSI_ON | PLL_ON;
    while ((RCC_CR & PLL_READY) == 0) {
    }
    RCC_CFGR = BUS_SETUP;
    RCC_CFGR = BUS_SETUP | SWITCH_PLL;
    while ((RCC_CFGR & 0xcu) != SWITCHED_PLL) {
    }
}

static void start_line(void)
{
    RCC_AHB1ENR |= ENABLE_GPIOA | ENABLE_DMA1;
    RCC_APB1ENR |= ENABLE_USART2;
    (void)RCC_APB1ENR; /* the clock takes two cycles to arrive */
    GPIOA_MODER = (GPIOA_MODER & ~0xcf0u) | 0x4a0u; /* PA2, PA3 alternate, PA5 output */
    GPIOA_PUPDR = (GPIOA_PUPDR & ~0xc0u) | 0x40u;   /* PA3 up: no noise where nothing is plugged */
    GPIOA_AFRL = (GPIOA_AFRL & ~0xff00u) | 0x7700u;
    USART_BRR = (APB1_HZ + WL_BAUD / 2u) / WL_BAUD;
    DMA1_HIFCR = DMA_S5_CLEAR;
    DMA1_S5PAR = USART + 0x04u;
    DMA1_S5M0AR = (uint32_t)(uintptr_t)ring;
    DMA1_S5NDTR = RING_BYTES;
    DMA1_S5CR = DMA_ON;
    USART_CR3 = USART_DMA_RX;
    USART_CR1 = USART_ON;
    cortexm_enable(USART2_IRQ);
    cortexm_enable(DMA1_S5_IRQ);
}

/* Both only wake the main loop, which asks the DMA how far it is. */
void board_interrupt(uint32_t number)
{
    if (number == DMA1_S5_IRQ)
        DMA1_HIFCR = DMA_S5_CLEAR;
    if (number == USART2_IRQ && (USART_SR & USART_IDLE) != 0)
        (void)USART_DR; /* reading SR, then DR, clears it; the DMA has already taken the byte */
}

const wl_board *board_init(void)
{
    static const wl_flash flash = {(const uint8_t *)SLOTS_BASE, SLOT_BYTES, SLOT_BYTES, 4,
                                   erase, program, SLOT_BYTES};
    static wl_board board = {.name = "nucleo-f446re",
                             .features = WL_FEATURE_KEEPS | WL_FEATURE_MARKER,
                             .tick_hz = CLOCK_HZ,
                             .arena = arena,
                             .arena_bytes = ARENA_BYTES,
                             .flash = &flash,
                             .frames = frames,
                             .max_payload = MAX_PAYLOAD};

    start_clock();
    (void)cortexm_start(&board, ring, RING_BYTES);
    start_line();
    return &board;
}

/* Where the DMA writes next: it counts down, and begins anew at the end of the ring. */
uint32_t cortexm_filled(void)
{
    return (RING_BYTES - DMA1_S5NDTR) % RING_BYTES;
}

void board_mark(int high)
{
    GPIOA_BSRR = high ? 1u << 5 : 1u << 21;
}
