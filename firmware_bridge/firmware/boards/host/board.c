/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Linux process as a board: its line is a pseudoterminal, its slots lie in a file.
 *
 *     waistline-host FLASH [arena BYTES] [slot BYTES] [page BYTES] [cut OPERATION:BYTES]
 *
 * Prints "ready PTY" and serves until it is killed. `cut` is a power failure: the process ends with
 * status 77 inside flash operation OPERATION (counted from 0) when BYTES bytes of it are done.
 */
#define _GNU_SOURCE
#include "board.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "wl_frame.h"

#define CUT_STATUS 77
#define MAX_PAYLOAD 1024u
#define TICK_HZ 1000000000u
#define LINE_VARIABLE "WAISTLINE_HOST_LINE"

static int line = -1;
static char **arguments;
static uint8_t *memory;
static uint32_t arena_bytes = 4u << 20, slot_bytes = 1u << 20, page_bytes = 4096;
static long cut_operation = -1, cut_bytes, operations;
static struct timespec started;

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...)
{
    va_list list;

    va_start(list, format);
    fputs("waistline-host: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
    exit(2);
}

static void *demand(void *block)
{
    if (block == NULL)
        fail("out of memory");
    return block;
}

/* How many of `size` bytes this operation may do; fewer: the power fails then. */
static uint32_t granted(uint32_t size)
{
    if (operations++ != cut_operation)
        return size;
    return cut_bytes < (long)size ? (uint32_t)cut_bytes : size;
}

static int done(void)
{
    if (operations - 1 == cut_operation)
        _exit(CUT_STATUS);
    return 0;
}

static int flash_erase(uint32_t offset)
{
    uint32_t size = granted(page_bytes);

    memset(memory + offset, 0xff, size);
    return done();
}

static int flash_program(uint32_t offset, const uint8_t *data, uint32_t size)
{
    uint32_t may = granted(size);

    for (uint32_t i = 0; i < may; i++)
        memory[offset + i] &= data[i]; /* programming only clears bits */
    return done();
}

static wl_flash flash = {.program_bytes = 4, .erase = flash_erase, .program = flash_program};

/* The slots' file, ours alone: the descriptor, and with it the lock, stays until the process ends. */
static int own_file(const char *path)
{
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (file < 0)
        fail("%s: %s", path, strerror(errno));
    if (flock(file, LOCK_EX | LOCK_NB) != 0)
        fail("%s: %s", path, errno == EWOULDBLOCK ? "in use by another board" : strerror(errno));
    return file;
}

static void open_flash(const char *path)
{
    off_t size = (off_t)slot_bytes * (off_t)WL_SLOTS;
    int file = own_file(path), error;
    struct stat status;

    if (fstat(file, &status) != 0)
        fail("%s: %s", path, strerror(errno));
    if (status.st_size != 0 && status.st_size != size)
        fail("%s: has %lld bytes, two slots are %lld", path, (long long)status.st_size,
             (long long)size);
    /* A write through the mapping that finds the disk full would be a SIGBUS. */
    error = posix_fallocate(file, 0, size);
    if (error != 0) {
        if (status.st_size == 0 && ftruncate(file, 0) != 0)
            fail("%s: %s", path, strerror(errno));
        fail("%s: %s", path, strerror(error));
    }
    memory = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED)
        fail("%s: %s", path, strerror(errno));
    if (status.st_size == 0)
        memset(memory, 0xff, (size_t)size);
    flash.base = memory;
    flash.slot_bytes = slot_bytes;
    flash.page_bytes = page_bytes;
}

static void open_line(void)
{
    const char *kept = getenv(LINE_VARIABLE);
    struct termios mode;
    int other;

    if (kept != NULL) { /* after a reset the line is still the same */
        line = atoi(kept);
        return;
    }
    line = posix_openpt(O_RDWR | O_NOCTTY);
    if (line < 0 || grantpt(line) != 0 || unlockpt(line) != 0)
        fail("no pseudoterminal: %s", strerror(errno));
    /* Kept open: without any reader of its own the line would hang up when the host closes it. */
    other = open(ptsname(line), O_RDWR | O_NOCTTY);
    if (other < 0 || tcgetattr(other, &mode) != 0)
        fail("no pseudoterminal: %s", strerror(errno));
    cfmakeraw(&mode);
    tcsetattr(other, TCSANOW, &mode);
    fcntl(line, F_SETFL, O_NONBLOCK);
    printf("ready %s\n", ptsname(line));
    fflush(stdout);
}

