"""The UART conversation with a microcontroller. The frames, the client and the boards live here."""
