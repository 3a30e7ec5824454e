/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two inner loops for Cortex-M with the DSP extension, in assembly: each needs all 14 registers
 * and the compiler spills what it should not. wl_nn_matrix.c and wl_nn_lane.c have the same
 * arithmetic in C; tests compare the two.
 */
#include "wl_nn_core.h"

#if WL_ASSEMBLY

#define TEXT(name)                                                                                \
    ".pushsection .text." name ",\"ax\",%progbits\n"                                              \
    ".syntax unified\n.thumb\n.balign 4\n.global " name "\n.hidden " name "\n.thumb_func\n"       \
    ".type " name ",%function\n" name ":\n"
#define END(name) ".size " name ", .-" name "\n.popsection\n"

/* Two products each of four pixels and two channels: sums r0-r3 and r4-r7. 52 bytes of code. */
#define STEP                                                                                      \
    "ldr.w lr, [r8], #4\n"                                                                        \
    "ldrd r10, r11, [r9], #8\n"                                                                   \
    "sxtb16 r12, lr\n"                                                                            \
    "sxtb16 lr, lr, ror #8\n"                                                                     \
    "smlad r0, r10, r12, r0\n"                                                                    \
    "smlad r4, r10, lr, r4\n"                                                                     \
    "smlad r1, r11, r12, r1\n"                                                                    \
    "smlad r5, r11, lr, r5\n"                                                                     \
    "ldrd r10, r11, [r9], #8\n"                                                                   \
    "smlad r2, r10, r12, r2\n"                                                                    \
    "smlad r6, r10, lr, r6\n"                                                                     \
    "smlad r3, r11, r12, r3\n"                                                                    \
    "smlad r7, r11, lr, r7\n"

/* factor r11, added lr, shift r12 of the record at `offset`; r9 and r10 are lost. */
#define CONSTANTS(offset)                                                                         \
    "ldr r9, [sp, #4]\n"                                                                          \
    "ldr r10, [sp, #20]\n"                                                                        \
    "ldrd r11, r12, [r9, #" offset "]\n"                                                          \
    "mvn r12, r12\n"                                                                              \
    "lsl lr, r10, r12\n"                                                                          \
    "lsl r11, r11, #1\n"

/* wl_shortly */
#define FINISH(sum)                                                                               \
    "add r9, lr, " sum ", asr #31\n"                                                              \
    "add r9, r9, " sum "\n"                                                                       \
    "smmlar " sum ", " sum ", r11, r9\n"                                                          \
    "asr " sum ", " sum ", r12\n"                                                                 \
    "ssat " sum ", #8, " sum ", asr #1\n"

/*
 * The frame holds wl_four_t: weights 0, requant 4, columns 8, first step 12, end of the columns 16,
 * 2 * zero + 1 20, out 24, bytes of a pixel 28, channels left 32. The number of steps need not be a
 * multiple of 8: a block is entered behind those that are too many.
 */
__asm__(TEXT("wl_four_m4")
        "push {r4-r11, lr}\n"
        "ldm r0, {r1-r9}\n"
        "adr.w r0, 2f\n"
        "add r4, r4, r0\n"
        "orr r4, r4, #1\n"
        "push {r1-r9}\n"
        "mov r8, r1\n"
        "1: ldr r10, [sp, #4]\n"
        "ldr r9, [sp, #8]\n"
        "ldr r0, [r10]\n"
        "ldr r4, [r10, #12]\n"
        "mov r1, r0\n mov r2, r0\n mov r3, r0\n"
        "mov r5, r4\n mov r6, r4\n mov r7, r4\n"
        "ldr pc, [sp, #12]\n"
        ".balign 4\n"
        "2:\n" STEP STEP STEP STEP STEP STEP STEP STEP
        "ldr r10, [sp, #16]\n"
        "cmp r9, r10\n"
        "bne.w 2b\n"
        CONSTANTS("4") FINISH("r0") FINISH("r1") FINISH("r2") FINISH("r3")
        CONSTANTS("16") FINISH("r4") FINISH("r5") FINISH("r6") FINISH("r7")
        "ldr r9, [sp, #24]\n"
        "ldrd r10, r11, [sp, #28]\n"
        "cmp r11, #1\n"
        "beq 3f\n"
        "add r12, r9, r10\n"
        "strb r0, [r9]\n strb r4, [r9, #1]\n"
        "strb r1, [r12]\n strb r5, [r12, #1]\n"
        "add r12, r12, r10\n"
        "strb r2, [r12]\n strb r6, [r12, #1]\n"
        "add r12, r12, r10\n"
        "strb r3, [r12]\n strb r7, [r12, #1]\n"
        "ldr r12, [sp, #4]\n"
        "add r9, r9, #2\n str r9, [sp, #24]\n"
        "add r12, r12, #24\n str r12, [sp, #4]\n"
        "subs r11, r11, #2\n str r11, [sp, #32]\n"
        "bne.w 1b\n"
        "b 4f\n"
        "3: strb r0, [r9]\n add r9, r9, r10\n strb r1, [r9]\n add r9, r9, r10\n"
        "strb r2, [r9]\n strb r3, [r9, r10]\n"
        "4: add sp, sp, #36\n"
        "pop {r4-r11, pc}\n"
        END("wl_four_m4"));

