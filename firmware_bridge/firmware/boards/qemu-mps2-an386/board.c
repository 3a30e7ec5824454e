/* SPDX-License-Identifier: Apache-2.0 */
/* Cortex-M4F; Arm DAI 0386. */
#define BOARD_NAME "qemu-mps2-an386"
#define CLOCK_HZ 25000000u
#define MPS2_UART 0x40004000u
#define MPS2_RX_IRQ 0u
#define MPS2_LED 0x40028000u

#include "mps2.h"
