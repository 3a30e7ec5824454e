/* SPDX-License-Identifier: Apache-2.0 */
/* Registers: ARMv7-M and ARMv8-M Architecture Reference Manuals, B3 (system control, SysTick, DWT). */
#include "cortexm.h"

#define SYST_CSR REGISTER(0xe000e010)
#define SYST_RVR REGISTER(0xe000e014)
#define SYST_CVR REGISTER(0xe000e018)
#define NVIC_ISER(n) REGISTER(0xe000e100 + 4u * (n))
#define SCB_CPUID REGISTER(0xe000ed00)
#define SCB_AIRCR REGISTER(0xe000ed0c)
#define SCB_CPACR REGISTER(0xe000ed88)
#define DWT_CTRL REGISTER(0xe0001000)
#define DWT_CYCCNT REGISTER(0xe0001004)
#define SCB_DEMCR REGISTER(0xe000edfc)

#define SYST_MAX 0x00ffffffu
#define SYST_ON 7u /* enabled, with interrupt, of the processor's clock */
#define TRACE_ON (1u << 24)
#define CYCLES_ON 1u
#define RESET_KEY 0x05fa0004u
#define PAINT 0x5aa5c33cu
#define INTERRUPTS 39 /* the highest of all boards is 38 */

/* Of the linker scripts. `beyond`: memory that the emulator has and the part has not. */
extern uint32_t _stack_low[], _stack_top[], _data_load[], _data_begin[], _data_end[], _bss_begin[],
    _bss_end[], _beyond_begin[], _beyond_end[];
int main(void);

static volatile uint32_t wraps;
static int cycles; /* DWT counts */
static const wl_flash *flash;
/* Filled by an interrupt or a DMA, emptied by the main loop; full with one byte less. */
static struct {
    uint8_t *bytes;
    uint32_t size, tail;
    volatile uint32_t head;
} ring;

static void copy_words(uint32_t *to, const uint32_t *end, const uint32_t *from)
{
    while (to < end)
        *to++ = *from++;
}

static void paint(volatile uint32_t *word, const volatile uint32_t *end)
{
    while (word < end)
        *word++ = PAINT;
}

/* Words from `word` on that still are as painted. */
__attribute__((noinline)) static uint32_t painted(const volatile uint32_t *word,
                                                  const volatile uint32_t *end)
{
    uint32_t count = 0;

    while (word < end && *word++ == PAINT)
        count++;
    return count;
}

/* Also of a fault: the host sees no reply, then a device without its state. */
__attribute__((noreturn, noinline)) static void reset(void)
{
    __asm volatile("dsb" ::: "memory");
    SCB_AIRCR = RESET_KEY;
    for (;;) {
    }
}

__attribute__((noreturn, used)) static void start(void)
{
    volatile uint32_t *word;

    copy_words(_data_begin, _data_end, _data_load);
    for (word = _bss_begin; word < _bss_end; word++)
        *word = 0;
    /* 64 bytes are left for this function's own frame. */
    paint(_stack_low, (volatile uint32_t *)__builtin_frame_address(0) - 16);
    paint(_beyond_begin, _beyond_end);
    main();
    reset();
}

/* No compiled code may touch the FPU or MVE before CPACR allows it. */
__attribute__((naked, noreturn)) void reset_handler(void);
void reset_handler(void)
{
    __asm volatile("ldr r0, =0xe000ed88\n"
                   "ldr r1, [r0]\n"
                   "orr r1, r1, #0xf00000\n"
                   "str r1, [r0]\n"
                   "dsb\n"
                   "isb\n"
                   "b %c0\n"
                   ".ltorg\n" ::"i"(start));
}

static void tick(void)
{
    wraps++;
}

static void interrupt(void)
{
    uint32_t number;

    __asm volatile("mrs %0, ipsr" : "=r"(number));
    board_interrupt((number & 0x1ffu) - 16u);
}

typedef void (*handler)(void);