/* A row of the kernel: cells x y at `row`, weights `w` = w0 w1, `v` = w2 w1; sums r10, r11. */
#define ROW1(row, w, v)                                                                           \
    "ldrd r0, lr, [" row "], #4\n"                                                                \
    "smlad r10, r0, " w ", r10\n"                                                                 \
    "smlatb r11, r0, " w ", r11\n"                                                                \
    "smlabb r10, lr, " v ", r10\n"                                                                \
    "smladx r11, lr, " v ", r11\n"
#define ROW2(row, w, v)                                                                           \
    "ldrd r0, lr, [" row "], #8\n"                                                                \
    "smlad r10, r0, " w ", r10\n"                                                                 \
    "ldr r0, [" row "]\n"                                                                         \
    "smlabb r10, lr, " v ", r10\n"                                                                \
    "smlad r11, lr, " w ", r11\n"                                                                 \
    "smlabb r11, r0, " v ", r11\n"
#define ROW_LAST(row, w, v)                                                                       \
    "ldrd r0, lr, [" row "]\n"                                                                    \
    "smlad r10, r0, " w ", r10\n"                                                                 \
    "smlabb r10, lr, " v ", r10\n"

/*
 * One channel of one row of outputs. The frame holds the constants of wl_lane_t: bias 0 and 4,
 * added 8, factor 12, shift 16, bytes of a pixel 20, end of the first row of cells 24; odd 28.
 */
#define LANE(name, row_of)                                                                        \
    TEXT(name)                                                                                    \
    "push {r4-r11, lr}\n"                                                                         \
    "mov r12, r2\n"                                                                               \
    "ldm r0!, {r4-r9}\n"                                                                          \
    "ldrd r10, r11, [r1, #12]\n"                                                                  \
    "push {r4-r11}\n"                                                                             \
    "ldm r0, {r4-r9}\n"                                                                           \
    "ldm r1, {r1-r3}\n"                                                                           \
    "b 2f\n"                                                                                      \
    "1: ldrd r10, r11, [sp]\n"                                                                    \
    row_of("r1", "r4", "r5") row_of("r2", "r6", "r7") row_of("r3", "r8", "r9")                    \
    "ldrd r0, lr, [sp, #8]\n"                                                                     \
    "add r0, r0, r10, asr #31\n"                                                                  \
    "smmlar r10, r10, lr, r0\n"                                                                   \
    "ldr r0, [sp, #8]\n"                                                                          \
    "add r0, r0, r11, asr #31\n"                                                                  \
    "smmlar r11, r11, lr, r0\n"                                                                   \
    "ldrd r0, lr, [sp, #16]\n"                                                                    \
    "asr r10, r10, r0\n"                                                                          \
    "asr r11, r11, r0\n"                                                                          \
    "ssat r10, #8, r10, asr #1\n"                                                                 \
    "ssat r11, #8, r11, asr #1\n"                                                                 \
    "strb r10, [r12]\n"                                                                           \
    "strb r11, [r12, lr]\n"                                                                       \
    "add r12, r12, lr, lsl #1\n"                                                                  \
    "2: ldr r0, [sp, #24]\n"                                                                      \
    "cmp r1, r0\n"                                                                                \
    "bne 1b\n"                                                                                    \
    "ldr r0, [sp, #28]\n"                                                                         \
    "cbz r0, 3f\n"                                                                                \
    "ldr r10, [sp]\n"                                                                             \
    ROW_LAST("r1", "r4", "r5") ROW_LAST("r2", "r6", "r7") ROW_LAST("r3", "r8", "r9")              \
    "ldrd r0, lr, [sp, #8]\n"                                                                     \
    "add r0, r0, r10, asr #31\n"                                                                  \
    "smmlar r10, r10, lr, r0\n"                                                                   \
    "ldr r0, [sp, #16]\n"                                                                         \
    "asr r10, r10, r0\n"                                                                          \
    "ssat r10, #8, r10, asr #1\n"                                                                 \
    "strb r10, [r12]\n"                                                                           \
    "3: add sp, sp, #32\n"                                                                        \
    "pop {r4-r11, pc}\n" END(name)

__asm__(LANE("wl_lane1", ROW1));
__asm__(LANE("wl_lane2", ROW2));

#endif