static void take_option(const char *name, const char *value)
{
    uint32_t number = (uint32_t)strtoul(value, NULL, 0);

    if (strcmp(name, "arena") == 0)
        arena_bytes = number;
    else if (strcmp(name, "slot") == 0)
        slot_bytes = number;
    else if (strcmp(name, "page") == 0)
        page_bytes = number;
    else if (strcmp(name, "cut") != 0 ||
             sscanf(value, "%ld:%ld", &cut_operation, &cut_bytes) != 2)
        fail("%s %s is no option", name, value);
}

/* The arguments, from the kernel: main is the firmware's own and takes none. */
static void read_arguments(void)
{
    static char text[4096];
    FILE *file = fopen("/proc/self/cmdline", "rb");
    size_t size = file ? fread(text, 1, sizeof text - 1, file) : 0, count = 0;

    if (file)
        fclose(file);
    arguments = demand(calloc(size + 1, sizeof *arguments));
    for (char *at = text; at < text + size; at += strlen(at) + 1)
        arguments[count++] = at;
    if (count < 2 || count % 2 != 0)
        fail("usage: waistline-host FLASH [arena BYTES] [slot BYTES] [page BYTES] "
             "[cut OPERATION:BYTES]");
    for (size_t i = 2; i < count; i += 2)
        take_option(arguments[i], arguments[i + 1]);
    if (page_bytes == 0 || page_bytes % 64 != 0 || slot_bytes < 128 || slot_bytes % page_bytes != 0)
        fail("slots are whole pages, pages a multiple of 64 bytes");
}

const wl_board *board_init(void)
{
    static wl_board board = {.name = "host",
                             .features = WL_FEATURE_KEEPS | WL_FEATURE_EMULATED,
                             .tick_hz = TICK_HZ,
                             .flash = &flash,
                             .max_payload = MAX_PAYLOAD};

    read_arguments();
    open_flash(arguments[1]);
    /* From the heap, each its own, so that a sanitizer sees their ends. */
    board.arena = demand(aligned_alloc(16, (arena_bytes + 15u) / 16u * 16u));
    board.arena_bytes = arena_bytes;
    board.frames = demand(malloc(2u * (MAX_PAYLOAD + WL_FRAME_OVERHEAD)));
    memset(board.arena, 0xa5, arena_bytes);
    open_line();
    return &board;
}

size_t board_read(uint8_t *data, size_t size)
{
    ssize_t got = read(line, data, size);

    return got > 0 ? (size_t)got : 0;
}

void board_wait(void)
{
    struct pollfd wait = {line, POLLIN, 0};

    poll(&wait, 1, -1);
}

void board_write(const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t sent = write(line, data, size);
        if (sent > 0) {
            data += sent;
            size -= (size_t)sent;
        } else if (sent < 0 && errno == EAGAIN) {
            struct pollfd wait = {line, POLLOUT, 0};
            /* Nobody reads: a UART would not wait either. */
            if (poll(&wait, 1, 2000) == 0)
                return;
        } else if (sent < 0 && errno != EINTR)
            return;
    }
}

void board_ticks_start(void)
{
    clock_gettime(CLOCK_MONOTONIC, &started);
}

uint32_t board_ticks(void)
{
    struct timespec now;
    int64_t ns;

    clock_gettime(CLOCK_MONOTONIC, &now);
    ns = (int64_t)(now.tv_sec - started.tv_sec) * TICK_HZ + (now.tv_nsec - started.tv_nsec);
    return ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;
}

void board_mark(int high)
{
    (void)high;
}

uint32_t board_stack_free(void)
{
    return UINT32_MAX;
}

void board_reset(void)
{
    char number[16];

    snprintf(number, sizeof number, "%d", line);
    setenv(LINE_VARIABLE, number, 1);
    execv("/proc/self/exe", arguments);
    fail("cannot start again: %s", strerror(errno));
}