__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    handler system[15], device[INTERRUPTS];
} vectors = {_stack_top,
             {reset_handler, reset, reset, reset, reset, reset, reset, reset, reset, reset, reset,
              reset, reset, reset, tick},
             {[0 ... INTERRUPTS - 1] = interrupt}};

void cortexm_enable(uint32_t number)
{
    NVIC_ISER(number / 32u) = 1u << number % 32u;
}

/* Features of the processor; whether DWT counts. */
static uint32_t features(void)
{
    uint32_t found = 0;

#ifdef __ARM_FP
    found |= WL_FEATURE_FPU;
#endif
#ifdef __ARM_FEATURE_DSP
    found |= WL_FEATURE_DSP;
#endif
#ifdef __ARM_FEATURE_MVE
    found |= WL_FEATURE_MVE;
#endif
    SCB_DEMCR |= TRACE_ON;
    DWT_CTRL |= CYCLES_ON;
    uint32_t before = DWT_CYCCNT;
    for (volatile int i = 0; i < 16; i++) {
    }
    /* Emulators read as zero, or do not count. */
    cycles = (DWT_CTRL & CYCLES_ON) != 0 && DWT_CYCCNT != before;
    return cycles ? found | WL_FEATURE_CYCLES : found;
}

void board_ticks_start(void)
{
    if (cycles) {
        DWT_CYCCNT = 0;
        return;
    }
    SYST_CSR = 0;
    SYST_RVR = SYST_MAX;
    wraps = 0;
    SYST_CVR = 0;
    SYST_CSR = SYST_ON;
    while (SYST_CVR == 0) { /* until it is loaded */
    }
}

uint32_t board_ticks(void)
{
    uint32_t high, low;

    if (cycles)
        return DWT_CYCCNT;
    do {
        high = wraps;
        low = SYST_MAX - SYST_CVR;
    } while (high != wraps);
    return high < 255u ? high * (SYST_MAX + 1u) + low : UINT32_MAX;
}

const wl_board *cortexm_start(wl_board *board, uint8_t *ring_memory, uint32_t ring_bytes)
{
    board->cpuid = SCB_CPUID;
    board->features |= features();
    flash = board->flash;
    ring.bytes = ring_memory;
    ring.size = ring_bytes;
    return board;
}

static uint32_t after(uint32_t place)
{
    return place + 1u < ring.size ? place + 1u : 0;
}

void cortexm_received(uint8_t byte)
{
    uint32_t head = ring.head;

    if (after(head) == ring.tail)
        return;
    ring.bytes[head] = byte;
    ring.head = after(head);
}

__attribute__((weak)) uint32_t cortexm_filled(void)
{
    return ring.head;
}

size_t board_read(uint8_t *data, size_t size)
{
    size_t count = 0;
    uint32_t end = cortexm_filled();

    for (; count < size && ring.tail != end; ring.tail = after(ring.tail))
        data[count++] = *(volatile uint8_t *)&ring.bytes[ring.tail];
    return count;
}

/* Checked with interrupts off, so that none is missed. */
void board_wait(void)
{
    __asm volatile("cpsid i" ::: "memory");
    if (cortexm_filled() == ring.tail)
        __asm volatile("wfi"); /* a pending interrupt wakes it, masked or not */
    __asm volatile("cpsie i" ::: "memory");
}

void board_write(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        uart_put(data[i]);
}

/* 0 too if memory was written that the part has not got. */
uint32_t board_stack_free(void)
{
    if (_beyond_begin + painted(_beyond_begin, _beyond_end) != _beyond_end)
        return 0;
    return 4u * painted(_stack_low, _stack_top);
}

void board_reset(void)
{
    uart_drain();
    reset();
}

static uint8_t *slots(uint32_t offset)
{
    return (uint8_t *)(uintptr_t)flash->base + offset;
}

int cortexm_ram_erase(uint32_t offset)
{
    for (uint32_t i = 0; i < flash->page_bytes; i++)
        slots(offset)[i] = 0xff;
    return 0;
}

int cortexm_ram_program(uint32_t offset, const uint8_t *data, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++)
        slots(offset)[i] &= data[i];
    return 0;
}
