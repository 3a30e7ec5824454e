/* SPDX-License-Identifier: Apache-2.0 */
/* Cortex-M55, secure state; Arm DAI 0547. Secure aliases of the peripherals. */
#define BOARD_NAME "qemu-mps2-an547"
#define CLOCK_HZ 32000000u
#define MPS2_UART 0x59303000u
#define MPS2_RX_IRQ 33u

#include "mps2.h"
