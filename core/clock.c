#include "core/clock.h"

#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/assert.h"

enum { MOST_DEPTH = 64, MOST_NAMES = 128 };

typedef struct span {
    const char *name;
    fz_share share;
    double begun, own;
} span;

typedef struct row {
    const char *name;
    int64_t calls;
    double total, own, min, max;
} row;

/* Time is charged to the innermost open span up to now, so the shares always sum to the time
 * since the reset; with no span open it goes to FZ_SHARE_OTHER. */
static _Thread_local struct {
    span open[MOST_DEPTH];
    int depth;
    double charged; /* until when time has been charged */
    double share[FZ_N_SHARES];
    bool table_on;
    row table[MOST_NAMES];
    int n_names;
} spans;

static void (*tool_push)(const char *name);
static void (*tool_pop)(void);

double fz_clock_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double fz_clock_cpu_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double fz_clock_since_exec_s(void)
{
    /* Field 22 of /proc/self/stat, counted behind the name, which may hold blanks itself. */
    char text[1024];
    FILE *file = fopen("/proc/self/stat", "r");
    if (!file) return 0.0;
    const size_t n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[n] = '\0';

    const char *at = strrchr(text, ')');
    unsigned long long ticks = 0;
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    if (!at || sscanf(at, "%llu", &ticks) != 1) return 0.0;

    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec -
           (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

static double charge(void)
{
    const double now = fz_clock_s();
    const double gone = spans.charged > 0.0 ? now - spans.charged : 0.0;
    spans.charged = now;
    if (spans.depth == 0) {
        spans.share[FZ_SHARE_OTHER] += gone;
    } else {
        span *top = &spans.open[spans.depth - 1];
        spans.share[top->share] += gone;
        top->own += gone;
    }
    return now;
}

void fz_span_begin(const char *name, fz_share share)
{
    FZ_ASSERT(spans.depth < MOST_DEPTH);
    const double now = charge();
    spans.open[spans.depth++] = (span){.name = name, .share = share, .begun = now};
    if (tool_push) tool_push(name);
}

static row *row_of(const char *name)
{
    for (int i = 0; i < spans.n_names; i++)
        if (strcmp(spans.table[i].name, name) == 0) return &spans.table[i];
    /* More names than rows: the last row collects the rest. */
    if (spans.n_names == MOST_NAMES) return &spans.table[MOST_NAMES - 1];
    row *fresh = &spans.table[spans.n_names++];
    *fresh = (row){.name = name};
    return fresh;
}

void fz_span_end(void)
{
    FZ_ASSERT(spans.depth > 0);
    const double now = charge();
    const span *top = &spans.open[--spans.depth];
    if (spans.table_on) {
        row *r = row_of(top->name);
        const double total = now - top->begun;
        r->min = r->calls == 0 || total < r->min ? total : r->min;
        r->max = total > r->max ? total : r->max;
        r->calls++;
        r->total += total;
        r->own += top->own;
    }
    if (tool_pop) tool_pop();
}

void fz_span_shares(double seconds[FZ_N_SHARES])
{
    charge();
    memcpy(seconds, spans.share, sizeof spans.share);
}

void fz_span_reset_shares(void)
{
    charge();
    memset(spans.share, 0, sizeof spans.share);
}

void fz_span_table_enable(int on)
{
    if (on && !spans.table_on) spans.n_names = 0;
    spans.table_on = on != 0;
}

void fz_span_table_print(FILE *out)
{
    double all = 0.0;
    for (int i = 0; i < spans.n_names; i++)
        all += spans.table[i].own;
    fprintf(out, "%-32s %8s %11s %11s %7s %11s %11s\n", "span", "calls", "total ms", "own ms",
            "own %", "min ms", "max ms");
    for (int i = 0; i < spans.n_names; i++) {
        const row *r = &spans.table[i];
        fprintf(out, "%-32s %8lld %11.3f %11.3f %7.2f %11.3f %11.3f\n", r->name,
                (long long)r->calls, 1e3 * r->total, 1e3 * r->own,
                all > 0.0 ? 100.0 * r->own / all : 0.0, 1e3 * r->min, 1e3 * r->max);
    }
}

void fz_span_set_tool(void (*push)(const char *name), void (*pop)(void))
{
    tool_push = push;
    tool_pop = pop;
}
