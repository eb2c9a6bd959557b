#include "core/fault.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    bool kills;
} SITES[FZ_N_FAULT_SITES] = {
    [FZ_FAULT_ALLOC] = {"alloc", false},   [FZ_FAULT_WRITE] = {"write", false},
    [FZ_FAULT_READ] = {"read", false},     [FZ_FAULT_KILL_STEP] = {"step", true},
    [FZ_FAULT_KILL_SAVE] = {"save", true},
};

static bool is_on;
static long long planned[FZ_N_FAULT_SITES]; /* 0: never */
static atomic_llong calls[FZ_N_FAULT_SITES];

/* "alloc:100" or "step:7:kill", of the given length. */
static fz_status parse_one(const char *spec, size_t length)
{
    for (int site = 0; site < FZ_N_FAULT_SITES; site++) {
        const size_t n = strlen(SITES[site].name);
        if (length <= n || strncmp(spec, SITES[site].name, n) != 0 || spec[n] != ':') continue;

        char *end;
        const long long when = strtoll(spec + n + 1, &end, 10);
        if (SITES[site].kills && strncmp(end, ":kill", 5) == 0) end += 5;
        if (when < 1 || end != spec + length) break;
        planned[site] = when;
        return FZ_OK;
    }
    return FZ_FAIL(FZ_ERR_USAGE,
                   "fault %.*s is not one of alloc:N, write:N, read:N, step:N:kill, save:N:kill",
                   (int)length, spec);
}

fz_status fz_fault_set(const char *spec)
{
    is_on = false;
    for (int site = 0; site < FZ_N_FAULT_SITES; site++) {
        planned[site] = 0;
        atomic_store(&calls[site], 0);
    }
    if (!spec) return FZ_OK;

    for (const char *at = spec;;) {
        const size_t length = strcspn(at, ",");
        FZ_TRY(parse_one(at, length));
        at += length;
        if (*at++ == '\0') break;
    }
    is_on = true;
    return FZ_OK;
}

bool fz_fault_now(fz_fault_site site)
{
    if (!is_on) return false;
    const bool now = atomic_fetch_add(&calls[site], 1) + 1 == planned[site];
    if (now && SITES[site].kills) raise(SIGKILL);
    return now;
}
