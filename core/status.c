#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local fz_error last;

fz_status fz_fail(fz_status status, const char *file, int line, const char *func,
                  const char *format, ...)
{
    /* Formatted aside first: the arguments may point into the record that is replaced. */
    char text[sizeof last.text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);

    last.status = status;
    last.file = file;
    last.line = line;
    last.func = func;
    memcpy(last.text, text, sizeof text);
    return status;
}

const fz_error *fz_last_error(void)
{
    return &last;
}

const char *fz_status_name(fz_status status)
{
    switch (status) {
    case FZ_OK:
        return "ok";
    case FZ_ERR_ARG:
        return "argument";
    case FZ_ERR_USAGE:
        return "usage";
    case FZ_ERR_FORMAT:
        return "format";
    case FZ_ERR_IO:
        return "input/output";
    case FZ_ERR_MEMORY:
        return "memory";
    case FZ_ERR_DEVICE:
        return "device";
    case FZ_ERR_COMM:
        return "communication";
    }
    return "unknown";
}
