/* SPDX-License-Identifier: Apache-2.0 */
/* Registers: ARMv7-M and ARMv8-M Architecture Reference Manuals, B3 (system control, SysTick, DWT). */
#include "cortexm.h"

#include "board.h"

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
#define INTERRUPTS 48 /* the highest of all boards is 38 */

extern uint32_t _stack_low[], _stack_top[], _data_load[], _data_begin[], _data_end[], _bss_begin[],
    _bss_end[];
int main(void);

static volatile uint32_t wraps;
static int cycles; /* DWT counts */

static void copy_words(uint32_t *to, const uint32_t *end, const uint32_t *from)
{
    while (to < end)
        *to++ = *from++;
}

__attribute__((noreturn, used)) static void start(void)
{
    volatile uint32_t *word;

    copy_words(_data_begin, _data_end, _data_load);
    for (word = _bss_begin; word < _bss_end; word++)
        *word = 0;
    /* 64 bytes are left for this function's own frame. */
    for (word = _stack_low; word < (volatile uint32_t *)__builtin_frame_address(0) - 16; word++)
        *word = PAINT;
    main();
    cortexm_reset();
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

/* A fault starts the device again: the host sees no reply, then a device without its state. */
__attribute__((noreturn)) static void fault(void)
{
    cortexm_reset();
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
             {reset_handler, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault,
              fault, fault, fault, tick},
             {[0 ... INTERRUPTS - 1] = interrupt}};

void cortexm_enable(uint32_t number)
{
    NVIC_ISER(number / 32u) = 1u << number % 32u;
}

uint32_t cortexm_cpuid(void)
{
    return SCB_CPUID;
}

uint32_t cortexm_features(void)
{
    uint32_t features = 0;

#ifdef __ARM_FP
    features |= WL_FEATURE_FPU;
#endif
#ifdef __ARM_FEATURE_DSP
    features |= WL_FEATURE_DSP;
#endif
#ifdef __ARM_FEATURE_MVE
    features |= WL_FEATURE_MVE;
#endif
    SCB_DEMCR |= TRACE_ON;
    DWT_CTRL |= CYCLES_ON;
    uint32_t before = DWT_CYCCNT;
    for (volatile int i = 0; i < 16; i++) {
    }
    /* Emulators read as zero, or do not count. */
    cycles = (DWT_CTRL & CYCLES_ON) != 0 && DWT_CYCCNT != before;
    return cycles ? features | WL_FEATURE_CYCLES : features;
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

void cortexm_wait(int (*ready)(void))
{
    __asm volatile("cpsid i" ::: "memory");
    if (!ready())
        __asm volatile("wfi"); /* a pending interrupt wakes it, masked or not */
    __asm volatile("cpsie i" ::: "memory");
}

uint32_t cortexm_stack_free(void)
{
    const volatile uint32_t *word = _stack_low;

    while (word < _stack_top && *word == PAINT)
        word++;
    return (uint32_t)((uintptr_t)word - (uintptr_t)_stack_low);
}

void cortexm_reset(void)
{
    __asm volatile("dsb" ::: "memory");
    SCB_AIRCR = RESET_KEY;
    for (;;) {
    }
}

int cortexm_ram_erase(uint8_t *base, uint32_t offset, uint32_t page_bytes)
{
    for (uint32_t i = 0; i < page_bytes; i++)
        base[offset + i] = 0xff;
    return 0;
}

int cortexm_ram_program(uint8_t *base, uint32_t offset, const uint8_t *data, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++)
        base[offset + i] &= data[i];
    return 0;
}
