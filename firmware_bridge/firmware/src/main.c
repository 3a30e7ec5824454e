/* SPDX-License-Identifier: Apache-2.0 */
#include "board.h"
#include "wl_cmd.h"

int main(void)
{
    static wl_device device;
    static uint8_t bytes[128];

    wl_device_init(&device, board_init());
    for (;;) {
        size_t size = board_read(bytes, sizeof bytes);
        if (size > 0)
            wl_device_take(&device, bytes, size);
        else
            board_wait();
    }
}
