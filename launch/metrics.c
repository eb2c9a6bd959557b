#include "launch/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/assert.h"
#include "core/fault.h"

enum { LINE_BYTES = 1024 + 384 * FZ_MAX_CLASSES };

typedef struct line {
    char text[LINE_BYTES];
    size_t n;
} line;

static void put(line *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(line *l, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(l->text + l->n, sizeof l->text - l->n, format, args);
    va_end(args);
    l->n += (size_t)n;
    FZ_ASSERT(n >= 0 && l->n < sizeof l->text);
}

/* JSON knows no nan and no infinity; loss_bits still tells them. */
static void put_number(line *l, const char *key, double value, int digits)
{
    if (isfinite(value))
        put(l, ",\"%s\":%.*g", key, digits, value);
    else
        put(l, ",\"%s\":null", key);
}

static void put_bits(line *l, const char *key, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put(l, ",\"%s\":\"%08" PRIx32 "\"", key, bits);
}

/* Class names come out of the data: whatever they hold, the line stays JSON. */
static void put_text(line *l, const char *text)
{
    put(l, "\"");
    for (; *text; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            put(l, "\\%c", c);
        else if (c < 0x20)
            put(l, "\\u%04x", c);
        else
            put(l, "%c", c);
    }
    put(l, "\"");
}

const char *fz_share_name(fz_share share)
{
    static const char *const names[FZ_N_SHARES] = {"data",      "compute",    "comm", "bubble",
                                                   "optimizer", "checkpoint", "other"};
    return names[share];
}

fz_status fz_metrics_open(const char *path, fz_metrics *metrics)
{
    *metrics = (fz_metrics){.fd = 0};
    snprintf(metrics->path, sizeof metrics->path, "%s", path);
    const int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    FZ_CHECK(fd >= 0, FZ_ERR_IO, "open %s: %s", path, strerror(errno));
    metrics->fd = fd;
    return FZ_OK;
}

void fz_metrics_close(fz_metrics *metrics)
{
    if (metrics->fd > 0) close(metrics->fd);
    metrics->fd = 0;
}

static fz_status write_line(fz_metrics *metrics, line *l)
{
    put(l, "}\n");
    FZ_CHECK(!fz_fault_now(FZ_FAULT_WRITE), FZ_ERR_IO, "write %s: %s", metrics->path,
             strerror(ENOSPC));
    const ssize_t wrote = write(metrics->fd, l->text, l->n);
    FZ_CHECK(wrote == (ssize_t)l->n, FZ_ERR_IO, "write %s: %s", metrics->path,
             wrote < 0 ? strerror(errno) : "the disk is full");
    return FZ_OK;
}

fz_status fz_metrics_write(fz_metrics *metrics, const fz_metrics_row *row)
{
    const fz_step_result *r = row->result;
    const double seconds = row->seconds;
    struct rusage usage;
    line l = {.n = 0};
    double sum = 0.0;
    for (int i = 0; i < FZ_N_SHARES; i++)
        sum += row->share_s[i];
    getrusage(RUSAGE_SELF, &usage);

    put(&l, "{\"step\":%" PRId64, r->step);
    put_number(&l, "loss", (double)r->loss, 9);
    put_bits(&l, "loss_bits", r->loss);
    put_number(&l, "grad_norm", (double)r->grad_norm, 9);
    put_bits(&l, "grad_norm_bits", r->grad_norm);
    put_number(&l, "lr", (double)r->lr, 9);
    put(&l, ",\"samples\":%" PRId64 ",\"tokens\":%" PRId64 ",\"labels\":%" PRId64, row->samples,
        r->n_tokens, r->n_labels);
    put_number(&l, "seconds", seconds, 6);
    put_number(&l, "images_per_s", (double)row->step_samples / seconds, 6);
    put_number(&l, "tokens_per_s", (double)r->n_tokens / seconds, 6);
    put_number(&l, "flops_per_s", r->flops / seconds, 6);
    put(&l, ",\"shares\":{");
    for (int i = 0; i < FZ_N_SHARES; i++)
        put(&l, "%s\"%s\":%.6f", i ? "," : "", fz_share_name((fz_share)i),
            sum > 0.0 ? row->share_s[i] / sum : 0.0);
    put(&l, "},\"replaced\":%" PRId64 ",\"peak_bytes\":%lld", row->n_replaced,
        (long long)usage.ru_maxrss * 1024);
    return write_line(metrics, &l);
}

fz_status fz_metrics_write_eval(fz_metrics *metrics, int64_t step, const fz_evaluation *evaluation)
{
    line l = {.n = 0};
    bool is_first = true;
    put(&l, "{\"step\":%" PRId64, step);
    put_number(&l, "eval_loss", evaluation->loss, 9);
    put(&l, ",\"eval_samples\":%" PRId64 ",\"eval\":{", evaluation->n_samples);
    for (int c = 0; c < evaluation->n_classes; c++) {
        const fz_class_loss *class = &evaluation->classes[c];
        if (class->n_samples == 0) continue;
        if (!is_first) put(&l, ",");
        put_text(&l, class->name);
        if (isfinite(class->loss))
            put(&l, ":%.9g", class->loss);
        else
            put(&l, ":null");
        is_first = false;
    }
    put(&l, "}");
    return write_line(metrics, &l);
}

fz_status fz_metrics_sync(fz_metrics *metrics)
{
    FZ_CHECK(fdatasync(metrics->fd) == 0, FZ_ERR_IO, "fsync %s: %s", metrics->path,
             strerror(errno));
    return FZ_OK;
}
