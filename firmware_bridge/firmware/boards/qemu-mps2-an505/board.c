/* SPDX-License-Identifier: Apache-2.0 */
/* Cortex-M33, secure state; Arm DAI 0505. Secure aliases of the peripherals. */
#define BOARD_NAME "qemu-mps2-an505"
#define CLOCK_HZ 20000000u
#define MPS2_UART 0x50200000u
#define MPS2_RX_IRQ 32u

#include "mps2.h"
