/* Time and spans. Local.
 *
 * A span is a named interval of this thread. fz_span_begin/end add to a table of totals (for the
 * shares of a step and for --profile) and, where a tool is attached, open NVTX ranges through
 * fz_span_set_tool. Spans nest; a span's own time excludes its children.
 */
#ifndef FZ_CORE_CLOCK_H
#define FZ_CORE_CLOCK_H

#include <stdint.h>
#include <stdio.h>

double fz_clock_s(void);            /* monotonic seconds */
double fz_clock_cpu_s(void);        /* seconds that this thread had a processor */
double fz_clock_since_exec_s(void); /* seconds since this process was started (proc start time) */

typedef enum fz_share { /* what metrics.jsonl divides a step into; the shares sum to 1 */
                        FZ_SHARE_DATA,
                        FZ_SHARE_COMPUTE,
                        FZ_SHARE_COMM,   /* exposed communication: waiting in collectives */
                        FZ_SHARE_BUBBLE, /* waiting for a pipeline neighbour              */
                        FZ_SHARE_OPTIM,
                        FZ_SHARE_CKPT,
                        FZ_SHARE_OTHER,
                        FZ_N_SHARES
} fz_share;

void fz_span_begin(const char *name, fz_share share); /* name: a literal or long-lived string */
void fz_span_end(void);
/* Own seconds per share since the last reset, this thread. */
void fz_span_shares(double seconds[FZ_N_SHARES]);
void fz_span_reset_shares(void);
/* Per-name table (calls, total, own, min, max) while on; --profile A:B turns it on and off. */
void fz_span_table_enable(int on);
void fz_span_table_print(FILE *out);
/* Ranges for an attached tool (NVTX): push(name) and pop(); NULL for none. */
void fz_span_set_tool(void (*push)(const char *name), void (*pop)(void));

#endif
