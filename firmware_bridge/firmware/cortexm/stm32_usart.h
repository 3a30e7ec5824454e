/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A USART of an STM32F4: RM0090 section 30, RM0390 section 25. A board.c defines USART, its base,
 * then includes this.
 */
#define USART_SR REGISTER(USART + 0x00)
#define USART_DR REGISTER(USART + 0x04)
#define USART_BRR REGISTER(USART + 0x08)
#define USART_CR1 REGISTER(USART + 0x0c)
#define USART_CR3 REGISTER(USART + 0x14)
#define USART_IDLE (1u << 4)
#define USART_RXNE (1u << 5)
#define USART_TC (1u << 6)
#define USART_TXE (1u << 7)

void uart_put(uint8_t byte)
{
    while ((USART_SR & USART_TXE) == 0) {
    }
    USART_DR = byte;
}

void uart_drain(void)
{
    while ((USART_SR & USART_TC) == 0) {
    }
}
